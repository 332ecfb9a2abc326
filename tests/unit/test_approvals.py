"""Approval requests in the state database."""

import asyncio

import msgspec
import pytest
import sqlalchemy as sa
from support.fakes import DEV, Clock

from gateway.approval_store import ApprovalStore
from gateway.approvals import MAX_HELD_BYTES, ApprovalWaits
from gateway.changes import ChangeFeed
from gateway.contract import ApprovalObligation
from gateway.domain import (
    Approval,
    ApprovalId,
    Context,
    ContextSource,
    Demand,
    ExchangeId,
    Failure,
    Principal,
    Refusal,
    Request,
    Route,
    Verdict,
)

OBLIGATION = ApprovalObligation(
    required=True,
    satisfied=False,
    approvers=("leads",),
    demands=(
        Demand(
            code="repositories.production",
            about="acme/shop",
            approvers=("leads",),
            quorum=1,
            all_groups=False,
        ),
    ),
    granted_by=(),
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
    """One worker and the store that consoles write to."""

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
        self.feed = ChangeFeed(engine, {"approvals": (self.waits.load, self.waits.take)})

    async def open(
        self,
        body: bytes = BODY,
        request: Request = REQUEST,
        obligation: ApprovalObligation = OBLIGATION,
    ) -> tuple[str, bool]:
        key = self.waits.key_of(DEV, request, obligation, msgspec.json.decode(body))
        approval, is_new = await self.waits.open_or_join(
            key, ExchangeId("exch_1"), DEV, request, obligation
        )
        return str(approval.id), is_new

    def state(self, approval_id: str) -> str:
        found = self.store.find(approval_id)
        return found.state if found else "none"

    def fact(self, approval_id: str) -> Approval:
        found = self.store.find(approval_id)
        assert found is not None
        return found.as_fact()


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


async def test_within_a_session_other_bodies_join_and_other_sessions_do_not(
    world: Fixture,
) -> None:
    session = msgspec.structs.replace(OBLIGATION, scope="session")

    def within(name: str) -> Request:
        return msgspec.structs.replace(REQUEST, session=Context(value=name, source="header"))

    assert await world.open(BODY, within("s-1"), session) == ("appr_0", True)
    other_body = b'{"model":"other","messages":[]}'
    assert await world.open(other_body, within("s-1"), session) == ("appr_0", False)
    assert (await world.open(BODY, within("s-2"), session))[1] is True


async def test_within_a_workflow_all_join_that_claim_it(world: Fixture) -> None:
    principal = msgspec.structs.replace(OBLIGATION, scope="principal")

    def within(source: ContextSource) -> Request:
        workflow = Context(value="nightly", source=source)
        return msgspec.structs.replace(REQUEST, workflow=workflow)

    assert await world.open(BODY, within("claim"), principal) == ("appr_0", True)
    assert await world.open(b'{"n":1}', within("claim"), principal) == ("appr_0", False)
    assert (await world.open(BODY, within("header"), principal))[1] is True
    assert [world.fact(f"appr_{n}").workflow for n in (0, 2)] == ["nightly", ""]


async def test_many_workers_with_one_call_open_one_request(engine: sa.Engine) -> None:
    workers = [Fixture(engine) for _ in range(8)]
    for number, worker in enumerate(workers):
        worker.waits._new_id = lambda number=number: f"appr_{number}"  # type: ignore[misc]
        worker.waits._secret = workers[0].waits._secret
    opened = await asyncio.gather(*(worker.open() for worker in workers))
    assert len({approval_id for approval_id, _ in opened}) == 1
    assert [is_new for _, is_new in opened].count(True) == 1


async def test_an_expired_request_is_not_joined(world: Fixture) -> None:
    await world.open()
    world.clock.now += 601 * 10**9
    assert (await world.open())[1] is True
    assert [found.state for found in world.store.newest(None, 10)] == ["pending", "expired"]


async def test_what_has_ended_is_asked_anew_but_a_denial_holds_for_its_time(
    world: Fixture,
) -> None:
    first, _ = await world.open()
    world.store.move(first, "withdraw")
    second, is_new = await world.open()
    assert is_new is True
    world.store.add_verdict(second, msgspec.structs.replace(VERDICT, verdict="deny"))
    world.store.move(second, "deny")
    assert await world.open() == (second, False)
    world.clock.now += 601 * 10**9
    assert (await world.open())[1] is True
    assert world.state(second) == "denied"


async def test_an_approval_holds_from_the_verdict_on_for_its_time(world: Fixture) -> None:
    approval_id, _ = await world.open()
    world.clock.now += 500 * 10**9
    world.store.move(approval_id, "approve")
    world.clock.now += 599 * 10**9
    assert world.state(approval_id) == "approved"
    world.clock.now += 10**9
    assert world.state(approval_id) == "expired"


async def test_time_ends_a_request_once(world: Fixture) -> None:
    approval_id, _ = await world.open()
    assert world.store.expire() == []
    world.clock.now += 600 * 10**9
    assert list(world.store.expire()) == [approval_id]
    assert world.store.expire() == []


@pytest.mark.parametrize("change", ["verdict", "withdrawn"])
async def test_a_wait_ends_when_the_request_changes(world: Fixture, change: str) -> None:
    approval_id, _ = await world.open()
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with world.feed.keeping(), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(world.waits.wait(world.fact(approval_id), 30, gone))
        await asyncio.sleep(0)
        if change == "verdict":
            world.store.add_verdict(approval_id, VERDICT)
        else:
            world.store.move(approval_id, "withdraw")
    assert waiting.result() == world.fact(approval_id)
    assert len(waiting.result().verdicts) == (change == "verdict")


async def test_a_change_that_came_before_the_wait_is_not_missed(world: Fixture) -> None:
    approval_id, _ = await world.open()
    before = world.fact(approval_id)
    world.store.add_verdict(approval_id, VERDICT)
    await world.feed.poll()
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    assert (await world.waits.wait(before, 30, gone)).verdicts[0].person == "lead"


async def test_a_wait_ends_at_its_bound_or_when_the_caller_leaves(world: Fixture) -> None:
    approval_id, _ = await world.open()
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    before = world.fact(approval_id)
    assert await world.waits.wait(before, 0, gone) == before
    gone.set_result(None)
    assert await world.waits.wait(before, 60, gone) == before


async def test_a_grant_is_known_from_its_approval_to_its_end(world: Fixture) -> None:
    session = msgspec.structs.replace(OBLIGATION, scope="session")
    approval_id, _ = await world.open(obligation=session)
    single, _ = await world.open()
    await world.feed.poll()
    assert world.waits.grants_of(DEV) == ()
    for each in (approval_id, single):
        world.store.move(each, "approve")
    await world.feed.poll()
    assert world.waits.grants_of(DEV) == (world.fact(approval_id),)
    assert world.waits.grants_of(msgspec.structs.replace(DEV, sub="bob")) == ()
    world.clock.now += 600 * 10**9
    assert world.waits.grants_of(DEV) == ()
    world.clock.now -= 600 * 10**9
    world.store.move(approval_id, "revoke")
    await world.feed.poll()
    assert world.waits.grants_of(DEV) == ()


async def test_nobody_decides_about_what_has_ended(world: Fixture) -> None:
    approval_id, _ = await world.open()
    world.store.move(approval_id, "withdraw")
    for unknown_or_ended in (approval_id, "appr_none"):
        with pytest.raises(Refusal) as refused:
            world.store.add_verdict(unknown_or_ended, VERDICT)
        assert refused.value.status == 409


async def test_what_is_used_is_used_once(world: Fixture) -> None:
    approval_id, _ = await world.open()
    world.store.move(approval_id, "approve")
    await world.waits.use(ApprovalId(approval_id))
    await world.waits.use(ApprovalId(approval_id))
    assert world.state(approval_id) == "used"


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


async def test_held_bytes_have_a_bound(world: Fixture) -> None:
    with (
        world.waits.holding(MAX_HELD_BYTES),
        pytest.raises(Failure, match="Too many calls"),
        world.waits.holding(1),
    ):
        pass
    with world.waits.holding(1):
        pass
