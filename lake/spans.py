"""Where frames lie in the journals, so that content is read again instead of being held.

Pure but for the reader that it is given.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from gateway.records import Event, Frame, Position
from lake.sources import JournalReader

NEAR_BYTES: Final = 64 * 1024
"""Reading this much of others costs no more than a second read."""


class SpanGoneError(Exception):
    """Frames are no longer in the journal: whatever was there is in the tables."""


class Span(NamedTuple):
    """A stretch of one segment that begins and ends with a frame of one exchange.

    Frames of others may lie between.
    """

    journal: str
    segment: int
    begin: int
    end: int

    @property
    def start(self) -> Position:
        """Where it begins."""
        return Position(self.segment, self.begin)


def span_of(journal: str, position: Position, after: Position) -> Span:
    """Return the span of one frame."""
    return Span(journal, position.segment, position.offset, after.offset)


class Trail:
    """Where the frames of one exchange lie in its journal, in few bytes."""

    __slots__ = ("_numbers", "journal")

    def __init__(self, journal: str) -> None:
        self.journal = journal
        self._numbers = array("q")

    def add(self, position: Position, after: Position) -> None:
        """Add the next frame; one near the frame before lengthens that one's span."""
        numbers = self._numbers
        if (
            numbers
            and numbers[-3] == position.segment
            and position.offset - numbers[-1] <= NEAR_BYTES
        ):
            numbers[-1] = after.offset
        else:
            numbers.extend((position.segment, position.offset, after.offset))

    def spans(self) -> list[Span]:
        """Return the spans, in order."""
        numbers = iter(self._numbers)
        return [Span(self.journal, *each) for each in zip(numbers, numbers, numbers, strict=True)]


def read_spans(
    reader: JournalReader, spans: Iterable[Span], exchange_id: str
) -> Iterator[tuple[Span, Frame]]:
    """Yield the frames of one exchange that lie in the spans, in their order, with their places.

    Raises:
        SpanGoneError: a segment was discarded.
        CorruptFrame: a frame is not what was written.
    """
    for span in spans:
        position = span.start
        while position.offset < span.end:
            try:
                frames, position = reader.read(span.journal, position, span.end - position.offset)
            except FileNotFoundError as e:
                raise SpanGoneError(span.journal) from e
            if not frames or frames[0][0].segment != span.segment:
                raise SpanGoneError(span.journal)
            yield from _of(exchange_id, span, frames)
            if position.segment != span.segment:
                break


def _of(
    exchange_id: str, span: Span, frames: Iterable[tuple[Position, Position, Frame]]
) -> Iterator[tuple[Span, Frame]]:
    for position, after, frame in frames:
        if position >= Position(span.segment, span.end) or isinstance(frame.record, Event):
            continue
        if frame.record.exchange_id == exchange_id:
            yield span_of(span.journal, position, after), frame
