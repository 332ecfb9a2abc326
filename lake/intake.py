"""From journals to a batch: all journals, a part at a time; keeps what is not yet committed.

Everything here can be thrown away and built again from the journals and the tables' cursors; that
is what happens after any failure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.records import (
    Answered,
    Chunk,
    Closing,
    CorruptFrame,
    Event,
    Frame,
    Opening,
    Position,
    Redecided,
)
from lake.chains import Chains
from lake.cursors import NOTHING, START, Cursor, Cursors
from lake.exchange_rows import exchange_row
from lake.joining import OpenExchange, OpenExchanges
from lake.rows import Row, Texts, content_rows, event_row
from lake.sources import JournalReader

COMMIT_ORDER: Final = ("contents", "events", "exchanges", "proofs")
"""The last is committed with every batch: whatever its cursor is past, all tables have.

Another is left out of a batch without a row for it, and finds none there when that is read again.
"""
LAST_TABLE: Final = COMMIT_ORDER[-1]
ROW_BYTES: Final = 2048
"""What a row weighs beside its bodies, roughly."""


@dataclass(slots=True)
class Batch:
    """Rows that are ready to be committed."""

    rows: dict[str, list[Row]] = field(default_factory=lambda: {t: [] for t in COMMIT_ORDER})
    journals: set[str] = field(default_factory=set)
    """Every journal that a row, or a proof of one that is in already, was made from."""
    row_count: int = 0
    byte_count: int = 0

    def add(self, table: str, rows: list[Row], byte_count: int) -> None:
        """Add rows of a table."""
        self.rows[table] += rows
        self.row_count += len(rows)
        self.byte_count += byte_count + ROW_BYTES * len(rows)


class Read(NamedTuple):
    """How much one pass over the journals read."""

    records: int
    bytes: int


class Intake:
    """What was read and not yet committed, and how far."""

    def __init__(
        self,
        reader: JournalReader,
        texts: Texts,
        cursors: Mapping[str, Cursors],
        chains: Chains,
        event_retention_class: str,
    ) -> None:
        self._reader = reader
        self._texts = texts
        self._event_retention_class = event_retention_class
        self.chains = chains
        self._taken = dict(cursors)
        self._abandoned: set[tuple[str, Position]] = set()
        self.positions: dict[str, Position] = {}
        """Where to go on, by journal; kept when a journal is gone, since it may come back."""
        self.journals: tuple[str, ...] = ()
        self.open = OpenExchanges()
        self.batch = Batch()
        self.dead: set[str] = set()
        self.ended: set[str] = set()
        """Dead journals that were read to their end."""
        self.waiting: set[str] = set()
        """Journals that wait at a closing until that of its opening is read to the end."""
        self.stalled: dict[str, Position] = {}
        """Journals that wait at a closing whose opening was not read yet."""
        self.corrupt: dict[str, Position] = {}
        """Where reading stopped; the corrupt frame lies there or after."""

    def read(self, limit_bytes: int) -> Read:
        """Read a part of each journal, together about `limit_bytes`."""
        self.journals = tuple(self._reader.journals())
        self.dead = {journal for journal in self.journals if self._reader.is_dead(journal)}
        self.waiting, self.stalled = set(), {}
        share = max(1, limit_bytes // max(1, len(self.journals)))
        reads = [self._read_journal(journal, share) for journal in self.journals]
        return Read(sum(r.records for r in reads), sum(r.bytes for r in reads))

    def orphans(self) -> list[OpenExchange]:
        """Return exchanges whose writer died and whose closing is in no journal, or unreadable.

        None as long as a dead journal has more to read, since another recorder's may hold it.
        """
        if self.stalled or not self._is_all_read():
            return []
        return [exchange for journal in sorted(self.dead) for exchange in self.open.of(journal)]

    def abandon_stalled(self) -> dict[str, Position]:
        """Pass over closings whose opening is in no journal; returns where they are."""
        if not self._is_all_read():
            return {}
        self._abandoned.update(self.stalled.items())
        return self.stalled

    def cursors(self) -> Cursors:
        """Return how far the tables are once the batch is in them."""
        oldest = self.open.oldest()
        return {
            journal: Cursor(closed=position, open=min(position, oldest.get(journal, position)))
            for journal, position in self.positions.items()
        }

    @property
    def is_batch_empty(self) -> bool:
        """Whether nothing is to be committed: no row, and no proof of rows that are in already."""
        return not self.batch.row_count and not self.chains.unsealed

    def forget(self, journals: Iterable[str]) -> None:
        """Forget where journals that are gone were read to."""
        for journal in journals:
            self.positions.pop(journal, None)

    def take_batch(self) -> None:
        """Begin a new batch: this one is committed."""
        self.batch = Batch()

    def is_finished(self, journal: str) -> bool:
        """Return whether a dead journal has nothing left that is not committed."""
        return (
            journal in self.ended
            and journal not in self.batch.journals
            and not self.open.of(journal)
        )

    def _taken_by_all(self, journal: str) -> Cursor:
        return self._taken[LAST_TABLE].get(journal, NOTHING)

    def _is_all_read(self) -> bool:
        read = self.ended | self.stalled.keys() | self.corrupt.keys()
        return self.dead <= read and not self.waiting

    def _read_journal(self, journal: str, limit_bytes: int) -> Read:
        start = self.positions.setdefault(journal, self._taken_by_all(journal).open)
        try:
            frames, after = self._reader.read(journal, start, limit_bytes)
        except CorruptFrame:
            self.corrupt[journal] = start
            return Read(0, 0)
        self.corrupt.pop(journal, None)
        for number, (position, end, frame) in enumerate(frames):
            if not self._take(journal, position, end, frame):
                self.positions[journal] = position
                if journal not in self.waiting:
                    self.stalled[journal] = position
                return _measure(frames[:number])
            if self._is_new(LAST_TABLE, journal, position):
                self.chains.count(journal, frame.sequence)
        self.positions[journal] = after
        if not frames and journal in self.dead:
            self.ended.add(journal)
        return _measure(frames)

    def _take(self, journal: str, position: Position, after: Position, frame: Frame) -> bool:
        """Take in a frame; returns False for a closing that must wait for what it closes."""
        match frame.record:
            case Opening() as opening:
                self.open.open(opening, journal, position, after)
            case Redecided() | Answered() | Chunk() as record:
                self.open.add(record, position, after)
            case Closing() as closing:
                return self._close(journal, position, frame.sequence, closing)
            case Event() as event:
                self._add_event(journal, position, frame.sequence, event)
        return True

    def _close(self, journal: str, position: Position, sequence: int, closing: Closing) -> bool:
        journal_of_opening = self.open.journal_of(closing.exchange_id)
        if journal_of_opening not in {None, journal, *self.ended, *self.corrupt}:
            self.waiting.add(journal)  # a recorder's: what it closes may not be read whole yet
            return False
        opened = self.open.take(closing.exchange_id)
        if opened is None:
            is_committed = position < self._taken_by_all(journal).closed
            return is_committed or (journal, position) in self._abandoned
        if not self._is_new(LAST_TABLE, journal, position):
            return True
        opened.fetch(self._reader)
        exchange = opened.close(closing, journal, sequence)
        contents = content_rows(exchange)
        row = exchange_row(exchange, contents, self._texts)
        self.chains.add("exchanges", row)
        self.batch.journals.update((journal, opened.journal_id))
        if self._is_new("contents", journal, position):
            self.batch.add("contents", contents, opened.content_bytes)
        if self._is_new("exchanges", journal, position):
            self.batch.add("exchanges", [row], opened.content_bytes)
        return True

    def _add_event(self, journal: str, position: Position, sequence: int, event: Event) -> None:
        if not self._is_new(LAST_TABLE, journal, position):
            return
        row = event_row(event, journal, sequence, self._event_retention_class)
        self.chains.add("events", row)
        self.batch.journals.add(journal)
        if self._is_new("events", journal, position):
            self.batch.add("events", [row], len(event.detail_json))

    def _is_new(self, table: str, journal: str, position: Position) -> bool:
        cursor = self._taken[table].get(journal)
        return position >= (cursor.closed if cursor else START)


def _measure(frames: Sequence[tuple[Position, Position, Frame]]) -> Read:
    return Read(len(frames), sum(frame.end - frame.offset for _, _, frame in frames))
