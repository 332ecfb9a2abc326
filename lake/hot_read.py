"""What the recorders of all hosts have that the tables do not, as one Arrow table.

Safe to use from several threads. A recorder that does not answer is left out, and named.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, NamedTuple, Protocol

import msgspec
import pyarrow as pa

from lake.bodies import Composition
from lake.hot_answers import HotExchange, HotPage
from lake.hot_rows import UNLISTED
from lake.rows import Row

LET_ALONE_S: Final = 1.0
"""How long a recorder that did not answer is not asked again: each try costs its whole bound."""
MOST_ROWS: Final = 10_000
"""Rows kept of one recorder, the newest: as memory of a console."""


logger = logging.getLogger(__name__)


class UnreachableError(Exception):
    """A recorder did not answer in time, or not as it should."""


class HotWhole(NamedTuple):
    """An exchange that the tables do not have."""

    row: pa.Table
    composition: Composition
    pieces: dict[str, bytes]
    """What it brought of its bodies."""


class HotSource(Protocol):
    """One recorder."""

    name: str
    """As users know it."""

    def page(self, epoch: str, since: int) -> HotPage:
        """Return what changed; raises `UnreachableError`."""

    def exchange(self, exchange_id: str) -> HotExchange | None:
        """Return one exchange whole; raises `UnreachableError`."""


@dataclass(slots=True)
class _Known:
    """What is known of one recorder."""

    source: HotSource
    lock: Lock = field(default_factory=Lock)
    epoch: str = ""
    changed: int = 0
    is_whole: bool = True
    rows: dict[object, Row] = field(default_factory=dict)
    table: pa.Table | None = None
    failed_s: float | None = None

    def forget(self) -> None:
        """Begin anew with the next page."""
        self.epoch, self.changed, self.is_whole = "", 0, True
        self.rows, self.table = {}, None

    def take(self, page: HotPage) -> None:
        """Take in a page; one that begins anew replaces all."""
        if page.epoch != self.epoch or not page.is_whole:
            self.forget()
            self.is_whole = page.is_whole
        self.epoch, self.changed = page.epoch, page.changed
        for row in reversed(page.rows):  # the oldest first, so that the newest end up last
            self.rows.pop(row["exchange_id"], None)
            self.rows[row["exchange_id"]] = row
        for exchange_id in list(self.rows)[:-MOST_ROWS]:
            del self.rows[exchange_id]
            self.is_whole = False
        if page.rows:
            self.table = None


class HotReader:
    """The hot rows of all recorders."""

    def __init__(
        self, sources: Sequence[HotSource], exchanges: pa.Schema, now_s: Callable[[], float]
    ) -> None:
        """Begin with nothing known.

        Args:
            sources: The recorders.
            exchanges: Schema of the table `exchanges`.
            now_s: A clock that only goes forward.
        """
        self._known = [_Known(source) for source in sources]
        self._schema = pa.schema(
            [column.with_nullable(True) for column in exchanges if column.name not in UNLISTED]
        )
        self._whole_schema = exchanges
        self._now_s = now_s
        self._pool = ThreadPoolExecutor(max(1, len(sources)), "hot")

    def read(self) -> pa.Table:
        """Return all hot rows; what has left the recorders by then is in the tables."""
        tables = self._pool.map(self._refresh, self._known)
        return pa.concat_tables([self._schema.empty_table(), *filter(None, tables)])

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Recorders of which the newest read has not all: unreachable, or too much to hold."""
        return tuple(
            known.source.name
            for known in self._known
            if known.failed_s is not None or not known.is_whole
        )

    def exchange(self, exchange_id: str) -> HotWhole | None:
        """Return one exchange whole; None where no recorder has it."""
        for known in self._known:
            found = self._ask(known, exchange_id)
            if found is not None:
                composition = msgspec.convert(found.row, Composition)
                return HotWhole(_table([found.row], self._whole_schema), composition, found.pieces)
        return None

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _refresh(self, known: _Known) -> pa.Table | None:
        with known.lock:
            if self._is_let_alone(known):
                return None
            try:
                known.take(known.source.page(known.epoch, known.changed))
                if known.table is None:
                    known.table = _table(known.rows.values(), self._schema)
            except (UnreachableError, pa.ArrowException) as e:
                logger.warning(
                    "recorder_unreachable name=%s error=%s", known.source.name, type(e).__name__
                )
                known.forget()
                known.failed_s = self._now_s()
                return None
            known.failed_s = None
            return known.table

    def _ask(self, known: _Known, exchange_id: str) -> HotExchange | None:
        if self._is_let_alone(known):
            return None
        try:
            return known.source.exchange(exchange_id)
        except UnreachableError:
            known.failed_s = self._now_s()
            return None

    def _is_let_alone(self, known: _Known) -> bool:
        return known.failed_s is not None and self._now_s() - known.failed_s < LET_ALONE_S


def _table(rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    """Return rows as a table; JSON has lists where Arrow takes the pairs of a map as tuples."""
    maps = [column.name for column in schema if pa.types.is_map(column.type)]
    return pa.Table.from_pylist([row | _pairs(row, maps) for row in rows], schema=schema)


def _pairs(row: Row, maps: Sequence[str]) -> Row:
    pairs: Row = {}
    for name in maps:
        found = row.get(name)
        pairs[name] = [tuple(pair) for pair in found] if isinstance(found, list) else None
    return pairs
