"""Limits over the state database: leases slices for this worker and keeps its calls within them.

A call whose slice suffices never waits. The others wait for one transaction, made off the loop,
that leases for all of them; once a second another one gives back what nobody needed.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gateway.contract import Limit
from gateway.domain import Failure, Refusal
from gateway.leases import Ask, Counter, Purse, Share, answer, expires_ns, open_purse
from gateway.records import Usage
from gateway.state import LIMITS, write

TICK_S = 1.0
"""How often leases are renewed and what is idle is given back."""
WAIT_S = 2.0
"""How long a call waits for a lease; then it fails."""
FORGET_S = 60.0
"""How often counters in which nothing counts any more are deleted."""
TRIES = 3
"""Of a transaction that met another worker's new row."""

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Counter).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """A limit under the digest of what it counts."""

    digest: str
    key: str
    limit: Limit


class LimitStore:
    """The blocking half: short transactions on the state database."""

    def __init__(self, engine: sa.Engine, worker: str, now_ns: Callable[[], int]) -> None:
        self._engine = engine
        self._worker = worker
        self._now_ns = now_ns

    def trade(self, asks: Mapping[str, tuple[str, Ask]]) -> dict[str, Share]:
        """Answer a worker's asks, by digest and with their keys; all in one transaction."""
        for _ in range(TRIES - 1):
            with suppress(IntegrityError):  # another worker wrote the first row of a limit
                return self._trade(asks)
        return self._trade(asks)

    def forget(self) -> None:
        """Delete what counts no more."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(LIMITS).where(LIMITS.c.expires_at < self._now_ns()))

    def _trade(self, asks: Mapping[str, tuple[str, Ask]]) -> dict[str, Share]:
        shares: dict[str, Share] = {}
        with write(self._engine) as connection:
            known = self._read(connection, asks)
            now_ns = self._now_ns()
            for digest, (key, ask) in sorted(asks.items()):  # one order: no deadlock
                before = known.get(digest, Counter())
                counter, shares[digest] = answer(before, ask, self._worker, now_ns)
                row = {
                    "key": key,
                    "unit": ask.limit.unit,
                    "size": ask.limit.limit,
                    "window_s": ask.limit.window_s,
                    "counter": msgspec.json.encode(counter),
                    "expires_at": expires_ns(counter, ask.limit),
                }
                if digest in known:
                    connection.execute(
                        sa.update(LIMITS).where(LIMITS.c.digest == digest).values(row)
                    )
                else:
                    connection.execute(sa.insert(LIMITS).values(row | {"digest": digest}))
        return shares

    def _read(self, connection: sa.Connection, digests: Mapping[str, object]) -> dict[str, Counter]:
        """Read and lock counters, in one order for all workers."""
        query = (
            sa.select(LIMITS.c.digest, LIMITS.c.counter)
            .where(LIMITS.c.digest.in_(list(digests)))
            .order_by(LIMITS.c.digest)
            .with_for_update()
        )
        return {row.digest: _decode(row.counter) for row in connection.execute(query)}


class LimitKeeper:
    """The gate's side: charges calls to what this worker has leased."""

    def __init__(self, engine: sa.Engine, worker: str, now_ns: Callable[[], int]) -> None:
        self._store = LimitStore(engine, worker, now_ns)
        self._now_ns = now_ns
        self._purses: dict[str, tuple[str, Purse]] = {}
        self._waiting: list[tuple[Sequence[Limited], asyncio.Future[Charge]]] = []
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="limits")

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Lease, renew and give back while inside; at the end give back all."""
        async with asyncio.TaskGroup() as tasks:
            turning = tasks.create_task(self._turn())
            try:
                yield
            finally:
                turning.cancel()
        await self._trade(every=True)
        await self._trade(every=True)  # what was in use until just now
        self._thread.shutdown(wait=False)

    async def charge(self, limits: Mapping[str, Limit]) -> "Charge":
        """Charge a call to all its limits, or to none.

        Raises:
            Refusal: a limit is reached.
            Failure: `limits_unavailable`: nobody knows now.
        """
        wanted = [_identify(key, limit) for key, limit in limits.items()]
        charge = self._try(wanted)
        if charge is not None:
            return charge
        future: asyncio.Future[Charge] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        self._wake.set()
        try:
            async with asyncio.timeout(WAIT_S):
                return await future
        except TimeoutError as e:
            _undo(future)
            raise _unavailable() from e
        except asyncio.CancelledError:
            _undo(future)
            raise

    def settle(self, limited: Limited, receipt: int, actual: int) -> None:
        """Take in what a call has used of one of its limits."""
        self._purse(limited).settle(receipt, limited.limit.cost, actual, self._now_ns())

    def put_back(self, limited: Limited, receipt: int) -> None:
        """Take in that a call is not carried out."""
        self._purse(limited).put_back(receipt, limited.limit.cost)

    def _purse(self, limited: Limited) -> Purse:
        if limited.digest not in self._purses:
            self._purses[limited.digest] = (limited.key, open_purse(limited.limit))
        return self._purses[limited.digest][1]

    def _try(self, wanted: Sequence[Limited]) -> "Charge | None":
        """Charge what was leased; None where more is needed. Raises `Refusal`."""
        now_ns = self._now_ns()
        for limited in wanted:
            purse = self._purse(limited)
            purse.limit = limited.limit
            wait_s = purse.refused_for_s(limited.limit.cost, now_ns)
            if wait_s is not None:
                raise _reached(limited.limit, wait_s)
        charge = Charge(self)
        for limited in wanted:
            receipt = self._purse(limited).take(limited.limit.cost, now_ns)
            if receipt is None:
                charge.undo()
                return None
            charge.receipts.append((limited, receipt))
        return charge

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        tick_s = forget_s = loop.time()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(tick_s + TICK_S):
                    await self._wake.wait()
            is_tick = loop.time() >= tick_s + TICK_S
            tick_s = loop.time() if is_tick else tick_s
            await self._trade(every=is_tick)
            if loop.time() >= forget_s + FORGET_S:
                forget_s = loop.time()
                with suppress(SQLAlchemyError):
                    await loop.run_in_executor(self._thread, self._store.forget)

    async def _trade(self, *, every: bool) -> None:
        """Ask for what waiting calls need, and with `every` about all else; then let them go on."""
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        waiting = [(wanted, future) for wanted, future in waiting if not future.done()]
        asks = self._asks(waiting, every=every)
        try:
            shares = await self._ask(asks)
        except (SQLAlchemyError, msgspec.MsgspecError) as e:
            _log.warning("limits_unavailable error=%s", type(e).__name__)
            for digest, (_, ask) in asks.items():
                self._purses[digest][1].fail(ask)
            for _, future in waiting:
                if not future.done():
                    future.set_exception(_unavailable())
            return
        now_ns = self._now_ns()
        for digest, share in shares.items():
            self._purses[digest][1].accept(asks[digest][1], share, now_ns)
        for wanted, future in waiting:
            self._resume(wanted, future)

    def _asks(
        self, waiting: Sequence[tuple[Sequence[Limited], object]], *, every: bool
    ) -> dict[str, tuple[str, Ask]]:
        now_ns = self._now_ns()
        costs: dict[str, list[int]] = {}
        for wanted, _ in waiting:
            for limited in wanted:
                self._purse(limited)
                costs.setdefault(limited.digest, []).append(limited.limit.cost)
        asks = {}
        for digest in list(self._purses) if every else list(costs):
            key, purse = self._purses[digest]
            ask = purse.ask(tuple(costs.get(digest, ())), now_ns)
            if ask is not None:
                asks[digest] = (key, ask)
            elif purse.is_empty():
                del self._purses[digest]
        return asks

    async def _ask(self, asks: Mapping[str, tuple[str, Ask]]) -> dict[str, Share]:
        if not asks:
            return {}
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._store.trade, asks)

    def _resume(self, wanted: Sequence[Limited], future: "asyncio.Future[Charge]") -> None:
        """Let a call go on, refuse it, or have it wait for the next transaction."""
        if future.done():
            return
        try:
            charge = self._try(wanted)
        except Refusal as e:
            future.set_exception(e)
            return
        if charge is None:
            self._waiting.append((wanted, future))
            self._wake.set()
        else:
            future.set_result(charge)


class Charge:
    """What a call was charged."""

    def __init__(self, keeper: LimitKeeper) -> None:
        self._keeper = keeper
        self.receipts: list[tuple[Limited, int]] = []

    def settle(self, usage: Usage | None) -> None:
        """End the call, once: charge what it used, or where that is unknown what was charged."""
        receipts, self.receipts = self.receipts, []
        for limited, receipt in receipts:
            limit = limited.limit
            actual = limit.cost
            if limit.unit == "tokens" and usage is not None:
                actual = sum(getattr(usage, name) or 0 for name in limit.counts)
            self._keeper.settle(limited, receipt, actual)

    def undo(self) -> None:
        """Take all back: the call is not carried out."""
        receipts, self.receipts = self.receipts, []
        for limited, receipt in receipts:
            self._keeper.put_back(limited, receipt)


def _identify(key: str, limit: Limit) -> Limited:
    text = f"{limit.unit} {limit.window_s} {key}".encode()
    return Limited(digest=hashlib.sha256(text).hexdigest(), key=key, limit=limit)


def _undo(future: "asyncio.Future[Charge]") -> None:
    """Undo a charge that nobody waits for any more."""
    if future.done() and not future.cancelled() and future.exception() is None:
        future.result().undo()
    future.cancel()


def _reached(limit: Limit, wait_s: int) -> Refusal:
    sentence = f"{limit.message} Try again in {wait_s} s."
    return Refusal(limit.code, sentence, status=429, retry_after_s=wait_s)


def _unavailable() -> Failure:
    return Failure("limits_unavailable", "Whether your limits are reached can't be looked up now.")
