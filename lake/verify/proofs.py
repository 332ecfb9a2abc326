"""Proofs: each signed by a trusted key, each journal's a chain without a gap.

Fills the table `sealed`: every row that there must be, with its digest.
"""

from collections.abc import Iterator
from typing import Final

from lake.chains import Link, read_links
from lake.digests import Digest, Stretch
from lake.signing import PublicKeys, is_signed
from lake.verify.report import Progress, Report
from lake.verify.since import cover
from lake.verify.tables import Tables

_COLUMNS: Final = (
    "journal_id, first_sequence, last_sequence, record_count, digests, root, previous_root, "
    "signature, key_id, epoch_us(sealed_at) AS sealed_at"
)
_BATCH: Final = 500


class Proofs:
    """Checks the table `proofs`."""

    def __init__(self, tables: Tables, keys: PublicKeys, report: Report, since: int) -> None:
        """Take proofs sealed at `since` or later: microseconds since the epoch; 0 for all."""
        self._tables = tables
        self._keys = keys
        self._report = report
        self._is_whole = since == 0
        self.since = since
        """Since when everything is covered; earlier than asked if the clock was set back."""
        self.ends: dict[str, Link] = {}
        """By journal: where its proofs end."""

    def check(self, progress: Progress) -> None:
        """Check all proofs, in the order of each journal's."""
        self.since = cover(self._tables, self.since)
        total = self._tables.count("SELECT count(*) FROM covered")
        for number, proof in enumerate(self._read(), start=1):
            self._check(*proof)
            progress("proofs", number, total)
        self._check_ends()
        for sql in (_SEALED, _SPANS):
            self._tables.run(sql)

    def _read(self) -> Iterator[tuple[Stretch, str, str, bytes]]:
        sql = (
            f"SELECT {_COLUMNS} FROM covered "  # noqa: S608 - our own names
            "ORDER BY journal_id, first_sequence, last_sequence"
        )
        for batch in self._tables.batches(sql, _BATCH):
            for row in batch.to_pylist():
                digests = (Digest(d["sequence"], d["table"], d["digest"]) for d in row["digests"])
                stretch = Stretch(
                    journal_id=row["journal_id"],
                    first_sequence=row["first_sequence"],
                    last_sequence=row["last_sequence"],
                    record_count=row["record_count"],
                    digests=tuple(digests),
                    previous_root=row["previous_root"] or "",
                    sealed_at=row["sealed_at"],
                )
                yield stretch, row["root"], row["key_id"], row["signature"]

    def _check(self, stretch: Stretch, root: str, key_id: str, signature: bytes) -> None:
        where = (
            f"proof of journal {stretch.journal_id}, records "
            f"{stretch.first_sequence}-{stretch.last_sequence}"
        )
        find, coverage = self._report.find, self._report.coverage
        if stretch.root != root:
            find("edited", where, "its root is not that of what it says")
        if not is_signed(self._keys, key_id, root, signature):
            find("forged", where, f"no trusted key {key_id} signed it")
        elif key_id not in coverage.keys:
            coverage.keys.append(key_id)
        self._check_place(stretch, where)
        held = stretch.last_sequence - stretch.first_sequence + 1
        if stretch.record_count != held:
            find("gap", where, f"{held - stretch.record_count} of its records were not there")
        coverage.proofs += 1
        coverage.records += stretch.record_count
        coverage.first_at = min(coverage.first_at or stretch.sealed_at, stretch.sealed_at)
        coverage.last_at = max(coverage.last_at or stretch.sealed_at, stretch.sealed_at)
        self.ends[stretch.journal_id] = Link(
            root=root,
            digest=stretch.digests[-1].digest if stretch.digests else "",
            next_sequence=stretch.last_sequence + 1,
        )

    def _check_place(self, stretch: Stretch, where: str) -> None:
        before = self.ends.get(stretch.journal_id)
        if before is None:
            if self._is_whole and (stretch.first_sequence, stretch.previous_root) != (0, ""):
                self._report.find("missing", where, "the proofs before it are not there")
        elif stretch.first_sequence < before.next_sequence:
            self._report.find("duplicate", where, "another proof covers the same records")
        elif (stretch.first_sequence, stretch.previous_root) != (before.next_sequence, before.root):
            self._report.find("missing", where, "a proof between it and the one before is missing")

    def _check_ends(self) -> None:
        """Check that proofs end where the table's own properties say."""
        self._report.coverage.journals = len(self.ends)
        for journal_id, link in read_links(self._tables.properties("proofs")).items():
            end = self.ends.get(journal_id)
            if end is None:
                if link.sealed_at >= self.since:
                    self._report.find(
                        "truncated",
                        f"journal {journal_id}",
                        f"none of its proofs up to record {link.next_sequence - 1} is there",
                    )
            elif end.root != link.root:
                self._report.find(
                    "truncated",
                    f"journal {journal_id}",
                    f"its proofs end at record {end.next_sequence - 1}, "
                    f"but were written up to {link.next_sequence - 1}",
                )


_SEALED: Final = """
CREATE TABLE sealed AS
SELECT journal_id, d.sequence AS sequence, d."table" AS "table", d.digest AS digest
FROM (SELECT journal_id, unnest(digests) AS d FROM covered)
"""
_SPANS: Final = """
CREATE TABLE spans AS
SELECT journal_id, min(first_sequence) AS first, max(last_sequence) AS last
FROM covered GROUP BY journal_id
"""
