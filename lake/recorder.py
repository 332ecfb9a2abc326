"""The recorder: every ended exchange and every event of the journals into the tables, exactly once.

A table's cursors travel in the transaction of its rows. After anything unexpected all memory is
dropped, the cursors are read again and the rest is rebuilt from the journals; a table skips what
its cursor says it has. One recorder per set of journals; several may share the tables.
"""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from threading import Event as StopEvent
from types import MappingProxyType

import pyarrow as pa
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError

from lake.catalog import Lake
from lake.chains import Chains, Signer, read_links, testimonies, write_links
from lake.chains import property_of as link_property
from lake.cursors import NOTHING, Cursors, advanced, read_cursors, write_cursors
from lake.cursors import property_of as cursor_property
from lake.intake import COMMIT_ORDER, LAST_TABLE, Intake
from lake.own_journal import OwnJournal
from lake.recorder_state import RecorderSettings, RecorderState, StepResult
from lake.rows import Row, Texts
from lake.sources import JournalReader, Writer
from lake.witness import Witnesses

MANY_ROWS = 1_000
"""A batch after which cycles are looked for, since the process seldom does by itself."""
NO_LINKS: Mapping[str, str] = MappingProxyType({})

logger = logging.getLogger(__name__)


class CursorMovedError(Exception):
    """Another committed from our journals, or an unknown outcome turned out to be a commit."""


class Recorder:
    """Tails all journals of a host into the tables."""

    def __init__(
        self,
        lake: Lake,
        reader: JournalReader,
        writer: Writer,
        texts: Texts,
        signer: Signer,
        witnesses: Witnesses,
        settings: RecorderSettings,
    ) -> None:
        self._lake = lake
        self._reader = reader
        self._own = OwnJournal(writer)
        self._texts = texts
        self._signer = signer
        self._witnesses = witnesses
        self._settings = settings
        self._intake: Intake | None = None
        self._cursors: dict[str, Cursors] = {}
        self._batch_since_ns: int | None = None
        self._is_tidy = False
        self._let_go: set[str] = set()
        self.state = RecorderState()

    def step(self, now_ns: int, *, flush: bool = False) -> StepResult:
        """Read a part, and commit if a batch is due; raises whatever stopped it.

        Args:
            now_ns: Nanoseconds since the epoch.
            flush: Commit whatever is ready, due or not.
        """
        with self._forgetting_on_failure():
            intake = self._intake or self._load()
            read = intake.read(self._settings.read_bytes)
            self._own.note_damage(intake, now_ns)
            for journal, position in intake.abandon_stalled().items():
                logger.error("closing_unmatched journal=%s position=%s", journal, position)
            interrupted = self._own.interrupt(intake, now_ns)
            committed = 0
            if self._is_tidying_due(intake):
                self._tidy(intake, now_ns)
            if self._is_due(intake, now_ns) or (flush and not intake.is_batch_empty):
                committed = self._commit(intake, now_ns)
            self._renew_state(intake)
        return StepResult(read.records, read.bytes, committed, interrupted)

    def committed(self) -> Cursors:
        """Return how far the tables are, as last known; any thread may ask."""
        return dict(self._cursors.get(LAST_TABLE, {}))

    def run(self, stop: StopEvent, now_ns: Callable[[], int]) -> None:
        """Step until stopped, then commit what is ready; outlives every failure."""
        while not stop.is_set():
            result = self._try_step(now_ns(), flush=False)
            if result is None:
                stop.wait(self._back_off_s())
            elif not result.records:
                stop.wait(self._settings.poll_s)
        self._try_step(now_ns(), flush=True)

    def _try_step(self, now_ns: int, *, flush: bool) -> StepResult | None:
        try:
            return self.step(now_ns, flush=flush)
        except Exception as e:  # noqa: BLE001 - catalogs and stores raise anything; nothing is lost
            logger.error(  # noqa: TRY400 - a trace or an Arrow message could quote content
                "step_failed failures=%d retry_s=%.2f error=%s message=%r",
                self.state.failures,
                self._back_off_s(),
                type(e).__name__,
                str(e) if isinstance(e, OSError | SQLAlchemyError | CursorMovedError) else "",
            )
            return None

    def _back_off_s(self) -> float:
        doubled = self._settings.poll_s * 2.0 ** min(self.state.failures, 16)
        return min(doubled, self._settings.longest_back_off_s)

    @contextmanager
    def _forgetting_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._intake, self._batch_since_ns = None, None
            failures = self.state.failures + 1
            self.state = replace(self.state, failures=failures)
            raise

    def _load(self) -> Intake:
        self._cursors = {t: read_cursors(self._lake.load(t).properties) for t in COMMIT_ORDER}
        links = read_links(self._lake.load(LAST_TABLE).properties)
        self._witnesses.tell(testimonies(links))  # what a crash may have kept from them
        self._intake = Intake(
            self._reader,
            self._texts,
            self._cursors,
            Chains(links, {*self._reader.journals(), *self._reader.gone()}),
            self._settings.event_retention_class,
        )
        return self._intake

    def _is_due(self, intake: Intake, now_ns: int) -> bool:
        batch, settings = intake.batch, self._settings
        if intake.is_batch_empty:
            return False
        if self._batch_since_ns is None:
            self._batch_since_ns = now_ns
        age_s = abs(now_ns - self._batch_since_ns) / 1e9  # a clock set back must not stop commits
        return (
            age_s >= settings.commit_every_s
            or batch.row_count >= settings.batch_rows
            or batch.byte_count >= settings.batch_bytes
        )

    def _commit(self, intake: Intake, now_ns: int) -> int:
        batch, cursors = intake.batch, intake.cursors()
        for table in COMMIT_ORDER[:-1]:
            if batch.rows[table]:
                self._commit_table(table, batch.rows[table], cursors)
        self._own.note_clock(intake.chains.sealed_at, now_ns // 1000)
        seal = intake.chains.seal(now_ns, self._signer)
        self._commit_table(LAST_TABLE, seal.rows, cursors, write_links(seal.links))
        intake.chains.advance(seal.links)
        self._witnesses.tell(testimonies(seal.links))
        intake.take_batch()
        self._batch_since_ns, self._is_tidy = None, False
        self.state = replace(self.state, last_commit_ns=now_ns)
        logger.info("batch_committed rows=%d bytes=%d", batch.row_count, batch.byte_count)
        count = batch.row_count
        del batch
        if count >= MANY_ROWS:
            gc.collect()  # cheap now; beside a batch it would cost as much as the rows do
        return count

    def _commit_table(
        self, name: str, rows: list[Row], cursors: Cursors, links: Mapping[str, str] = NO_LINKS
    ) -> None:
        table = self._load_unmoved(name, cursors)
        moved = advanced(cursors, self._cursors[name])
        self._lake.commit(table, self._arrow(name, rows), write_cursors(moved) | dict(links))
        self._cursors[name] = self._cursors[name] | moved

    def _load_unmoved(self, name: str, journals: Iterable[str]) -> Table:
        """Return the table as it is now; our cursors must be where this recorder left them."""
        table = self._lake.load(name)
        present, expected = read_cursors(table.properties), self._cursors[name]
        if any(present.get(j, NOTHING) != expected.get(j, NOTHING) for j in journals):
            raise CursorMovedError(f"a cursor of table {name} is not where this recorder left it")
        return table

    def _arrow(self, name: str, rows: list[Row]) -> pa.Table | None:
        if not rows:
            return None
        schema = self._lake.arrow_schema(name)
        columns = {column: [row.get(column) for row in rows] for column in schema.names}
        return pa.Table.from_pydict(columns, schema=schema)

    def _tidy(self, intake: Intake, now_ns: int) -> None:
        """Let go of segments that the tables, asked again, are past; expire snapshots.

        Tried once after each commit, so that a failure here never keeps rows from the tables.
        """
        self._is_tidy = True
        for table in COMMIT_ORDER:
            if (
                len(self._load_unmoved(table, intake.positions).snapshots())
                > self._settings.most_snapshots
            ):
                gone = self._lake.expire(table, self._settings.kept_snapshots)
                logger.info("snapshots_expired table=%s count=%d", table, gone)
            self._forget_gone(table, intake)
        finished = {journal for journal in intake.journals if intake.is_finished(journal)}
        ends = {journal: intake.chains.link(journal) for journal in finished - self._let_go}
        self._own.note_ends(ends, now_ns)
        self._let_go |= finished
        passed = self._cursors[LAST_TABLE]
        for journal in intake.journals:
            if journal in finished:
                self._reader.discard_journal(journal)
            elif journal in passed:
                self._reader.discard(journal, passed[journal].open)

    def _forget_gone(self, name: str, intake: Intake) -> None:
        """Remove cursors of journals that went long ago: metadata must not grow with restarts."""
        known = self._cursors[name]
        old = [j for j in self._reader.gone()[: -self._settings.kept_cursors] if j in known]
        if len(old) < self._settings.kept_cursors:
            return
        table = self._load_unmoved(name, old)
        properties = {of(j) for j in old for of in (cursor_property, link_property)}
        self._lake.forget(table, properties & table.properties.keys())
        self._cursors[name] = {j: c for j, c in known.items() if j not in old}
        intake.forget(old)
        logger.info("cursors_forgotten table=%s count=%d", name, len(old))

    def _is_tidying_due(self, intake: Intake) -> bool:
        finished = {journal for journal in intake.dead if intake.is_finished(journal)}
        return not self._is_tidy or not finished <= self._let_go

    def _renew_state(self, intake: Intake) -> None:
        unread = {
            journal: self._reader.unread_bytes(journal, intake.positions[journal])
            for journal in intake.journals
            if journal not in self._let_go
        }
        self.state = RecorderState(
            journals=len(intake.journals),
            open_exchanges=len(intake.open),
            open_bytes=intake.open.held_bytes,
            waiting_rows=intake.batch.row_count,
            waiting_bytes=intake.batch.byte_count,
            unread={journal: size for journal, size in unread.items() if size},
            corrupt_journals=tuple(sorted(intake.corrupt)),
            last_commit_ns=self.state.last_commit_ns,
        )
