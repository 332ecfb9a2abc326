"""What a worker remembers of conversations: which came before, and which pieces it had.

Digests only, no content; bounded, the least used goes first. What is forgotten costs storage: the
next turn is recorded whole. Digests are keyed by the process, so they say nothing outside it.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.domain import ExchangeId, Route
from gateway.messages.pieces import Pieces
from gateway.records import Kept, Part

MOST_PIECES: Final = 400_000
"""Remembered in all; about 150 bytes each."""
MOST_CONVERSATIONS: Final = 20_000
"""That can be recognised by what they began with."""

_DIGEST_BYTES: Final = 16

Digests = tuple[bytes, ...]


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


@dataclass(frozen=True, slots=True)
class _Base:
    exchange_id: ExchangeId
    places: dict[bytes, int]
    """Where each piece stands, by its digest."""


class Conversations:
    """The memory of one worker."""

    def __init__(self, key: bytes) -> None:
        """Begin without memory; `key` is random and known to nobody else."""
        self._key = key
        self._bases: OrderedDict[Kinship, _Base] = OrderedDict()
        self._pieces = 0
        self._known: OrderedDict[bytes, str] = OrderedDict()

    def digest(self, pieces: Sequence[bytes]) -> Digests:
        """Return by what pieces are told apart here."""
        return tuple(
            hashlib.blake2b(piece, digest_size=_DIGEST_BYTES, key=self._key).digest()
            for piece in pieces
        )

    # --- sessions -----------------------------------------------------------------------------

    def recognise(self, issuer: str, sub: str, turns: Digests) -> str:
        """Return the session that a conversation goes on with; empty when it begins here.

        It goes on when all turns of an earlier exchange of the same subject, and at least one
        more, are its own first turns. The longest such beginning counts.
        """
        beginnings = list(self._beginnings(issuer, sub, turns))
        return next((self._known[b] for b in reversed(beginnings[:-1]) if b in self._known), "")

    def _beginnings(self, issuer: str, sub: str, turns: Digests) -> Iterator[bytes]:
        """Yield one digest for each number of turns, from one on."""
        running = hashlib.blake2b(f"{issuer}\n{sub}".encode(), digest_size=_DIGEST_BYTES)
        for turn in turns:
            running.update(turn)
            yield running.digest()

    # --- pieces -------------------------------------------------------------------------------

    def relate(
        self, kinship: Kinship, pieces: Pieces, digests: Digests
    ) -> tuple[ExchangeId | None, tuple[Part, ...]]:
        """Return a body as what is new in it and runs of pieces of an earlier exchange."""
        base = self._bases.get(kinship)
        if base is None:
            return None, pieces.all
        parts = _parts(pieces.all, digests, base.places)
        return (base.exchange_id if any(isinstance(p, Kept) for p in parts) else None), parts

    def remember(
        self, kinship: Kinship, exchange_id: ExchangeId, digests: Digests, turns: Digests
    ) -> None:
        """Remember what an exchange holds, once that is in the journal."""
        if kinship.route == Route.MESSAGES:
            self._remember_turns(kinship, turns)
        self._forget(kinship)
        places = {digest: place for place, digest in enumerate(digests)}
        self._bases[kinship] = _Base(exchange_id, places)
        self._pieces += len(places)
        while self._pieces > MOST_PIECES and len(self._bases) > 1:
            self._forget(next(iter(self._bases)))

    def _remember_turns(self, kinship: Kinship, turns: Digests) -> None:
        for beginning in list(self._beginnings(kinship.issuer, kinship.sub, turns))[-1:]:
            self._known.pop(beginning, None)
            self._known[beginning] = kinship.session_id
            if len(self._known) > MOST_CONVERSATIONS:
                self._known.popitem(last=False)

    def _forget(self, kinship: Kinship) -> None:
        known = self._bases.pop(kinship, None)
        if known is not None:
            self._pieces -= len(known.places)


def _parts(pieces: Sequence[bytes], digests: Digests, places: dict[bytes, int]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for piece, digest in zip(pieces, digests, strict=True):
        place = places.get(digest)
        last = parts[-1] if parts else None
        if place is None:
            parts.append(piece)
        elif isinstance(last, Kept) and last.start + last.count == place:
            parts[-1] = Kept(start=last.start, count=last.count + 1)
        else:
            parts.append(Kept(start=place, count=1))
    return tuple(parts)
