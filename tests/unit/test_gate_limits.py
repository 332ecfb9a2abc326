"""Limits and cut verdicts in the flow: what is charged, when, and what a re-send gets."""

from typing import Any

import msgspec
import pytest
from support.fakes import (
    ALLOW,
    APPROVED,
    DENY,
    HOLD,
    FakeAnswer,
    FakeApprovals,
    FakeCaller,
    FakeJournal,
    FakePolicy,
    World,
)

from gateway.domain import Approval, ApprovalId, Ending, Failure, GatewayError, Refusal, Verdict
from gateway.messages.sse import encode_event
from gateway.records import Closing, Usage

LIMITED = ALLOW | {
    "limits": {
        "k": {
            "code": "limits.reached",
            "message": "Enough.",
            "unit": "tokens",
            "limit": 100,
            "window_s": 60,
            "cost": 50,
            "counts": ["output_tokens"],
        }
    }
}
MESSAGE = b'{"type":"message","content":[],"stop_reason":"end_turn","usage":{"output_tokens":7}}'


def event(kind: str, **data: Any) -> bytes:
    return encode_event(kind, {"type": kind, **data})


def stream(*chunks: bytes | Exception) -> FakeAnswer:
    return FakeAnswer(body=chunks, content_type="text/event-stream")


HEAD = event("message_start", message={"usage": {"input_tokens": 3, "output_tokens": 1}})
TAIL = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
STOP = event("message_stop")
SECRET = (
    HEAD,
    event(
        "content_block_start",
        index=0,
        content_block={"type": "tool_use", "id": "t", "name": "Bash", "input": {}},
    ),
    event(
        "content_block_delta",
        index=0,
        delta={"type": "input_json_delta", "partial_json": '{"AKIA0123456789ABCDEF":1}'},
    ),
    STOP,
)


def limited(answer: FakeAnswer | GatewayError, caller: FakeCaller | None = None) -> World:
    return World(caller=caller or FakeCaller(), policy=FakePolicy(LIMITED), answer=answer)


async def test_a_call_is_charged_after_its_opening_and_before_it_is_forwarded() -> None:
    world = await limited(FakeAnswer(body=[MESSAGE])).run()
    assert world.log[:5] == ["body read", "Opening", "durable", "charge", "forward"]
    assert world.limits.settled == [Usage(output_tokens=7)]


async def test_a_held_call_is_charged_when_it_goes_on() -> None:
    verdict = Verdict(
        verdict="approve", issuer="i", sub="s", person="p", groups=(), comment="", at=""
    )
    states = [Approval(state="pending", id=ApprovalId("appr_1"), verdicts=(verdict,))]
    policy = FakePolicy(HOLD, APPROVED | {"limits": LIMITED["limits"]})
    world = World(caller=FakeCaller(), policy=policy, approvals=FakeApprovals(states))
    await world.run()
    assert world.log.index("Redecided") < world.log.index("charge") < world.log.index("forward")


async def test_a_denied_call_is_charged_nothing() -> None:
    policy = FakePolicy(DENY | {"limits": LIMITED["limits"]})
    world = await World(caller=FakeCaller(), policy=policy).run()
    assert "charge" not in world.log


@pytest.mark.parametrize(
    ("wait_s", "told"),
    [
        pytest.param(7, {"retry-after": "7"}, id="a wait that clients make themselves"),
        pytest.param(
            60, {"retry-after": "60", "x-should-retry": "false"}, id="a wait for a person"
        ),
    ],
)
async def test_a_reached_limit_is_a_refusal_with_the_time_to_wait(
    wait_s: int, told: dict[str, str]
) -> None:
    world = limited(FakeAnswer())
    world.limits.refusal = Refusal("limits.reached", "Enough.", status=429, retry_after_s=wait_s)
    caller = (await world.run()).caller
    answered = {n: v for n, v in caller.answered.items() if n in {"retry-after", "x-should-retry"}}
    body = msgspec.json.decode(caller.received)
    assert (caller.status, answered) == (429, told)
    assert body["error"] == {
        "type": "rate_limit_error",
        "message": "Enough. [limits.reached, exch_1]",
    }
    assert world.upstream.forwarded == []
    closing = world.journal.closing
    assert (closing.ending, closing.error_code) == (Ending.REFUSED, "limits.reached")


async def test_without_knowing_the_limits_nothing_is_forwarded() -> None:
    world = limited(FakeAnswer())
    world.limits.refusal = Failure("limits_unavailable", "Nobody knows.")
    caller = (await world.run()).caller
    assert (caller.status, world.upstream.forwarded) == (503, [])


ENDS_EARLY = Failure("upstream_broke_off", "It broke off.", status=502)


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        pytest.param(
            stream(HEAD, TAIL, STOP), Usage(input_tokens=3, output_tokens=5), id="a whole stream"
        ),
        pytest.param(stream(HEAD, ENDS_EARLY), None, id="a stream that breaks off"),
        pytest.param(stream(*SECRET), None, id="a stream that is cut"),
        pytest.param(
            FakeAnswer(body=[b'{"type":"error","error":{}}'], status=529), Usage(), id="an error"
        ),
        pytest.param(
            FakeAnswer(body=[b'{"type":"message","content":[],"stop_reason":"end_turn"}']),
            None,
            id="an answer without usage",
        ),
        pytest.param(FakeAnswer(body=[ENDS_EARLY]), None, id="a plain answer that breaks off"),
        pytest.param(Failure("upstream_unavailable", "Away."), Usage(), id="no answer"),
    ],
)
async def test_a_call_is_settled_once_with_what_is_certain(
    answer: FakeAnswer | GatewayError, usage: Usage | None
) -> None:
    world = await limited(answer).run()
    assert world.limits.settled[:1] == [usage]


async def test_a_caller_that_leaves_keeps_its_estimate() -> None:
    world = await limited(stream(HEAD, TAIL, STOP), FakeCaller(gone_after=0)).run()
    assert world.limits.settled == [None]


# --- the re-send of a stream that was cut ---------------------------------------------------------


STREAMED = b'{"model":"m","max_tokens":1,"messages":[],"stream":true}'
PLAIN = b'{"model":"m","max_tokens":1,"messages":[]}'


async def resend(world: World, body: bytes) -> FakeCaller:
    """Send a body to the gate of a world after its own call."""
    caller = FakeCaller(body=body, log=[])
    world.journal.records.clear()
    world.upstream.forwarded.clear()
    await world.gate.run(caller)
    return caller


async def test_the_verdict_that_cut_a_stream_is_kept_before_the_caller_hears_of_it() -> None:
    world = await World(caller=FakeCaller(body=STREAMED), answer=stream(*SECRET)).run()
    held = world.log.index("hold the verdict")
    assert held < world.log.index("Closing") < world.log.index(("send", world.caller.sent[-1]))


async def test_the_resend_without_stream_gets_the_same_sentence() -> None:
    world = await World(caller=FakeCaller(body=STREAMED), answer=stream(*SECRET)).run()
    caller = await resend(world, PLAIN)
    said = msgspec.json.decode(caller.received)["error"]["message"]
    assert said.encode() in world.caller.sent[-1]
    assert (caller.status, caller.answered["x-should-retry"]) == (ALLOW["status"], "false")
    assert world.upstream.forwarded == []
    closing = world.journal.closing
    assert (closing.ending, closing.error_code) == (Ending.REFUSED, "masking_blocked")


@pytest.mark.parametrize("body", [STREAMED, PLAIN.replace(b'"m"', b'"n"')], ids=["s", "other"])
async def test_a_stream_and_another_body_are_judged_anew(body: bytes) -> None:
    world = await World(caller=FakeCaller(body=STREAMED), answer=stream(*SECRET)).run()
    await resend(world, body)
    assert len(world.upstream.forwarded) == 1


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(stream(HEAD, ENDS_EARLY), id="the server broke off"),
        pytest.param(stream(HEAD), id="the server ended too early"),
        pytest.param(stream(HEAD, TAIL, STOP), id="nothing was wrong"),
    ],
)
async def test_what_was_no_verdict_does_not_hold(answer: FakeAnswer) -> None:
    world = await World(caller=FakeCaller(body=STREAMED), answer=answer).run()
    assert world.cuts.held == []


async def test_a_journal_that_failed_is_no_verdict_about_the_answer() -> None:
    world = World(caller=FakeCaller(body=STREAMED), answer=stream(HEAD, TAIL, STOP))
    _fail_at_closings(world.journal)
    await world.run()
    assert world.cuts.held == []


def _fail_at_closings(journal: FakeJournal) -> None:
    journal.fails_at = Closing
