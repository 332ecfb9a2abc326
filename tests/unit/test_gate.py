"""The nine steps and their order, over in-memory doubles."""

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest
from support.fakes import (
    ALLOW,
    APPROVED,
    DENY,
    HOLD,
    NOW_NS,
    STALE,
    FakeAnswer,
    FakeApprovals,
    FakeCaller,
    FakeIdentity,
    FakePolicy,
    World,
)

from gateway.clock import format_time
from gateway.domain import (
    Approval,
    ApprovalId,
    Ending,
    Failure,
    GatewayError,
    Refusal,
    Route,
    Unauthenticated,
    Verdict,
)
from gateway.messages.sse import encode_event
from gateway.ports import CallerGone
from gateway.records import (
    Chunk,
    Closing,
    Event,
    MaskApplied,
    Opening,
    Record,
    Redecided,
    Usage,
)

MESSAGE = (
    b'{"type":"message","id":"msg_1","model":"m-1","content":[{"type":"text","text":"%s"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":5}}'
)
VERDICT = Verdict(
    verdict="approve",
    issuer="https://idp.test",
    sub="lead",
    person="lead",
    groups=("leads",),
    comment="fine",
    at="2027-01-15T08:00:00Z",
)
PENDING = Approval(state="pending", id=ApprovalId("appr_1"))
VERDICTS = msgspec.structs.replace(PENDING, verdicts=(VERDICT,))


def event(kind: str, **data: Any) -> bytes:
    return encode_event(kind, {"type": kind, **data})


def text_delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


HEAD = event("message_start", message={"id": "msg_1", "model": "m-1", "usage": {"input_tokens": 3}})
HEAD += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
TAIL = event("content_block_stop", index=0)
TAIL += event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
STOP = event("message_stop")


def stream(*chunks: bytes | Exception) -> FakeAnswer:
    return FakeAnswer(body=chunks, content_type="text/event-stream; charset=utf-8")


def error_of(caller: FakeCaller) -> dict[str, Any]:
    error: dict[str, Any] = msgspec.json.decode(caller.received)
    return error


async def test_the_order_of_a_plain_call_is_the_security_property() -> None:
    world = await World(caller=FakeCaller(), answer=FakeAnswer(body=[MESSAGE % b"hi"])).run()
    assert world.log == [
        "body read",
        "Opening",
        "durable",
        "forward",
        "Answered",
        "Chunk",
        "Closing",
        "durable",
        ("start", 200),
        ("send", MESSAGE % b"hi"),
    ]


async def test_each_event_is_journaled_then_sent_and_the_last_waits_for_the_closing() -> None:
    world = World(caller=FakeCaller(), answer=stream(HEAD, text_delta("hi"), TAIL, STOP))
    await world.run()
    assert world.log == [
        "body read",
        "Opening",
        "durable",
        "forward",
        "Answered",
        ("start", 200),
        *("Chunk", ("send", HEAD)),
        *("Chunk", ("send", text_delta("hi"))),
        *("Chunk", ("send", TAIL)),
        *("Chunk", "Closing", "durable"),
        ("send", STOP),
    ]


async def test_a_closing_says_what_the_answer_said_of_itself() -> None:
    world = World(caller=FakeCaller(), answer=stream(HEAD, text_delta("hi"), TAIL + STOP))
    closing = (await world.run()).journal.closing
    assert (closing.ending, closing.status, closing.stop_reason) == (
        Ending.DELIVERED,
        200,
        "end_turn",
    )
    assert closing.usage == Usage(input_tokens=3, output_tokens=5)
    assert closing.released_bytes == len(world.caller.received)
    assert (closing.response_id, closing.response_model) == ("msg_1", "m-1")


async def test_an_unknown_caller_is_refused_before_its_body_is_read() -> None:
    caller = FakeCaller()
    identity = FakeIdentity(Unauthenticated("token.missing", "None."))
    world = await World(caller=caller, identity=identity).run()
    assert world.log == [("start", 401), ("send", caller.received)]
    assert caller.answered["x-should-retry"] == "false"
    world.strangers.flush()
    (noted,) = world.journal.records
    assert isinstance(noted, Event)
    assert (noted.kind, noted.reason, noted.peer, noted.count) == (
        "access.refused",
        "token.missing",
        "::1",
        1,
    )


async def test_only_an_expired_token_invites_the_client_to_try_again() -> None:
    caller = FakeCaller()
    identity = FakeIdentity(Unauthenticated("token.expired", "Old.", expired=True))
    await World(caller=caller, identity=identity).run()
    assert (caller.status, "x-should-retry" in caller.answered) == (401, False)


async def test_a_denial_reaches_nobody_and_is_recorded_with_the_request() -> None:
    world = await World(caller=FakeCaller(), policy=FakePolicy(DENY)).run()
    assert world.log[:4] == ["body read", "Opening", "Closing", "durable"]
    assert world.upstream.forwarded == []
    assert error_of(world.caller) == {
        "type": "error",
        "error": {"type": "permission_error", "message": "No. [models.not_granted, exch_1]"},
        "request_id": "exch_1",
    }
    assert world.caller.answered["x-should-retry"] == "false"
    assert world.journal.opening.parts == (world.caller.body,)
    assert world.journal.closing.ending is Ending.REFUSED


@pytest.mark.parametrize(
    ("policy", "answer", "code", "status"),
    [
        pytest.param(
            FakePolicy(Failure("policy_unavailable", "Down.")),
            FakeAnswer(),
            "policy_unavailable",
            503,
            id="policy engine down",
        ),
        pytest.param(
            FakePolicy(),
            Failure("upstream_unavailable", "Down.", status=502),
            "upstream_unavailable",
            502,
            id="Claude server down",
        ),
        pytest.param(
            FakePolicy(ALLOW | {"masking": ALLOW["masking"] | {"response": ["unheard-of"]}}),
            FakeAnswer(),
            "masking_unavailable",
            503,
            id="a mask that is not in the table",
        ),
        pytest.param(
            FakePolicy(),
            FakeAnswer(body=[b"<html>"]),
            "upstream_unreadable",
            502,
            id="an answer that is not JSON",
        ),
        pytest.param(
            FakePolicy(),
            FakeAnswer(body=[b"{", Failure("upstream_broke_off", "Gone.", status=502)]),
            "upstream_broke_off",
            502,
            id="an answer that breaks off",
        ),
        pytest.param(
            FakePolicy(STALE), FakeAnswer(), "policy_unavailable", 503, id="always stale tables"
        ),
    ],
)
async def test_a_failure_is_answered_without_content_and_recorded(
    policy: FakePolicy, answer: FakeAnswer | GatewayError, code: str, status: int
) -> None:
    world = await World(caller=FakeCaller(), policy=policy, answer=answer).run()
    assert world.caller.status == status
    assert code in error_of(world.caller)["error"]["message"]
    assert world.caller.answered["retry-after"] == "5"
    assert "x-should-retry" not in world.caller.answered
    assert world.journal.closing.ending is Ending.FAILED
    assert world.journal.closing.error_code == code


async def test_stale_tables_are_loaded_and_the_question_asked_again() -> None:
    world = World(caller=FakeCaller(), policy=FakePolicy(STALE, ALLOW))
    await world.run()
    assert [q.signals_revision for q in world.policy.questions] == ["older", "test"]
    assert world.caller.status == 200


@pytest.mark.parametrize("record", ["Opening", "durable"])
async def test_what_cannot_be_recorded_is_not_carried_out(record: str) -> None:
    world = World(caller=FakeCaller())
    world.journal.fails_at = Opening if record == "Opening" else "durable"
    await world.run()
    assert world.upstream.forwarded == []
    assert (world.caller.status, error_of(world.caller)["error"]["type"]) == (503, "api_error")


async def test_a_stream_that_cannot_be_recorded_any_more_is_cut_with_an_error_event() -> None:
    world = World(caller=FakeCaller(), answer=stream(HEAD, text_delta("hi"), TAIL, STOP))
    world.journal.fails_at = Chunk
    await world.run()
    assert b"hi" not in world.caller.received


@pytest.mark.parametrize(
    ("record", "refused", "cut"),
    [pytest.param(Opening, 1, 0, id="refused"), pytest.param(Chunk, 0, 1, id="cut")],
)
async def test_what_a_failing_journal_stopped_is_one_event_when_it_works_again(
    record: type[Record], refused: int, cut: int
) -> None:
    world = World(caller=FakeCaller(), answer=stream(HEAD, text_delta("hi"), TAIL, STOP))
    world.journal.fails_at = record
    await world.run()
    world.journal.fails_at = Event
    with pytest.raises(Failure):
        world.unrecorded.flush()
    world.journal.fails_at = None
    for _ in range(2):
        world.unrecorded.flush()
    at = format_time(NOW_NS)
    assert world.journal.records[-1] == Event(
        event_id="evt_1",
        at_ns=NOW_NS,
        kind="recording.failed",
        reason="recording_unavailable",
        message=(
            f"Between {at} and {at} the journal could not be written: "
            f"{refused} exchanges were refused, {cut} were cut."
        ),
        count=1,
        detail_json=f'{{"from":"{at}","to":"{at}","refused":{refused},"cut":{cut}}}',
    )
    assert [type(r) for r in world.journal.records].count(Event) == 1


@pytest.mark.parametrize("when", ["while its body is read", "before it is refused"])
async def test_an_unrecorded_call_is_counted_though_its_caller_is_gone(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(caller=FakeCaller())

    async def leave() -> bytes:
        world.caller.gone.set_result(None)
        if when == "while its body is read":
            raise CallerGone
        return b'{"model":"m","max_tokens":1,"messages":[]}'

    monkeypatch.setattr(world.caller, "read_body", leave)
    world.journal.fails_at = Opening
    await world.run()
    world.journal.fails_at = None
    world.unrecorded.flush()
    (event,) = world.journal.records
    assert isinstance(event, Event)
    assert (event.kind, event.count) == ("recording.failed", 1)
    assert event.detail_json.endswith('"refused":1,"cut":0}')


async def test_the_error_event_that_cuts_a_stream_is_owed_before_its_closing() -> None:
    world = World(caller=FakeCaller(), answer=stream(HEAD, text_delta("hi"), TAIL, STOP))
    world.journal.fails_at = Chunk
    await world.run()
    (error,) = world.journal.owed
    assert isinstance(error, Chunk)
    assert world.caller.received == error.data
    assert world.journal.closing.released_bytes == len(error.data)


async def test_a_clock_that_is_set_back_gives_no_time_before_the_one_before() -> None:
    world = World(caller=FakeCaller(), answer=stream(HEAD, text_delta("hi"), TAIL, STOP))
    times = iter(range(NOW_NS, 0, -(10**9)))
    world.gate = dataclasses.replace(world.gate, now_ns=lambda: next(times))
    await world.run()
    assert {record.at_ns for record in world.journal.records} == {NOW_NS}


async def test_an_unreadable_body_is_refused_and_recorded_without_content() -> None:
    world = await World(caller=FakeCaller(body=b'{"model":1')).run()
    assert world.caller.status == 400
    opening = world.journal.opening
    assert (opening.parts, opening.decision, opening.recording.retention_class) == (
        None,
        None,
        "undecided",
    )
    assert world.journal.closing.error_code == "body.not_json"


async def test_a_body_that_is_too_large_is_refused() -> None:
    body = Refusal("body.too_large", "Too large.", status=413)
    world = await World(caller=FakeCaller(body=body)).run()
    assert (world.caller.status, error_of(world.caller)["error"]["type"]) == (
        413,
        "request_too_large",
    )


async def test_an_unknown_route_is_never_forwarded_even_if_policy_allows_it() -> None:
    world = await World(caller=FakeCaller(path="/v1/files")).run()
    assert (world.caller.status, world.upstream.forwarded) == (503, [])


# --- streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([HEAD, text_delta("hi")], id="a clean end without message_stop"),
        pytest.param([HEAD, STOP[:10]], id="an end inside an event"),
        pytest.param([HEAD, Failure("upstream_broke_off", "Gone.", status=502)], id="a reset"),
        pytest.param([HEAD, b"data: {nonsense\n\n"], id="an event that is not JSON"),
    ],
)
async def test_a_broken_stream_never_ends_cleanly(chunks: list[bytes | Exception]) -> None:
    world = await World(caller=FakeCaller(), answer=stream(*chunks)).run()
    last = world.caller.sent[-1]
    assert last.startswith(b"event: error\ndata: ")
    assert world.journal.closing.ending is Ending.FAILED
    assert world.log.index("Closing") < world.log.index(("send", last))


async def test_a_secret_split_over_events_is_masked_and_counted() -> None:
    secret = "AKIA0123456789ABCDEF"
    deltas = [text_delta(piece) for piece in ("key AK", secret[2:9], secret[9:], " end")]
    world = await World(caller=FakeCaller(), answer=stream(HEAD, *deltas, TAIL, STOP)).run()
    assert b"AK" not in world.caller.received
    assert b"[masked]" in world.caller.received
    assert world.journal.closing.masks == (MaskApplied(rule="aws", where="text", count=1),)


def tool_use(*pieces: str) -> FakeAnswer:
    """Return a streamed answer that uses a tool."""
    start = {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return stream(
        event("message_start", message={}),
        event("content_block_start", index=0, content_block=start),
        *(event("content_block_delta", index=0, delta=delta) for delta in deltas),
        TAIL,
        STOP,
    )


async def test_a_secret_in_tool_input_is_masked_inside_its_string() -> None:
    answer = tool_use('{"command": "echo \\u0041KIA', '0123456789ABCDEF"}')
    world = await World(caller=FakeCaller(), answer=answer).run()
    assert b"KIA" not in world.caller.received
    assert b'{\\"command\\": \\"echo ' in world.caller.received
    assert b'[masked]\\"}' in world.caller.received
    assert world.journal.closing.masks == (MaskApplied(rule="aws", where="tool_input", count=1),)


async def test_a_secret_in_a_name_ends_the_answer_with_an_error_event() -> None:
    answer = tool_use('{"AKIA', '0123456789ABCDEF": 1}')
    world = await World(caller=FakeCaller(), answer=answer).run()
    assert b"KIA" not in world.caller.received
    assert world.caller.sent[-1].startswith(b"event: error")
    assert world.journal.closing.error_code == "masking_blocked"


async def test_a_caller_that_leaves_cancels_the_call_and_is_recorded() -> None:
    answer = stream(HEAD, text_delta("hi"), TAIL, STOP)
    world = await World(caller=FakeCaller(gone_after=1), answer=answer).run()
    assert answer.is_cancelled
    assert world.journal.closing.ending is Ending.CANCELLED


async def test_a_cancelled_handler_still_writes_the_closing() -> None:
    world = World(caller=FakeCaller())

    async def wait_for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    world.upstream.forward = wait_for_ever  # type: ignore[assignment, method-assign]  # a server that never answers
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(world.run())
        while "durable" not in world.log:
            await asyncio.sleep(0)
        running.cancel()
    assert world.journal.closing.ending is Ending.CANCELLED


# --- approval ---------------------------------------------------------------------------------


def held(*answers: dict[str, Any], states: list[Approval]) -> World:
    return World(
        caller=FakeCaller(),
        policy=FakePolicy(HOLD, *answers),
        approvals=FakeApprovals(states=states),
        answer=FakeAnswer(body=[MESSAGE % b"hi"]),
    )


async def test_a_held_call_goes_on_once_policy_is_satisfied() -> None:
    world = await held(APPROVED, states=[VERDICTS]).run()
    assert world.log[1:7] == ["Opening", "durable", "Event", "Redecided", "durable", "forward"]
    assert (world.caller.status, world.journal.closing.approval_id) == (200, "appr_1")
    assert world.policy.questions[1].approval == VERDICTS


async def test_a_body_that_waited_is_forwarded_as_it_came() -> None:
    parts = ", ".join(['"\u00e9"'] * 2000)
    body = b'{"model":"m", "max_tokens":1,\n"messages":[%s]}' % parts.encode()
    world = held(APPROVED, states=[VERDICTS])
    world.caller.body = body
    await world.run()
    assert world.upstream.forwarded == [("claude", "/v1/messages", body)]


async def test_a_held_call_is_refused_when_policy_denies_after_a_verdict() -> None:
    world = await held(DENY, states=[VERDICTS]).run()
    assert (world.caller.status, world.upstream.forwarded) == (403, [])
    assert [type(r) for r in world.journal.records].count(Redecided) == 1


async def test_a_policy_that_changed_during_the_wait_is_not_applied_silently() -> None:
    changed = APPROVED | {"recording": ALLOW["recording"] | {"content": "none"}}
    world = await held(changed, states=[VERDICTS]).run()
    assert world.journal.closing.error_code == "policy.changed"
    assert world.upstream.forwarded == []


async def test_the_end_of_the_wait_says_where_the_approval_is() -> None:
    world = held(HOLD, states=[PENDING])
    world.approvals.leaves = lambda: setattr(world.clock, "now", world.clock.now + 61 * 10**9)
    await world.run()
    assert error_of(world.caller)["error"]["message"] == (
        "This call waits for approval appr_1 at https://console.test/appr_1. Once granted it "
        "covers this very request, unchanged: send it again then. [approval.pending, exch_1]"
    )


async def test_an_approval_of_one_request_is_used_once_the_answer_is_delivered() -> None:
    world = await held(APPROVED, states=[VERDICTS]).run()
    assert world.approvals.used == ["appr_1"]
    assert [r.kind for r in world.journal.records if isinstance(r, Event)] == [
        "approval.opened",
        "approval.used",
    ]


async def test_an_answer_that_broke_off_leaves_the_approval_for_the_next_try() -> None:
    world = held(APPROVED, states=[VERDICTS])
    world.upstream.answer = FakeAnswer(body=[Failure("upstream.broken", "It broke.")])
    await world.run()
    assert (world.journal.closing.ending, world.approvals.used) == (Ending.FAILED, [])


async def test_a_grant_lets_a_call_pass_at_once_and_is_named_in_its_record() -> None:
    granted = APPROVED["approval"] | {"granted_by": ["appr_7"]}
    grant = Approval(state="approved", id=ApprovalId("appr_7"), scope="session")
    world = World(
        caller=FakeCaller(),
        policy=FakePolicy(APPROVED | {"approval": granted}),
        approvals=FakeApprovals(grants=(grant,)),
        answer=FakeAnswer(body=[MESSAGE % b"hi"]),
    )
    await world.run()
    assert world.policy.questions[0].grants == (grant,)
    assert (world.journal.closing.approval_id, world.approvals.used) == ("appr_7", [])


@pytest.mark.parametrize("state", ["withdrawn", "expired", "revoked", "used"])
async def test_a_call_whose_approval_ends_while_it_waits_is_refused_at_once(state: Any) -> None:
    ended = Approval(state=state, id=ApprovalId("appr_1"))
    world = await held(HOLD, states=[ended]).run()
    assert (world.journal.closing.error_code, world.upstream.forwarded) == ("approval.ended", [])


async def test_a_caller_that_leaves_while_it_waits_is_recorded_as_cancelled() -> None:
    world = held(HOLD, states=[PENDING])
    world.approvals.leaves = lambda: world.caller.gone.set_result(None)
    await world.run()
    assert (world.journal.closing.ending, world.upstream.forwarded) == (Ending.CANCELLED, [])


# --- hostile odds and ends --------------------------------------------------------------------


@pytest.mark.parametrize("usage", ['{"input_tokens":true}', '{"input_tokens":1e99}', "[]"])
async def test_odd_usage_is_left_out_and_the_exchange_is_closed(usage: str) -> None:
    body = b'{"type":"message","content":[],"usage":%b}' % usage.encode()
    world = await World(caller=FakeCaller(), answer=FakeAnswer(body=[body])).run()
    assert (world.journal.closing.ending, world.journal.closing.usage) == (
        Ending.DELIVERED,
        Usage(),
    )


async def test_a_closing_that_cannot_be_written_is_owed_as_a_failure() -> None:
    world = World(caller=FakeCaller(), answer=FakeAnswer(body=[MESSAGE % b"hi"]))
    world.journal.fails_at = Closing
    await world.run()
    (owed, *_) = world.journal.owed
    assert isinstance(owed, Closing)
    assert (world.caller.status, owed.ending, owed.status, owed.released_bytes) == (
        503,
        Ending.FAILED,
        503,
        0,
    )


async def test_a_list_of_models_shows_those_that_policy_names() -> None:
    models = b'{"data":[{"id":"claude-a"},{"id":"claude-b"}],"has_more":false}'
    world = World(
        caller=FakeCaller(path="/v1/models"),
        policy=FakePolicy(ALLOW | {"models": ["claude-b"]}),
        answer=FakeAnswer(body=[models[:9], models[9:]]),
    )
    await world.run()
    assert world.caller.received == (
        b'{"data":[{"id":"claude-b"}],"has_more":false,"first_id":"claude-b","last_id":"claude-b"}'
    )
    assert world.caller.answered["content-length"] == str(len(world.caller.received))
    assert world.journal.closing.ending is Ending.DELIVERED


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"data":1}'])
async def test_a_list_of_models_that_cannot_be_read_is_not_passed(body: bytes) -> None:
    world = World(caller=FakeCaller(path="/v1/models"), answer=FakeAnswer(body=[body]))
    await world.run()
    assert (world.caller.status, b"upstream_unreadable" in world.caller.received) == (502, True)


async def test_an_error_instead_of_a_list_of_models_is_passed_as_it_is() -> None:
    answer = FakeAnswer(body=[b"<html>Busy"], status=529, content_type="text/html")
    world = await World(caller=FakeCaller(path="/v1/models"), answer=answer).run()
    assert (world.caller.status, world.caller.received) == (529, b"<html>Busy")


async def test_one_model_is_asked_for_by_the_name_in_the_path() -> None:
    world = await World(caller=FakeCaller(path="/v1/models/claude-a")).run()
    (question,) = world.policy.questions
    assert (question.request.route, question.request.model) == (Route.MODEL, "claude-a")
    assert world.upstream.forwarded == [("claude", "/v1/models/claude-a", b"")]


async def test_a_route_that_is_not_carried_is_refused_whatever_policy_says() -> None:
    for path in ("/v1/messages/batches", "/v1/files/file_1", "/v1/skills"):
        world = await World(caller=FakeCaller(path=path)).run()
        assert (world.caller.status, world.upstream.forwarded) == (503, [])
