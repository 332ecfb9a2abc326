"""What one step read of one exchange, and what left the index. Pure."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from gateway.records import Chunk, Frame
from lake.hot_rows import Pieces
from lake.spans import Span

MOST_REMOVED: Final = 20_000
"""Ids of removed exchanges that are kept for those who have their rows."""

News = list[tuple[Span, Frame]]
"""Frames of one exchange that one step read."""


def pieces_of(news: News) -> Pieces:
    """Return the records among them."""
    pieces = Pieces()
    for span, frame in news:
        pieces.add(span.journal, frame)
    return pieces


def merged_spans(news: News) -> list[tuple[Span, bool]]:
    """Return one span per run of chunks in a segment, one per other frame, which is a head."""
    merged: list[tuple[Span, bool]] = []
    for span, frame in news:
        is_head = not isinstance(frame.record, Chunk)
        if merged and not is_head and not merged[-1][1] and merged[-1][0].segment == span.segment:
            merged[-1] = (merged[-1][0]._replace(end=span.end), False)
        else:
            merged.append((span, is_head))
    return merged


class Removed:
    """What left the index lately, by the number of the change that it left with."""

    def __init__(self, changed: int) -> None:
        self._ids = deque[tuple[int, str]]()
        self.known_since = changed
        """Who has rows from before it may have some that left."""

    def add(self, changed: int, exchange_ids: Iterable[str]) -> None:
        """Note what left with a change."""
        self._ids.extend((changed, exchange_id) for exchange_id in exchange_ids)
        while len(self._ids) > MOST_REMOVED:
            self.known_since = self._ids.popleft()[0]

    def between(self, since: int, until: int) -> list[str]:
        """Return what left after one change, up to another."""
        return [exchange_id for number, exchange_id in self._ids if since < number <= until]
