"""What a worker remembers of conversations: which came before, and which pieces it had.

Digests only, no content; bounded, the least used goes first. What is forgotten costs storage: the
next turn is recorded whole. Digests are keyed by the process, so they say nothing outside it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.domain import ExchangeId, Route
from gateway.messages.pieces import Pieces
from gateway.records import Kept, Part

MOST_PIECES: Final = 400_000
"""Remembered in all; about 150 bytes each."""
MOST_CONVERSATIONS: Final = 20_000
"""That can be recognised by what they began with."""

LOOK_BACK: Final = 16
"""How many turns a conversation may have grown by since it was last seen."""

_DIGEST_BYTES: Final = 16
_FEW: Final = 8

Digests = tuple[bytes, ...]


class Beginning(NamedTuple):
    """The first turns of a conversation."""

    turns: int
    """How many."""
    digest: bytes


Beginnings = tuple[Beginning, ...]
"""Those of a conversation that an earlier exchange may have had; the last is the whole."""


class Kinship(NamedTuple):
    """Exchanges that differ in any of these never share a piece."""

    issuer: str
    sub: str
    session_id: str
    agent_id: str
    route: str
    model: str
    day: int
    """Days since the epoch, UTC."""
    retention_class: str
    protection: str
    content: str
    revision: str
    """Of the policy bundle, whose masks made the pieces what they are."""
    masks: tuple[str, ...]
    """The names of those."""


def find_beginnings(turns: Digests) -> Beginnings:
    """Return the beginnings of a conversation whose turns have these digests, the longest last."""
    first = max(0, len(turns) - LOOK_BACK)
    running = hashlib.blake2b(b"".join(turns[:first]), digest_size=_DIGEST_BYTES)
    beginnings = []
    for number, turn in enumerate(turns[first:], start=first + 1):
        running.update(turn)
        beginnings.append(Beginning(number, running.digest()))
    return tuple(beginnings)


@dataclass(frozen=True, slots=True)
class _Base:
    exchange_id: ExchangeId
    digests: Digests
    """Of its pieces, in order."""


class Conversations:
    """The memory of one worker."""

    def __init__(self, key: bytes) -> None:
        """Begin without memory; `key` is random and known to nobody else."""
        self._key = key
        self._bases: OrderedDict[Kinship, _Base] = OrderedDict()
        self._pieces = 0
        self._known: OrderedDict[tuple[str, str, bytes], str] = OrderedDict()

    def digest(self, pieces: Sequence[bytes]) -> Digests:
        """Return by what pieces are told apart here."""
        return tuple(
            hashlib.blake2b(piece, digest_size=_DIGEST_BYTES, key=self._key).digest()
            for piece in pieces
        )

    # --- sessions -----------------------------------------------------------------------------

    def recognise(self, issuer: str, sub: str, beginnings: Beginnings) -> str:
        """Return the session that a conversation goes on with; empty when it begins here.

        It goes on when all turns of an earlier exchange of the same subject, and at least one
        more, are its own first turns. The longest such beginning counts.
        """
        for beginning in reversed(beginnings[:-1]):
            known = self._known.get((issuer, sub, beginning.digest))
            if known is not None:
                return known
        return ""

    # --- pieces -------------------------------------------------------------------------------

    def relate(
        self, kinship: Kinship, pieces: Pieces, digests: Digests
    ) -> tuple[ExchangeId | None, tuple[Part, ...]]:
        """Return a body as what is new in it and runs of pieces of an earlier exchange."""
        base = self._bases.get(kinship)
        if base is None:
            return None, pieces.all
        parts = _parts(pieces.all, digests, base.digests)
        return (base.exchange_id if any(isinstance(p, Kept) for p in parts) else None), parts

    def remember(
        self, kinship: Kinship, exchange_id: ExchangeId, digests: Digests, beginnings: Beginnings
    ) -> None:
        """Remember what an exchange holds, once that is in the journal."""
        if kinship.route == Route.MESSAGES:
            self._remember_session(kinship, beginnings)
        self._forget(kinship)
        self._bases[kinship] = _Base(exchange_id, digests)
        self._pieces += len(digests)
        while self._pieces > MOST_PIECES and len(self._bases) > 1:
            self._forget(next(iter(self._bases)))

    def _remember_session(self, kinship: Kinship, beginnings: Beginnings) -> None:
        for beginning in beginnings[-1:]:
            key = (kinship.issuer, kinship.sub, beginning.digest)
            self._known.pop(key, None)
            self._known[key] = kinship.session_id
            if len(self._known) > MOST_CONVERSATIONS:
                self._known.popitem(last=False)

    def _forget(self, kinship: Kinship) -> None:
        known = self._bases.pop(kinship, None)
        if known is not None:
            self._pieces -= len(known.digests)


def _parts(pieces: Sequence[bytes], digests: Digests, base: Digests) -> tuple[Part, ...]:
    """Return what is kept at both ends as a run each, and what is between piece by piece.

    The runs are found by comparing slices: a long conversation must not cost a loop over it.
    """
    head = _common(digests, base)
    tail = _common(digests[head:][::-1], base[head:][::-1])
    end = len(digests) - tail
    parts: list[Part] = [Kept(start=0, count=head)] if head else []
    new = digests[head:end]
    if len(new) > _FEW:
        places = dict(zip(base, range(len(base)), strict=True))
    else:  # searching for some costs less than listing all
        places = {digest: base.index(digest) for digest in new if digest in base}
    for piece, digest in zip(pieces[head:end], new, strict=True):
        place = places.get(digest)
        last = parts[-1] if parts else None
        if place is None:
            parts.append(piece)
        elif isinstance(last, Kept) and last.start + last.count == place:
            parts[-1] = Kept(start=last.start, count=last.count + 1)
        else:
            parts.append(Kept(start=place, count=1))
    return (*parts, Kept(start=len(base) - tail, count=tail)) if tail else tuple(parts)


def _common(one: Digests, other: Digests) -> int:
    """Return how many digests two sequences have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
