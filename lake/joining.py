"""Frames of many journals joined into ended exchanges; in memory, rebuilt from the journals.

An exchange opens in its writer's journal. Its closing lies there too, or, when the writer died,
in the journal of a recorder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.domain import Ending
from gateway.records import Answered, Chunk, Closing, Opening, Position, Redecided
from lake.rows import Exchange
from lake.sources import JournalReader
from lake.spans import Trail, read_spans

MOST_HELD_BYTES: Final = 64 * 1024 * 1024
"""Content of open exchanges in memory; what is beyond is read again at its closing."""
CHUNK_BYTES: Final = 256
"""What a chunk weighs beside its data, roughly."""

_STOPPED: Final = ("gateway.interrupted", "The gateway stopped during the exchange.")
_DAMAGED: Final = (
    "gateway.journal_damaged",
    "The journal of the exchange is damaged: what followed can't be read.",
)


@dataclass(slots=True, kw_only=True)
class OpenExchange:
    """An exchange whose closing has not been read."""

    journal_id: str
    position: Position
    """Of its opening."""
    opening: Opening
    redecided: list[Redecided] = field(default_factory=list)
    answered: Answered | None = None
    chunks: list[Chunk] = field(default_factory=list)
    trail: Trail
    content_bytes: int = 0
    """Of its bodies, held or not."""
    held_bytes: int = 0
    first_byte_ns: int | None = None
    released_bytes: int = 0
    is_held: bool = True
    """Whether its bodies are in memory."""

    def add_chunk(self, chunk: Chunk) -> int:
        """Add a chunk; returns what it weighs."""
        if self.first_byte_ns is None:
            self.first_byte_ns = chunk.at_ns
        self.released_bytes += chunk.size
        self.content_bytes += len(chunk.data)
        if not self.is_held:
            return 0
        self.chunks.append(chunk)
        return len(chunk.data) + CHUNK_BYTES

    def let_go(self) -> int:
        """Forget the bodies, whose places stay known; returns what they weighed."""
        weight, self.held_bytes, self.is_held = self.held_bytes, 0, False
        self.chunks.clear()
        self.opening = msgspec.structs.replace(self.opening, parts=None)
        return weight

    def fetch(self, reader: JournalReader) -> None:
        """Read the bodies again that were let go."""
        if self.is_held:
            return
        self.is_held = True
        for _, frame in read_spans(reader, self.trail.spans(), self.opening.exchange_id):
            match frame.record:
                case Opening() as opening:
                    self.opening = opening
                case Chunk() as chunk:
                    self.chunks.append(chunk)
                case _:
                    pass

    def close(self, closing: Closing, journal_id: str, sequence: int) -> Exchange:
        """Return the whole exchange, ended by a closing found at that place."""
        return Exchange(
            opening=self.opening,
            redecided=tuple(self.redecided),
            answered=self.answered,
            chunks=tuple(self.chunks),
            closing=closing,
            journal_id=journal_id,
            sequence=sequence,
        )

    def interrupted(self, at_ns: int, *, is_damaged: bool = False) -> Closing:
        """Return the closing that its dead writer could not write, or that can't be read.

        What was journaled counts as released: it was written just before.
        """
        code, message = _DAMAGED if is_damaged else _STOPPED
        return Closing(
            exchange_id=self.opening.exchange_id,
            at_ns=max(at_ns, self.opening.at_ns, *(chunk.at_ns for chunk in self.chunks[-1:])),
            ending=Ending.INTERRUPTED,
            status=self.answered.status if self.answered else 0,
            error_code=code,
            error_message=message,
            first_byte_ns=self.first_byte_ns,
            released_bytes=self.released_bytes,
        )


class OpenExchanges:
    """The exchanges that are open, by exchange id, across journals."""

    def __init__(self, most_held_bytes: int = MOST_HELD_BYTES) -> None:
        self._open: dict[str, OpenExchange] = {}
        self._most_held_bytes = most_held_bytes
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, opening: Opening, journal_id: str, position: Position, after: Position) -> None:
        """Begin an exchange; a second opening of the same id changes nothing."""
        if opening.exchange_id not in self._open:
            trail = Trail(journal_id)
            trail.add(position, after)
            exchange = OpenExchange(
                journal_id=journal_id, position=position, opening=opening, trail=trail
            )
            self._open[opening.exchange_id] = exchange
            new = (part for part in opening.parts or () if isinstance(part, bytes))
            exchange.content_bytes = sum(map(len, new))
            self._hold(exchange, exchange.content_bytes)

    def add(
        self, record: Redecided | Answered | Chunk, position: Position, after: Position
    ) -> None:
        """Add a middle record; one of an exchange that is not open has its row already."""
        exchange = self._open.get(record.exchange_id)
        if exchange is None:
            return
        match record:
            case Redecided():
                exchange.redecided.append(record)
            case Answered():
                exchange.answered = record
            case Chunk():
                exchange.trail.add(position, after)
                self._hold(exchange, exchange.add_chunk(record))

    def journal_of(self, exchange_id: str) -> str | None:
        """Return the journal of an open exchange's opening."""
        exchange = self._open.get(exchange_id)
        return exchange.journal_id if exchange else None

    def take(self, exchange_id: str) -> OpenExchange | None:
        """Remove and return an open exchange."""
        exchange = self._open.pop(exchange_id, None)
        if exchange is not None:
            self.held_bytes -= exchange.held_bytes
        return exchange

    def of(self, journal_id: str) -> list[OpenExchange]:
        """Return those that opened in a journal, oldest first."""
        return [each for each in self._open.values() if each.journal_id == journal_id]

    def oldest(self) -> dict[str, Position]:
        """Return, per journal, the position of its oldest open opening."""
        positions: dict[str, Position] = {}
        for each in self._open.values():
            known = positions.get(each.journal_id, each.position)
            positions[each.journal_id] = min(known, each.position)
        return positions

    def _hold(self, exchange: OpenExchange, size: int) -> None:
        exchange.held_bytes += size
        self.held_bytes += size
        if self.held_bytes > self._most_held_bytes:
            for each in self._largest():
                self.held_bytes -= each.let_go()
                if self.held_bytes <= self._most_held_bytes // 2:
                    break

    def _largest(self) -> Iterator[OpenExchange]:
        held = (each for each in self._open.values() if each.held_bytes)
        return iter(sorted(held, key=lambda each: each.held_bytes, reverse=True))
