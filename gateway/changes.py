"""What changed in the state database, seen by each worker within `POLL_S` and off the loop.

Each kind of thing has a number that grows in the very transaction that changes it. One small query
per worker reads the numbers; only what has another number than before is loaded again. Rows are
locked until their transaction ends, so no change can become visible under a number already seen.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from gateway.state import CHANGES

POLL_S = 0.25

_log = logging.getLogger(__name__)


def note_change(connection: sa.Connection, kind: str) -> None:
    """Tell all workers; the last statement of a transaction that changed something."""
    connection.execute(
        sa.update(CHANGES).where(CHANGES.c.kind == kind).values(number=CHANGES.c.number + 1)
    )


class ChangeFeed:
    """Loads what changed and hands it over on the loop."""

    def __init__(
        self,
        engine: sa.Engine,
        loads: Mapping[str, tuple[Callable[[], Any], Callable[[Any], None]]],
    ) -> None:
        """`loads` has for each kind what loads it, in a thread, and what takes it."""
        self._engine = engine
        self._loads = loads
        self._seen: dict[str, int] = {}
        self._polled_s = float("-inf")
        self._is_away = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="changes")

    @property
    def age_s(self) -> float:
        """How old what is known may be: the time since the last good poll began."""
        return min(asyncio.get_running_loop().time() - self._polled_s, 1e9)

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Poll while inside."""
        await self.poll()
        async with asyncio.TaskGroup() as tasks:
            polling = tasks.create_task(self._keep_polling())
            try:
                yield
            finally:
                polling.cancel()
        self._thread.shutdown(wait=False)

    async def poll(self) -> None:
        """Look once; while the database is away what is known grows old."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            numbers, loaded = await loop.run_in_executor(self._thread, self._look)
        except SQLAlchemyError as e:
            if not self._is_away:
                _log.warning("changes_unreadable error=%s", type(e).__name__)
            self._is_away = True
            return
        self._seen, self._polled_s, self._is_away = numbers, began_s, False
        for kind, value in loaded.items():
            self._loads[kind][1](value)

    def _look(self) -> tuple[dict[str, int], dict[str, Any]]:
        with self._engine.connect() as connection:
            query = sa.select(CHANGES.c.kind, CHANGES.c.number)
            numbers = {row.kind: row.number for row in connection.execute(query)}
        changed = [kind for kind in self._loads if numbers.get(kind) != self._seen.get(kind, -1)]
        return numbers, {kind: self._loads[kind][0]() for kind in changed}

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self.poll()
