"""Approval requests in the state database."""

import asyncio

import msgspec
import pytest
import sqlalchemy as sa
from support.fakes import DEV, Clock

from gateway.approvals import MAX_HELD_BYTES, ApprovalStore, ApprovalWaits
from gateway.domain import (
    ApprovalId,
    ApprovalObligation,
    Context,
    ExchangeId,
    Failure,
    Principal,
    Refusal,
    Request,
    Route,
    Verdict,
)
from gateway.state import shared_key

OBLIGATION = ApprovalObligation(
    required=True,
    satisfied=False,
    approvers=("leads",),
    quorum=1,
    wait_s=60,
    ttl_s=600,
    scope="request",
    reasons=("repositories.production",),
)
REQUEST = Request(
    id=ExchangeId("exch_1"),
    route=Route.MESSAGES,
    method="POST",
    model="m",
    repositories=(Context(value="acme/shop", source="claim"),),
)
VERDICT = Verdict(
    verdict="approve",
    issuer="https://idp.test",
    sub="lead",
    person="lead",
    groups=("leads",),
    comment="fine",
    at="",
)
BODY = b'{"model":"m","messages":[],"stream":true}'


class Fixture:
    def __init__(self, engine: sa.Engine) -> None:
        self.clock = Clock()
        self.store = ApprovalStore(engine, self.clock)
        numbers = iter(range(100))
        self.waits = ApprovalWaits(
            engine,
            now_ns=self.clock,
            new_id=lambda: f"appr_{next(numbers)}",
            console_url="http://console",
        )

    async def open(self, body: bytes = BODY) -> tuple[str, bool]:
        key = self.waits.key_of(DEV, REQUEST, OBLIGATION, msgspec.json.decode(body))
        approval, is_new = await self.waits.open_or_join(
            key, ExchangeId("exch_1"), DEV, REQUEST, OBLIGATION
        )
        return str(approval.id), is_new


@pytest.fixture
def world(engine: sa.Engine) -> Fixture:
    return Fixture(engine)


async def test_a_re_send_joins_with_or_without_stream(world: Fixture) -> None:
    assert await world.open() == ("appr_0", True)
    assert await world.open(b'{"model":"m","messages":[]}') == ("appr_0", False)


async def test_another_body_or_person_opens_its_own(world: Fixture) -> None:
    await world.open()
    assert (await world.open(b'{"model":"other","messages":[]}'))[1] is True
    other = msgspec.structs.replace(DEV, sub="bob")

    def key_of(principal: Principal, request: Request) -> str:
        return world.waits.key_of(principal, request, OBLIGATION, {"n": float("inf")})

    assert key_of(other, REQUEST) != key_of(DEV, REQUEST)
    elsewhere = msgspec.structs.replace(REQUEST, repositories=())
    assert key_of(DEV, elsewhere) != key_of(DEV, REQUEST)


async def test_an_expired_request_is_not_joined(world: Fixture) -> None:
    await world.open()
    world.clock.now += 601 * 10**9
    assert (await world.open())[1] is True
    assert [found.state for found in world.store.newest(None, 10)] == ["pending", "expired"]


async def test_a_verdict_ends_the_wait_and_is_read_whole(world: Fixture) -> None:
    approval_id, _ = await world.open()
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(world.waits.wait(ApprovalId(approval_id), 0, 30, gone))
        await asyncio.sleep(0)
        world.store.add_verdict(approval_id, VERDICT)
    (verdict,) = waiting.result().verdicts
    assert (verdict.person, verdict.groups, verdict.verdict) == ("lead", ("leads",), "approve")


async def test_a_wait_ends_at_its_bound_or_when_the_caller_leaves(world: Fixture) -> None:
    approval_id, _ = await world.open()
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert (await world.waits.wait(ApprovalId(approval_id), 0, 0, gone)).verdicts == ()
    gone.set_result(None)
    assert (await world.waits.wait(ApprovalId(approval_id), 0, 60, gone)).verdicts == ()


async def test_each_person_decides_once(world: Fixture) -> None:
    approval_id, _ = await world.open()
    world.store.add_verdict(approval_id, VERDICT)
    with pytest.raises(Refusal, match="already decided"):
        world.store.add_verdict(approval_id, VERDICT)


async def test_what_approvers_see_holds_no_prompt(world: Fixture) -> None:
    approval_id, _ = await world.open()
    found = world.store.find(approval_id)
    assert found is not None
    assert (found.person, found.model, found.repositories, found.approvers, found.reasons) == (
        "dev",
        "m",
        ("acme/shop",),
        ("leads",),
        ("repositories.production",),
    )


async def test_a_lost_state_database_is_a_failure(world: Fixture, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE verdicts")
        connection.exec_driver_sql("DROP TABLE approvals")
    with pytest.raises(Failure, match="can't be looked up"):
        await world.open()


def test_all_processes_share_one_key(engine: sa.Engine) -> None:
    assert shared_key(engine, "a") == shared_key(engine, "a") != shared_key(engine, "b")


async def test_held_bytes_have_a_bound(world: Fixture) -> None:
    with (
        world.waits.holding(MAX_HELD_BYTES),
        pytest.raises(Failure, match="Too many calls"),
        world.waits.holding(1),
    ):
        pass
    with world.waits.holding(1):
        pass
