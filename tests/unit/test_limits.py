"""Limits over the state database: what two workers let through together, and what they say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from support.fakes import Clock

from gateway.contract import Limit
from gateway.domain import Failure, Refusal
from gateway.limit_use import LimitUse, read_use
from gateway.limits import Charge, LimitKeeper, LimitStore
from gateway.records import Usage
from gateway.state import LIMITS, open_state

REQUESTS = Limit(
    code="limits.reached",
    message="Enough.",
    unit="requests",
    limit=20,
    window_s=60,
    cost=1,
    counts=(),
)
TOKENS = msgspec.structs.replace(
    REQUESTS, unit="tokens", limit=1000, cost=900, counts=("input_tokens", "output_tokens")
)
CONCURRENT = msgspec.structs.replace(REQUESTS, unit="concurrent", limit=2, window_s=5)


@asynccontextmanager
async def workers(engine: sa.Engine, clock: Clock, count: int = 2) -> AsyncIterator[list[Any]]:
    keepers = [LimitKeeper(engine, f"worker-{n}", clock) for n in range(count)]
    async with AsyncExitStack() as stack:
        for keeper in keepers:
            await stack.enter_async_context(keeper.keeping())
        yield keepers


async def passed(calls: list[Any]) -> tuple[list[Charge], list[Refusal]]:
    results = await asyncio.gather(*calls, return_exceptions=True)
    charges = [result for result in results if isinstance(result, Charge)]
    refusals = [result for result in results if isinstance(result, Refusal)]
    assert len(charges) + len(refusals) == len(calls)
    return charges, refusals


async def test_many_calls_at_once_at_two_workers_get_what_the_limit_allows(
    engine: sa.Engine,
) -> None:
    async with workers(engine, Clock()) as (one, two):
        calls = [keeper.charge({"k": REQUESTS}) for keeper in (one, two) * 30]
        charges, refusals = await passed(calls)
    assert (len(charges), len(refusals)) == (20, 40)


async def test_a_refusal_says_what_is_reached_and_when_to_come_back(engine: sa.Engine) -> None:
    clock = Clock()
    async with workers(engine, clock) as (one, two):
        await passed([one.charge({"k": REQUESTS}) for _ in range(20)])
        with pytest.raises(Refusal) as refused:
            await two.charge({"k": REQUESTS})
        error = refused.value
        clock.now += 65 * 10**9
        assert await two.charge({"k": REQUESTS})
    assert (error.code, error.status, error.retry_after_s) == ("limits.reached", 429, 65)
    assert error.message == "Enough. Try again in 65 s."


async def test_a_call_that_one_limit_refuses_is_charged_to_none(engine: sa.Engine) -> None:
    async with workers(engine, Clock()) as (one, two):
        await passed([one.charge({"full": REQUESTS}) for _ in range(20)])
        both = {"other": REQUESTS, "full": REQUESTS}
        assert len((await passed([two.charge(both) for _ in range(30)]))[1]) == 30
        assert len((await passed([two.charge({"other": REQUESTS}) for _ in range(20)]))[0]) == 20


async def test_limits_with_other_keys_windows_or_units_are_counted_apart(
    engine: sa.Engine,
) -> None:
    single = msgspec.structs.replace(REQUESTS, limit=1)
    async with workers(engine, Clock()) as (one, two):
        assert await one.charge({"k": single})
        assert await one.charge({"other": single})
        assert await one.charge({"k": msgspec.structs.replace(single, window_s=3600)})
        assert await one.charge({"k": msgspec.structs.replace(single, unit="tokens")})
        with pytest.raises(Refusal):
            await two.charge({"k": single})


@pytest.mark.parametrize(
    ("usage", "left"),
    [
        pytest.param(Usage(input_tokens=60, output_tokens=40), 900, id="what was used"),
        pytest.param(Usage(cache_read_input_tokens=500), 1000, id="what is not counted"),
        pytest.param(Usage(), 1000, id="nothing"),
        pytest.param(None, 100, id="nobody knows"),
    ],
)
async def test_an_estimate_is_replaced_by_what_the_answer_says(
    engine: sa.Engine, usage: Usage | None, left: int
) -> None:
    clock = Clock()
    async with workers(engine, clock, 1) as (one,):
        charge = await one.charge({"k": TOKENS})
        charge.settle(usage)
        charge.settle(Usage(output_tokens=10**6))  # only the first counts
    async with workers(engine, clock, 1) as (two,):
        with pytest.raises(Refusal):
            await two.charge({"k": msgspec.structs.replace(TOKENS, cost=left + 1)})
        clock.now += 2 * 10**9
        assert await two.charge({"k": msgspec.structs.replace(TOKENS, cost=left)})


async def test_tokens_beyond_the_estimate_count_too(engine: sa.Engine) -> None:
    clock = Clock()
    async with workers(engine, clock, 1) as (one,):
        charge = await one.charge({"k": TOKENS})
        charge.settle(Usage(output_tokens=5000))
    async with workers(engine, clock, 1) as (two,):
        with pytest.raises(Refusal):
            await two.charge({"k": msgspec.structs.replace(TOKENS, cost=1)})


async def test_the_place_of_a_call_that_is_over_is_free_for_another_worker(
    engine: sa.Engine,
) -> None:
    clock = Clock()
    async with workers(engine, clock) as (one, two):
        charges, _ = await passed([one.charge({"k": CONCURRENT}) for _ in range(2)])
        with pytest.raises(Refusal) as refused:
            await two.charge({"k": CONCURRENT})
        charges[0].settle(None)
        async with asyncio.timeout(10):
            while not await tried(two, clock):
                await asyncio.sleep(0.05)
    assert refused.value.retry_after_s == 5


async def tried(keeper: LimitKeeper, clock: Clock) -> bool:
    clock.now += 2 * 10**9  # so that no refusal of just now is told again
    try:
        await keeper.charge({"k": CONCURRENT})
    except Refusal:
        return False
    return True


async def test_a_call_whose_caller_left_while_it_waited_takes_nothing(engine: sa.Engine) -> None:
    async with workers(engine, Clock(), 1) as (one,):
        tasks = [asyncio.ensure_future(one.charge({"k": CONCURRENT})) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert len((await passed([one.charge({"k": CONCURRENT}) for _ in range(2)]))[0]) == 2


async def test_without_the_database_limited_calls_fail_and_others_go_on(tmp_path: Path) -> None:
    engine = open_state(f"sqlite:///{tmp_path / 'none.db'}")  # without tables
    async with workers(engine, Clock(), 1) as (one,):
        with pytest.raises(Failure) as failed:
            await one.charge({"k": REQUESTS})
        (await one.charge({})).settle(None)
    engine.dispose()
    assert (failed.value.code, failed.value.status) == ("limits_unavailable", 503)


async def test_a_database_that_does_not_answer_fails_the_call(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.limits.WAIT_S", 0.05)
    async with workers(engine, Clock(), 1) as (one,):
        is_sqlite = engine.dialect.name == "sqlite"
        with engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if is_sqlite else "LOCK TABLE limits")
            with pytest.raises(Failure):
                await one.charge({"k": REQUESTS})


async def test_a_worker_that_stops_gives_back_what_it_leased(engine: sa.Engine) -> None:
    clock = Clock()
    async with workers(engine, clock, 1) as (one,):
        (await one.charge({"places": CONCURRENT})).settle(None)
        await one.charge({"requests": REQUESTS})
    with engine.connect() as connection:
        rows = connection.execute(sa.select(LIMITS.c.key, LIMITS.c.counter)).all()
    part = clock.now // (5 * 10**9)
    assert {row.key: msgspec.json.decode(row.counter) for row in rows} == {
        "places": {"used": {}, "places": {}},
        "requests": {"used": {str(part): 1}, "places": {}},
    }


async def test_counters_in_which_nothing_counts_any_more_are_deleted(engine: sa.Engine) -> None:
    clock = Clock()
    async with workers(engine, clock, 1) as (one,):
        await one.charge({"k": REQUESTS})
    store = LimitStore(engine, "worker", clock)
    store.forget()
    assert count(engine) == 1
    clock.now += 66 * 10**9
    store.forget()
    assert count(engine) == 0


async def test_operators_see_what_is_in_use_the_fullest_first(
    engine: sa.Engine, state_url: str
) -> None:
    clock, url = Clock(), state_url
    async with workers(engine, clock, 1) as (one,):
        await one.charge({"tokens": TOKENS})
        await one.charge({"places": CONCURRENT})
        await one.charge({"requests": msgspec.structs.replace(REQUESTS, limit=8)})
        assert read_use(url, clock.now) == (
            LimitUse(key="tokens", unit="tokens", limit=1000, window_s=60, used=912),
            LimitUse(key="places", unit="concurrent", limit=2, window_s=5, used=1),
            LimitUse(key="requests", unit="requests", limit=8, window_s=60, used=1),
        )
    assert read_use(url, clock.now + 100 * 10**9) == ()


def test_looking_for_a_database_that_is_not_there_makes_none(tmp_path: Path) -> None:
    assert read_use(f"sqlite:///{tmp_path / 'state.db'}", 0) is None
    assert list(tmp_path.iterdir()) == []


def count(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(LIMITS)).scalar_one()
