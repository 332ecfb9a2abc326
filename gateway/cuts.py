"""Verdicts that cut a stream, kept so that they also hold for the re-send without `stream`.

Claude Code sends the body of a stream that broke off once more within 0.2 s, on whichever worker it
lands. So a verdict is written to the state database, and only `HOLD_BACK_S` later does the error
event go out. Every worker reads the verdicts every `POLL_S`; one whose last reading began longer
than `HOLD_BACK_S` ago looks the call up itself. So whoever gets the re-send knows of the verdict,
and other calls wait for nothing. Only while the database is away may a re-send pass; its answer is
masked like any other.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.domain import Fact, GatewayError, Principal, Refusal
from gateway.state import CUTS, digest_call, shared_key, write

POLL_S = 0.25
HOLD_BACK_S = 0.6
"""Two readings and a bit."""
TTL_S = 60
"""How long a verdict holds; the re-send comes at once, and a person may ask again later."""
LOOKUP_S = 1.0
"""How long a call waits where this worker's last reading is old."""

_log = logging.getLogger(__name__)


class Cut(Fact, frozen=True, kw_only=True):
    """A verdict about one body of one subject."""

    key: str
    issuer: str
    sub: str
    code: str
    message: str
    expires_at: int


class CutStore:
    """The blocking half."""

    def __init__(self, engine: sa.Engine, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._now_ns = now_ns

    def add(self, cut: Cut) -> None:
        """Write a verdict, in the place of an older one about the same."""
        stale = sa.or_(CUTS.c.key == cut.key, CUTS.c.expires_at <= self._now_ns())
        with suppress(IntegrityError), write(self._engine) as connection:  # just cut elsewhere too
            connection.execute(sa.delete(CUTS).where(stale))
            connection.execute(sa.insert(CUTS).values(**{f: getattr(cut, f) for f in _FIELDS}))

    def live(self, key: str | None = None) -> Sequence[Cut]:
        """Return the verdicts that hold: all, or those about one call."""
        query = sa.select(CUTS).where(CUTS.c.expires_at > self._now_ns())
        if key is not None:
            query = query.where(CUTS.c.key == key)
        with self._engine.connect() as connection:
            return [
                Cut(**{f: getattr(row, f) for f in _FIELDS}) for row in connection.execute(query)
            ]


_FIELDS = Cut.__struct_fields__


class CutKeeper:
    """The gate's side: holds verdicts and knows those of all workers."""

    def __init__(self, engine: sa.Engine, now_ns: Callable[[], int]) -> None:
        self._store = CutStore(engine, now_ns)
        self._now_ns = now_ns
        self._secret = shared_key(engine, "cut-keys")
        self._cuts: dict[str, Cut] = {}
        self._subjects: set[tuple[str, str]] = set()
        self._own: list[Cut] = []
        """Made here; also while the database is away."""
        self._read_s = 0.0
        """When the last reading began, by the loop's clock."""
        self._is_away = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cuts")

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Know of all workers' verdicts while inside."""
        await self._read()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._keep_reading())
            try:
                yield
            finally:
                reading.cancel()
        self._thread.shutdown(wait=False)

    async def hold(
        self,
        principal: Principal,
        value: Mapping[str, Any],
        verdict: GatewayError,
        gone: "asyncio.Future[None]",
    ) -> None:
        """Write a verdict and return when every worker knows of it."""
        cut = Cut(
            key=await self._digest(principal, value),
            issuer=principal.issuer,
            sub=principal.sub,
            code=verdict.code,
            message=verdict.message,
            expires_at=self._now_ns() + TTL_S * 10**9,
        )
        self._own.append(cut)
        self._know(self._cuts.values())
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._store.add, cut)
        except SQLAlchemyError as e:
            _log.warning("cut_not_shared error=%s", type(e).__name__)
        else:
            await asyncio.wait((gone,), timeout=HOLD_BACK_S)

    async def check(self, principal: Principal, value: Mapping[str, Any], status: int) -> None:
        """Raise a verdict that holds for this call as a `Refusal` with this status."""
        is_old = asyncio.get_running_loop().time() - self._read_s > HOLD_BACK_S
        if is_old and not self._is_away:
            await self._look_up(principal, value)
        if (principal.issuer, principal.sub) not in self._subjects:
            return
        cut = self._cuts.get(await self._digest(principal, value))
        if cut is not None and cut.expires_at > self._now_ns():
            raise Refusal(cut.code, cut.message, status=status)

    async def _digest(self, principal: Principal, value: Mapping[str, Any]) -> str:
        """Return the key of a call; a large body takes its time, off the loop."""
        context = [principal.issuer, principal.sub]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, digest_call, self._secret, context, value)

    async def _look_up(self, principal: Principal, value: Mapping[str, Any]) -> None:
        key = await self._digest(principal, value)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOKUP_S):
                found = await loop.run_in_executor(self._thread, self._store.live, key)
        except (SQLAlchemyError, TimeoutError) as e:
            self._note_away(e)
        else:
            self._know([*self._cuts.values(), *found])

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._read()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            found = await loop.run_in_executor(self._thread, self._store.live)
        except SQLAlchemyError as e:
            self._note_away(e)
        else:
            self._is_away, self._read_s = False, began_s
            self._know(found)

    def _know(self, cuts: Iterable[Cut]) -> None:
        now_ns = self._now_ns()
        self._own = [cut for cut in self._own if cut.expires_at > now_ns]
        newest_last = sorted((*cuts, *self._own), key=lambda cut: cut.expires_at)
        self._cuts = {cut.key: cut for cut in newest_last}
        self._subjects = {(cut.issuer, cut.sub) for cut in self._cuts.values()}

    def _note_away(self, error: Exception) -> None:
        if not self._is_away:
            _log.warning("cuts_unreadable error=%s", type(error).__name__)
        self._is_away = True
