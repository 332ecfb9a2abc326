"""What the recorders of all hosts have that the tables do not, as one Arrow table.

Safe to use from several threads. A recorder that does not answer is left out, and named.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, NamedTuple, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake.bodies import Composition
from lake.hot_answers import HotExchange, HotPage
from lake.hot_rows import RUNNING, UNLISTED
from lake.rows import Row

LET_ALONE_S: Final = 1.0
"""How long a recorder that did not answer is not asked again: each try costs its whole bound."""
KEPT_S: Final = 30.0
"""How long what it said last is shown of a recorder that does not answer, which is named."""
MOST_ROWS: Final = 10_000
"""Running and closed rows kept of one recorder, the newest: the memory of a console is bounded."""
MOST_PAGES: Final = 100
"""Asked for at one time; what is left comes with the next read."""


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

    def page(self, epoch: str, since: int, removed_since: int) -> HotPage:
        """Return what changed; raises `UnreachableError`."""

    def exchange(self, exchange_id: str) -> HotExchange | None:
        """Return one exchange whole; raises `UnreachableError`."""


@dataclass(slots=True)
class _Known:
    """What is known of one recorder."""

    source: HotSource
    schema: pa.Schema
    lock: Lock = field(default_factory=Lock)
    epoch: str = ""
    changed: int = 0
    removed_until: int = 0
    is_whole: bool = True
    running: dict[object, Row] = field(default_factory=dict)
    """Those that change with each chunk."""
    closed: deque[pa.Table] = field(default_factory=deque)
    """Those that never change again, by the page that brought them."""
    closed_count: int = 0
    failed_s: float | None = None
    """When it last failed to answer; None if it answered since."""
    asked_s: float = 0.0
    """When it last answered."""

    def forget(self) -> None:
        """Begin anew with the next page."""
        self.epoch, self.changed, self.removed_until, self.is_whole = "", 0, 0, True
        self.running, self.closed, self.closed_count = {}, deque(), 0

    def take(self, page: HotPage) -> None:
        """Take in a page."""
        if page.is_first:
            self.forget()
            self.is_whole = page.is_whole
        self.epoch, self.changed = page.epoch, page.changed
        self.removed_until = page.removed_until
        self._remove(page.removed)
        ended: list[Row] = []
        for row in page.rows:
            exchange_id = row["exchange_id"]
            self.running.pop(exchange_id, None)
            if row["ending"] == RUNNING:
                self.running[exchange_id] = row
            else:
                ended.append(row)
        if ended:
            self.closed.append(_table(ended, self.schema))
            self.closed_count += len(ended)
        self._bound()

    def table(self) -> pa.Table:
        """Return all rows."""
        return pa.concat_tables([*self.closed, _table(self.running.values(), self.schema)])

    def _remove(self, exchange_ids: Sequence[str]) -> None:
        if not exchange_ids:
            return
        for exchange_id in exchange_ids:
            self.running.pop(exchange_id, None)
        gone = pa.array(exchange_ids, pa.string())
        kept = (
            table.filter(pc.invert(pc.is_in(table["exchange_id"], value_set=gone)))
            for table in self.closed
        )
        self.closed = deque(table for table in kept if table.num_rows)
        self.closed_count = sum(table.num_rows for table in self.closed)

    def _bound(self) -> None:
        """Forget the oldest of too many."""
        while self.closed and self.closed_count > MOST_ROWS:
            self.closed_count -= self.closed.popleft().num_rows
            self.is_whole = False
        for exchange_id in list(self.running)[:-MOST_ROWS]:
            del self.running[exchange_id]
            self.is_whole = False


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
        self._schema = pa.schema(
            [column.with_nullable(True) for column in exchanges if column.name not in UNLISTED]
        )
        self._whole_schema = exchanges
        self._known = [_Known(source, self._schema) for source in sources]
        self._now_s = now_s
        self._pool = ThreadPoolExecutor(max(1, len(sources)), "hot")

    def read(self) -> pa.Table:
        """Return all hot rows; what has left the recorders by then is in the tables."""
        tables = self._pool.map(self._refresh, self._known)
        return pa.concat_tables([self._schema.empty_table(), *tables])

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Recorders of which the newest read has not all: unreachable, or too much to hold."""
        return tuple(
            known.source.name
            for known in self._known
            if known.failed_s is not None or not known.is_whole
        )

    def exchange(self, exchange_id: str) -> HotWhole | None:
        """Return one exchange whole; None where no recorder that answers has it.

        One that does not answer is named by `incomplete`.
        """
        for known in self._known:
            found = self._ask(known, exchange_id)
            if found is not None:
                composition = msgspec.convert(found.row, Composition)
                return HotWhole(_table([found.row], self._whole_schema), composition, found.pieces)
        return None

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def _refresh(self, known: _Known) -> pa.Table:
        with known.lock:
            if not self._is_let_alone(known):
                self._ask_news(known)
            if known.failed_s is not None and self._now_s() - known.asked_s > KEPT_S:
                known.forget()
            return known.table()

    def _ask_news(self, known: _Known) -> None:
        try:
            for _ in range(MOST_PAGES):
                page = known.source.page(known.epoch, known.changed, known.removed_until)
                known.take(page)
                if not page.has_more:
                    break
        except (UnreachableError, pa.ArrowException) as e:
            logger.warning(
                "recorder_unreachable name=%s error=%s", known.source.name, type(e).__name__
            )
            known.failed_s = self._now_s()
        else:
            known.failed_s, known.asked_s = None, self._now_s()

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
