"""The hot index: what the tables do not have yet, found within a second of its frame.

Follows all journals on positions of its own, so that it stays fresh while the catalog is away. It
holds no content but the beginnings of two texts: bodies are read from the journals for who asks.
It may be deleted at any time and is rebuilt from the journals. Not safe for several threads.
"""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec

from gateway.records import CorruptFrame, Event, Frame, Position
from lake.cursors import NOTHING, Cursors
from lake.hot_answers import HotExchange, HotPage, HotState
from lake.hot_news import News, Removed, merged_spans, pieces_of
from lake.hot_rows import (
    TEXT_CHARS,
    PartTexts,
    Pieces,
    Progress,
    exchange_so_far,
    listed,
    progress_of,
    progressed,
    row_at,
    row_so_far,
)
from lake.hot_store import HotStore
from lake.rows import Exchange, Row, content_rows
from lake.sources import JournalReader
from lake.spans import Span, SpanGoneError, read_spans, span_of

READ_BYTES: Final = 1024 * 1024
"""What one step reads of all journals together: who asks waits for no more than a step."""
PAGE_BYTES: Final = 2 * 1024 * 1024
"""What one answer holds, which takes no longer than a step."""
MOST_CHANGES: Final = 10_000
"""Who begins anew is given no more than the newest changes, and told so."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, object]).decode
logger = logging.getLogger(__name__)


class HotIndex:
    """Places and rows of exchanges that are running or not committed."""

    def __init__(
        self,
        file: Path,
        reader: JournalReader,
        texts: PartTexts,
        committed: Callable[[], Cursors],
    ) -> None:
        """Open the index.

        Args:
            file: Of the database.
            reader: All journals of the host.
            texts: Finds the text in bodies.
            committed: Returns how far the tables are, as the recorder knows it.
        """
        self._reader = reader
        self._texts = texts
        self._committed = committed
        self._store = HotStore(file)
        self._begin()

    def _begin(self) -> None:
        self._cursors: Cursors = {}
        self._positions = self._store.positions()
        self._changed = self._store.last_change()
        self._epoch = uuid4().hex
        self._removed = Removed(self._changed)
        self._corrupt: set[str] = set()

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def step(self) -> int:
        """Read a part of each journal; returns how many frames that were."""
        try:
            with self._store.transaction():
                positions, count = self._follow()
        except sqlite3.DatabaseError as e:
            logger.warning("hot_index_rebuilt error=%r", e)
            self._store.rebuild()
            self._begin()
            return 0
        self._positions |= positions
        return count

    def page(self, epoch: str, since: int, removed_since: int = 0) -> HotPage:
        """Return rows that changed after `since`, and what left after `removed_since`.

        The newest rows if the epoch is another, or if it is not known any more what left.
        """
        is_known = epoch == self._epoch and removed_since >= self._removed.known_since
        is_first, is_whole = not is_known, True
        if is_first:
            since, removed_since = max(0, self._changed - MOST_CHANGES), self._changed
            is_whole = not self._store.has_older(since)
        rows: list[Row] = []
        size = 0
        for stored in self._store.changes(since):
            size += len(stored.row) + len(stored.text)
            if rows and size > PAGE_BYTES:
                break
            rows.append(row_at(_decode(stored.row), stored.progress, stored.text))
            since = stored.changed
        else:
            since = self._changed
        return HotPage(
            epoch=self._epoch,
            is_first=is_first,
            changed=since,
            has_more=since < self._changed,
            is_whole=is_whole,
            rows=rows,
            removed=self._removed.between(removed_since, self._changed),
            removed_until=self._changed,
        )

    def exchange(self, exchange_id: str) -> HotExchange | None:
        """Return one exchange; None if it is not here: unknown, or in the tables by now."""
        try:
            pieces = self._read(exchange_id, self._store.spans(exchange_id))
        except (CorruptFrame, SpanGoneError):
            return None
        exchange = exchange_so_far(pieces)
        if exchange is None:
            return None
        contents = content_rows(exchange)
        row = row_so_far(exchange, contents, self._texts, is_running=pieces.closing is None)
        pieces_by_id = {each["piece_id"]: each["data"] for each in contents}
        return HotExchange(row=row, pieces=msgspec.convert(pieces_by_id, dict[str, bytes]))

    def state(self) -> HotState:
        """Return what the index holds."""
        exchanges, running = self._store.counts()
        return HotState(
            exchanges=exchanges, running=running, corrupt_journals=tuple(sorted(self._corrupt))
        )

    # --- following ------------------------------------------------------------------------------

    def _follow(self) -> tuple[dict[str, Position], int]:
        cursors = self._committed()
        moved = {j: c for j, c in cursors.items() if c != self._cursors.get(j)}
        if moved:
            self._note_removed(self._store.remove_committed(moved))
            self._cursors = dict(cursors)
        journals = self._reader.journals()
        share = max(1, READ_BYTES // max(1, len(journals)))
        positions, count = dict[str, Position](), 0
        for journal in journals:
            frames, after = self._read_journal(journal, share)
            if frames:
                self._take_all(journal, frames)
                self._store.set_position(journal, after)
                positions[journal] = after
                count += len(frames)
        return positions, count

    def _read_journal(
        self, journal: str, limit: int
    ) -> tuple[Sequence[tuple[Position, Position, Frame]], Position]:
        committed = self._cursors.get(journal, NOTHING).open  # all before it is in the tables
        start = max(self._positions.get(journal, committed), committed)
        try:
            return self._reader.read(journal, start, limit)
        except CorruptFrame:
            self._corrupt.add(journal)  # said by the recorder
            return (), start
        except FileNotFoundError:  # committed, and discarded just now
            return (), start

    def _take_all(self, journal: str, frames: Sequence[tuple[Position, Position, Frame]]) -> None:
        news: dict[str, News] = {}
        for position, after, frame in frames:
            if not isinstance(frame.record, Event):
                span = span_of(journal, position, after)
                news.setdefault(frame.record.exchange_id, []).append((span, frame))
        for exchange_id, its in news.items():
            try:
                self._take(exchange_id, its)
            except (CorruptFrame, SpanGoneError) as e:  # what it has of it stays as it is
                logger.warning("hot_exchange_unreadable exchange=%s error=%r", exchange_id, e)

    def _take(self, exchange_id: str, news: News) -> None:
        pieces = pieces_of(news)
        if pieces.closing is not None and self._is_committed(news[-1][0]):
            if self._store.remove(exchange_id):
                self._note_removed([exchange_id])
            return
        progress = self._store.progress(exchange_id)
        if pieces.opening is not None and progress is None:
            if news[0][0].start >= self._cursors.get(news[0][0].journal, NOTHING).open:
                self._open(exchange_id, news)
        elif progress is not None and not progress.is_closed:
            self._go_on(exchange_id, news, progress)
        elif progress is None and pieces.closing is not None:
            self._store.wait(exchange_id, news[-1][0])

    def _open(self, exchange_id: str, news: News) -> None:
        """Begin an exchange with all that is there of it."""
        waiting = self._store.take_waiting(exchange_id)
        if waiting is not None:
            news = [*news, *read_spans(self._reader, [waiting], exchange_id)]
        pieces = pieces_of(news)
        exchange = exchange_so_far(pieces)
        if exchange is None:
            return
        is_running = pieces.closing is None
        row = row_so_far(exchange, (), self._texts, is_running=is_running)
        text = self._text_of(exchange) if is_running else ""
        self._changed += 1
        shown = row | {"response_text": None} if is_running else row
        progress = progress_of(exchange, text)
        self._store.add(exchange_id, self._changed, news[0][0], _encode(listed(shown)), progress)
        self._store.add_spans(exchange_id, merged_spans(news))
        if text:
            self._store.add_text(exchange_id, self._changed, text[:TEXT_CHARS])
        if not is_running:
            self._store.end(exchange_id, news[-1][0])

    def _go_on(self, exchange_id: str, news: News, progress: Progress) -> None:
        """Add further frames to an exchange."""
        pieces = pieces_of(news)
        self._changed += 1
        progress = progressed(progress, pieces)
        if progress.text_kind == "parts":
            progress = self._gather(exchange_id, pieces, progress)
        self._store.go_on(exchange_id, self._changed, progress)
        is_closed = pieces.closing is not None
        if is_closed or pieces.redecided:
            self._remake(exchange_id, news, progress, is_running=not is_closed)
        self._store.add_spans(exchange_id, merged_spans(news))
        if is_closed:
            self._store.end(exchange_id, news[-1][0])

    def _gather(self, exchange_id: str, pieces: Pieces, progress: Progress) -> Progress:
        """Add to the text what these chunks add, as far as there is room for it."""
        room = TEXT_CHARS - progress.text_chars
        data = b"".join(chunk.data for chunk in pieces.chunks) if room > 0 else b""
        if not data:
            return progress
        is_first = progress.text_chars == 0
        part = self._texts.text_part(progress.response_type, data, is_first=is_first)
        if part is None:
            return progress._replace(text_kind="whole")
        if part:
            self._store.add_text(exchange_id, self._changed, part[:room])
        return progress._replace(text_chars=progress.text_chars + len(part[:room]))

    def _remake(
        self, exchange_id: str, news: News, progress: Progress, *, is_running: bool
    ) -> None:
        """Make the row again, without the chunks where the text was gathered."""
        is_gathered = is_running or progress.text_kind != "whole"
        spans = self._store.spans(exchange_id, heads_only=is_gathered)
        try:
            earlier = read_spans(self._reader, spans, exchange_id)
            pieces = pieces_of([*dict(earlier).items(), *news])
        except SpanGoneError:  # the tables have it, which a next step learns
            return
        if is_gathered:
            pieces.chunks.clear()
        exchange = exchange_so_far(pieces)
        if exchange is None:
            return
        row = row_so_far(exchange, (), self._texts, is_running=is_running)
        if is_gathered:
            text = "" if is_running else self._store.text(exchange_id)
            row["response_text"] = row_at(row, progress, text)["response_text"]
        self._store.set_row(exchange_id, _encode(listed(row)))

    def _text_of(self, exchange: Exchange) -> str | None:
        """Return the text of an answer so far; None if it can't be read in parts."""
        kind, body = exchange.response_type, exchange.response_body
        return self._texts.text_part(kind, body, is_first=True) if body else ""

    def _read(self, exchange_id: str, spans: Sequence[Span]) -> Pieces:
        """Read the frames of an exchange again; spans of chunks may hold others of it too."""
        found = dict(read_spans(self._reader, spans, exchange_id))
        return pieces_of(list(found.items()))

    def _is_committed(self, closed: Span) -> bool:
        return closed.start < self._cursors.get(closed.journal, NOTHING).closed

    def _note_removed(self, exchange_ids: Sequence[str]) -> None:
        if exchange_ids:
            self._changed += 1
            self._removed.add(self._changed, exchange_ids)
