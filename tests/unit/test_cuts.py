"""Verdicts that cut a stream: what a re-send gets at another worker, however late that one is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from support.fakes import DEV, Clock

from gateway.cuts import TTL_S, CutKeeper, CutStore
from gateway.domain import Failure, Principal, Refusal
from gateway.state import CUTS

VERDICT = Failure("masking_blocked", "The answer was stopped.", status=502)
STREAMED = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
PLAIN = {"messages": [{"role": "user", "content": "hi"}], "model": "m"}
OTHER = msgspec.structs.replace(DEV, sub="other")


@asynccontextmanager
async def workers(engine: sa.Engine, clock: Clock) -> AsyncIterator[list[CutKeeper]]:
    keepers = [CutKeeper(engine, clock) for _ in range(2)]
    async with AsyncExitStack() as stack:
        for keeper in keepers:
            await stack.enter_async_context(keeper.keeping())
        yield keepers


def listening() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


async def refusal(keeper: CutKeeper, value: Any, principal: Principal = DEV) -> Any:
    try:
        await keeper.check(principal, value, 451)
    except Refusal as e:
        return e.code, e.message, e.status
    return None


SAME = ("masking_blocked", "The answer was stopped.", 451)


async def test_a_verdict_holds_at_every_worker_once_it_was_written(engine: sa.Engine) -> None:
    async with workers(engine, Clock()) as (one, two):
        await one.hold(DEV, STREAMED, VERDICT, listening())
        assert await refusal(one, PLAIN) == SAME
        assert await refusal(two, PLAIN) == SAME


async def test_it_holds_for_that_body_of_that_subject_and_a_minute_only(engine: sa.Engine) -> None:
    clock = Clock()
    async with workers(engine, clock) as (one, two):
        await one.hold(DEV, STREAMED, VERDICT, listening())
        for keeper in (one, two):
            assert await refusal(keeper, PLAIN | {"model": "n"}) is None
            assert await refusal(keeper, PLAIN, OTHER) is None
        clock.now += TTL_S * 10**9
        for keeper in (one, two):
            assert await refusal(keeper, PLAIN) is None


async def test_a_worker_whose_reading_is_late_looks_the_call_up(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cuts.POLL_S", 3600)
    monkeypatch.setattr("gateway.cuts.HOLD_BACK_S", 0.0)
    async with workers(engine, Clock()) as (one, two):
        await one.hold(DEV, STREAMED, VERDICT, listening())
        assert await refusal(two, PLAIN | {"model": "n"}) is None
        assert await refusal(two, PLAIN) == SAME


async def test_a_worker_that_starts_later_knows_it_from_the_beginning(engine: sa.Engine) -> None:
    clock = Clock()
    async with workers(engine, clock) as (one, _):
        await one.hold(DEV, STREAMED, VERDICT, listening())
    async with workers(engine, clock) as (later, _):
        assert await refusal(later, PLAIN) == SAME


async def test_a_caller_that_left_is_not_waited_for(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cuts.HOLD_BACK_S", 3600)
    gone = listening()
    gone.set_result(None)
    async with workers(engine, Clock()) as (one, _):
        await one.hold(DEV, STREAMED, VERDICT, gone)
        assert await refusal(one, PLAIN) == SAME


async def test_a_second_verdict_about_the_same_replaces_the_first(engine: sa.Engine) -> None:
    clock, gone = Clock(), listening()
    gone.set_result(None)
    async with workers(engine, clock) as (one, two):
        await one.hold(DEV, STREAMED, VERDICT, gone)
        clock.now += 1
        await two.hold(DEV, STREAMED, Refusal("locks.active", "Stopped."), listening())
        for keeper in (one, two):
            assert await refusal(keeper, PLAIN) == ("locks.active", "Stopped.", 451)
    with engine.connect() as connection:
        assert connection.execute(sa.select(CUTS.c.code)).scalars().all() == ["locks.active"]


async def test_verdicts_that_hold_no_more_are_deleted_with_the_next(engine: sa.Engine) -> None:
    clock, gone = Clock(), listening()
    gone.set_result(None)
    async with workers(engine, clock) as (one, _):
        await one.hold(DEV, STREAMED, VERDICT, gone)
        clock.now += TTL_S * 10**9
        await one.hold(OTHER, STREAMED, VERDICT, gone)
    with engine.connect() as connection:
        assert connection.execute(sa.select(CUTS.c.sub)).scalars().all() == ["other"]


async def test_nothing_of_the_body_is_in_the_database(engine: sa.Engine) -> None:
    gone = listening()
    gone.set_result(None)
    async with workers(engine, Clock()) as (one, _):
        await one.hold(DEV, STREAMED | {"system": "a secret"}, VERDICT, gone)
    with engine.connect() as connection:
        (row,) = connection.execute(sa.select(CUTS)).mappings()
    assert "secret" not in str(row)


async def test_without_the_database_a_verdict_holds_where_it_was_made_and_calls_go_on(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("", {}, Exception("away"))

    monkeypatch.setattr("gateway.cuts.POLL_S", 0.01)
    async with workers(engine, Clock()) as (one, two):
        monkeypatch.setattr(CutStore, "add", fail)
        monkeypatch.setattr(CutStore, "live", fail)
        monkeypatch.setattr("gateway.cuts.HOLD_BACK_S", -1.0)
        await one.hold(DEV, STREAMED, VERDICT, listening())
        assert await refusal(one, PLAIN) == SAME
        assert await refusal(two, PLAIN) is None
