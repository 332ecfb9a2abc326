"""The chain of each journal while it is recorded, and what of it is sealed with a commit.

Where a chain stands travels as a property of the table `proofs`, in the transaction of its rows.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from gateway.records import SCHEMA_VERSION
from lake.digests import Digest, Stretch, record_digest
from lake.properties import PerJournal
from lake.rows import Row
from lake.witness import Testimony

RETENTION_CLASS: Final = "proofs"
"""Of every proof: kept at least as long as any row."""


class Signer(Protocol):
    """Signs roots."""

    def sign(self, root: str) -> tuple[str, bytes]:
        """Return the id of the key and its signature."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chain stands."""

    root: str = ""
    """Of the last stretch."""
    digest: str = ""
    """Of the last row."""
    next_sequence: int = 0
    """Of the first record that is not sealed."""
    key_id: str = ""
    signature: str = ""
    sealed_at: int = 0


Links = dict[str, Link]
"""By journal id."""

_properties = PerJournal("countersign.chain.", Link)
read_links, write_links = _properties.read, _properties.write
property_of = _properties.name


def testimonies(links: Mapping[str, Link]) -> list[Testimony]:
    """Return what witnesses are told of these chains."""
    return [
        Testimony(
            journal_id=journal_id,
            last_sequence=link.next_sequence - 1,
            root=link.root,
            key_id=link.key_id,
            signature=link.signature,
            sealed_at=link.sealed_at,
        )
        for journal_id, link in links.items()
    ]


@dataclass(slots=True)
class _Chain:
    """What is not yet sealed of one journal."""

    link: Link
    digest: str
    last_sequence: int
    record_count: int = 0
    digests: list[Digest] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Seal:
    """Proofs to be committed, and where the chains stand once they are."""

    rows: list[Row]
    links: Links


class Chains:
    """The chains of all journals."""

    def __init__(self, links: Mapping[str, Link], own: Set[str]) -> None:
        """Go on from where chains stand, those of our `own` journals and of other hosts'."""
        self._links = dict(links)
        self._open: dict[str, _Chain] = {}
        self.sealed_at = max((links[each].sealed_at for each in own & links.keys()), default=0)
        """When we sealed last, by the clock then: microseconds since the epoch."""

    def count(self, journal_id: str, sequence: int) -> None:
        """Count a record that is new, in order."""
        chain = self._chain(journal_id)
        chain.record_count += 1
        chain.last_sequence = sequence

    def add(self, table: str, row: Row) -> None:
        """Chain a row to the one before it in its journal: sets its two digests."""
        journal_id, sequence = str(row["journal_id"]), row["sequence"]
        chain = self._chain(journal_id)
        row["previous_digest"] = chain.digest or None
        row["record_digest"] = chain.digest = record_digest(table, row)
        chain.digests.append(Digest(sequence, table, chain.digest))  # type: ignore[arg-type]  # rows hold objects

    def next_sequence(self, journal_id: str) -> int:
        """Return the number of a journal's first record that was not counted."""
        chain = self._open.get(journal_id)
        return chain.last_sequence + 1 if chain else self.link(journal_id).next_sequence

    def link(self, journal_id: str) -> Link:
        """Return where a journal's chain stands, as sealed."""
        return self._links.get(journal_id, Link())

    @property
    def unsealed(self) -> set[str]:
        """The journals with rows that no proof covers yet."""
        return {journal for journal, chain in self._open.items() if chain.digests}

    def seal(self, now_ns: int, signer: Signer) -> Seal:
        """Return proofs of all that is chained and not yet sealed."""
        seal = Seal([], {})
        for journal_id, chain in self._open.items():
            if chain.record_count:
                stretch = Stretch(
                    journal_id=journal_id,
                    first_sequence=chain.link.next_sequence,
                    last_sequence=chain.last_sequence,
                    record_count=chain.record_count,
                    digests=tuple(chain.digests),
                    previous_root=chain.link.root,
                    sealed_at=now_ns // 1000,
                )
                key_id, signature = signer.sign(stretch.root)
                seal.rows.append(_proof_row(stretch, key_id, signature))
                seal.links[journal_id] = Link(
                    root=stretch.root,
                    digest=chain.digest,
                    next_sequence=chain.last_sequence + 1,
                    key_id=key_id,
                    signature=signature.hex(),
                    sealed_at=stretch.sealed_at,
                )
        self.sealed_at = now_ns // 1000
        return seal

    def advance(self, links: Links) -> None:
        """Go on from what is now sealed."""
        self._links |= links
        for journal_id in links:
            del self._open[journal_id]

    def _chain(self, journal_id: str) -> _Chain:
        chain = self._open.get(journal_id)
        if chain is None:
            link = self.link(journal_id)
            chain = _Chain(link, link.digest, link.next_sequence - 1)
            self._open[journal_id] = chain
        return chain


def _proof_row(stretch: Stretch, key_id: str, signature: bytes) -> Row:
    return {
        "journal_id": stretch.journal_id,
        "first_sequence": stretch.first_sequence,
        "last_sequence": stretch.last_sequence,
        "record_count": stretch.record_count,
        "digests": [
            {"sequence": d.sequence, "table": d.table, "digest": d.digest} for d in stretch.digests
        ],
        "root": stretch.root,
        "previous_root": stretch.previous_root or None,
        "signature": signature,
        "key_id": key_id,
        "sealed_at": stretch.sealed_at,
        "retention_class": RETENTION_CLASS,
        "schema_version": SCHEMA_VERSION,
    }
