"""Frames of many journals joined into ended exchanges; in memory, rebuilt from the journals.

An exchange opens in its writer's journal. Its closing lies there too, or, when the writer died,
in the journal of a recorder.
"""

from dataclasses import dataclass, field

from gateway.domain import Ending
from gateway.records import Answered, Chunk, Closing, Opening, Position, Redecided
from lake.rows import Exchange


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
    held_bytes: int = 0

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

    def interrupted(self, at_ns: int) -> Closing:
        """Return the closing that its dead writer could not write.

        What was journaled counts as released: it was written just before.
        """
        return Closing(
            exchange_id=self.opening.exchange_id,
            at_ns=max(at_ns, self.opening.at_ns, *(chunk.at_ns for chunk in self.chunks[-1:])),
            ending=Ending.INTERRUPTED,
            status=self.answered.status if self.answered else 0,
            error_code="gateway.interrupted",
            error_message="The gateway stopped during the exchange.",
            first_byte_ns=self.chunks[0].at_ns if self.chunks else None,
            released_bytes=sum(chunk.size for chunk in self.chunks),
        )


class OpenExchanges:
    """The exchanges that are open, by exchange id, across journals."""

    def __init__(self) -> None:
        self._open: dict[str, OpenExchange] = {}
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, opening: Opening, journal_id: str, position: Position) -> None:
        """Begin an exchange; a second opening of the same id changes nothing."""
        if opening.exchange_id not in self._open:
            exchange = OpenExchange(journal_id=journal_id, position=position, opening=opening)
            self._open[opening.exchange_id] = exchange
            new = (part for part in opening.parts or () if isinstance(part, bytes))
            self._hold(exchange, sum(map(len, new)))

    def add(self, record: Redecided | Answered | Chunk) -> None:
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
                exchange.chunks.append(record)
                self._hold(exchange, len(record.data))

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
