"""Masking in every direction through the gate: to the model, to the record, to the caller."""

import os
from typing import Any

import msgspec
import pytest
from support.fakes import ALLOW, SEAL_KEY, FakeAnswer, FakeCaller, FakePolicy, World

from gateway.masking.rules import PatternRule
from gateway.masking.seals import MARK, BadSeal, Seals, Session, Thought
from gateway.messages.sse import encode_event
from gateway.records import Kept, MaskApplied, Opening

SECRET = "AKIA0123456789ABCDEF"
OTHER = "AKIAZZZZZZZZZZZZZZZZ"
SESSION_HEADER = ("x-claude-code-session-id", "s1")
HEADERS = (("authorization", "Bearer t"), SESSION_HEADER)


def masking(**fields: Any) -> dict[str, Any]:
    """Return an allow with another masking obligation."""
    return ALLOW | {"masking": ALLOW["masking"] | fields}


def request(*messages: object, **fields: object) -> bytes:
    return msgspec.json.encode(
        {"model": "m", "max_tokens": 9, "messages": list(messages), **fields}
    )


def user(text: object) -> dict[str, object]:
    return {"role": "user", "content": text}


def recorded(world: World) -> bytes:
    """Return the new pieces of the request as recorded."""
    parts = world.journal.records[0]
    assert isinstance(parts, Opening)
    return b"".join(part for part in parts.parts or () if isinstance(part, bytes))


async def run(
    body: bytes, answer: FakeAnswer | None = None, *answers: dict[str, Any], **fields: Any
) -> World:
    caller = FakeCaller(body=body, headers=HEADERS)
    policy = FakePolicy(*answers)
    return await World(caller=caller, policy=policy, answer=answer or FakeAnswer(), **fields).run()


# --- requests -------------------------------------------------------------------------------------


async def test_strings_are_masked_for_the_model_and_all_else_stays_byte_for_byte() -> None:
    body = (
        b'{ "model":"m" ,"max_tokens":9, "metadata": {"user_id": "%b"}, "x": 1.50,\n "messages":'
        b' [{"role":"user","content":[{"type":"text","text":"\\u0041KIA%b \\u00e9"}]}]}'
    ) % (SECRET.encode(), SECRET[4:].encode())
    world = await run(body, None, masking(request=["aws"]))
    ((_, _, forwarded),) = world.upstream.forwarded
    assert forwarded == (
        b'{ "model":"m" ,"max_tokens":9, "metadata": {"user_id": "[masked]"}, "x": 1.50,\n '
        b'"messages":'
        b' [{"role":"user","content":[{"type":"text","text":"[masked] \xc3\xa9"}]}]}'
    )
    assert recorded(world) == forwarded
    assert world.journal.closing.masks == (
        MaskApplied(rule="aws", where="record.body", count=1),
        MaskApplied(rule="aws", where="record.messages", count=1),
        MaskApplied(rule="aws", where="request.body", count=1),
        MaskApplied(rule="aws", where="request.messages", count=1),
    )


async def test_policy_decides_about_the_very_bytes_that_are_forwarded() -> None:
    body = request(user(SECRET))
    world = await run(body, None, masking(request=["aws"]))
    ((_, _, forwarded),) = world.upstream.forwarded
    first, second = (question.request for question in world.policy.questions)
    assert (first.body_bytes, first.prompt_chars) == (len(body), len(SECRET))
    assert (second.body_bytes, second.prompt_chars) == (len(forwarded), len("[masked]"))
    assert world.journal.opening.request == second


async def test_what_is_only_recorded_masked_reaches_the_model_as_it_is() -> None:
    body = request(user(SECRET), system=f"be {SECRET}")
    world = await run(body, None, masking(record=["aws"]))
    ((_, _, forwarded),) = world.upstream.forwarded
    assert forwarded == body
    assert len(world.policy.questions) == 1
    assert SECRET.encode() not in msgspec.msgpack.encode(world.journal.records)
    assert recorded(world).count(b"[masked]") == 2


async def test_a_denied_request_is_recorded_masked_too() -> None:
    deny = masking(record=["aws"]) | {"allow": False, "deny": [{"code": "a.b", "message": "No."}]}
    world = await run(request(user(SECRET)), None, deny)
    assert SECRET.encode() not in msgspec.msgpack.encode(world.journal.records)
    assert b"[masked]" in recorded(world)


async def test_a_second_decision_that_masks_otherwise_refuses() -> None:
    world = await run(
        request(user(SECRET)), None, masking(request=["aws"]), masking(request=[], record=["aws"])
    )
    assert (world.caller.status, world.upstream.forwarded) == (403, [])
    assert world.journal.closing.error_code == "policy.changed"


async def test_names_that_masking_makes_one_refuse() -> None:
    tool = {"type": "tool_use", "id": "t", "name": "n", "input": {SECRET: 1, OTHER: 2}}
    body = request(user("hi"), {"role": "assistant", "content": [tool]})
    world = await run(body, None, masking(request=["aws"]))
    assert (world.caller.status, world.upstream.forwarded) == (400, [])
    assert world.journal.closing.error_code == "masking.blocked"


async def test_ids_and_media_are_not_looked_at_but_a_tools_input_is() -> None:
    blocks = [
        {"type": "tool_use", "id": SECRET, "name": "n", "input": {"id": SECRET, "data": [SECRET]}},
        {"type": "image", "source": {"type": "base64", "data": SECRET}},
        {"type": "redacted_thinking", "data": SECRET},
    ]
    masked = [
        {
            "type": "tool_use",
            "id": SECRET,
            "name": "n",
            "input": {"id": "[masked]", "data": ["[masked]"]},
        },
        *blocks[1:],
    ]
    world = await run(request(user(blocks)), None, masking(request=["aws"]))
    ((_, _, forwarded),) = world.upstream.forwarded
    assert forwarded == request(user(masked))


async def test_a_turn_is_recorded_over_the_masked_pieces_of_the_one_before() -> None:
    world = World(
        caller=FakeCaller(body=request(user(SECRET)), headers=HEADERS),
        policy=FakePolicy(masking(record=["aws"])),
    )
    await world.run()
    world.caller.body = request(user(SECRET), {"role": "assistant", "content": "a"}, user("b"))
    await world.run()
    opening = world.journal.records[-4]
    assert isinstance(opening, Opening)
    assert any(isinstance(part, Kept) for part in opening.parts or ())
    assert SECRET.encode() not in msgspec.msgpack.encode(world.journal.records)
    assert world.journal.records[-1] == msgspec.structs.replace(
        world.journal.records[-1],
        masks=(MaskApplied(rule="aws", where="record.messages", count=1),),
    )


async def test_pieces_masked_by_other_rules_are_never_shared() -> None:
    world = World(
        caller=FakeCaller(body=request(user(SECRET)), headers=HEADERS),
        policy=FakePolicy(masking(), masking(record=["aws"])),
    )
    await world.run()
    await world.run()
    opening = world.journal.records[-4]
    assert isinstance(opening, Opening)
    assert opening.base is None
    assert SECRET.encode() not in b"".join(p for p in opening.parts or () if isinstance(p, bytes))


# --- echoes ---------------------------------------------------------------------------------------


def tool_use(*pieces: str) -> FakeAnswer:
    events: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": {}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "tool_use", "input": {}}}),
        *(
            (
                "content_block_delta",
                {"index": 0, "delta": {"type": "input_json_delta", "partial_json": p}},
            )
            for p in pieces
        ),
        ("content_block_stop", {"index": 0}),
        ("message_stop", {}),
    ]
    body = [encode_event(kind, {"type": kind, **data}) for kind, data in events]
    return FakeAnswer(body=body, content_type="text/event-stream")


@pytest.mark.parametrize(
    ("echo", "released", "code", "place"),
    [
        pytest.param("allow", f"KEY={SECRET} [masked]", "", "tool_input.echo_allow", id="allow"),
        pytest.param("mask", "KEY=[masked] [masked]", "", "tool_input.echo_mask", id="mask"),
        pytest.param("refuse", "", "masking_blocked", "tool_input.echo_refuse", id="refuse"),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 200])
async def test_an_echo_is_treated_as_policy_says_and_counted_as_such(
    echo: str, released: str, code: str, place: str, size: int
) -> None:
    """The caller's own value is an echo; one that is new in the answer is masked in any case."""
    text = f'{{"content": "KEY={SECRET} {OTHER}"}}'
    answer = tool_use(*(text[i : i + size] for i in range(0, len(text), size)))
    result = {"type": "tool_result", "tool_use_id": "t", "content": f"1\u2192KEY={SECRET}"}
    world = await run(request(user([result])), answer, masking(echo=echo))
    closing = world.journal.closing
    assert closing.error_code == code
    assert OTHER.encode() not in world.caller.received
    masks = {(mask.where, mask.count) for mask in closing.masks}
    assert masks == ({(place, 1)} if code else {(place, 1), ("tool_input", 1)})
    if not code:
        events = [line[6:] for line in world.caller.received.splitlines() if line[:6] == b"data: "]
        deltas = [msgspec.json.decode(event).get("delta", {}) for event in events]
        text = "".join(delta.get("partial_json", "") for delta in deltas)
        assert msgspec.json.decode(text.encode()) == {"content": released}


# --- thinking -------------------------------------------------------------------------------------

THOUGHT = {"type": "thinking", "thinking": f"so {SECRET} it is", "signature": "sig=="}
MESSAGE = msgspec.json.encode({"type": "message", "content": [THOUGHT]})


def block_of(world: World) -> dict[str, Any]:
    block = msgspec.json.decode(world.caller.received)["content"][0]
    assert isinstance(block, dict)
    return block


async def test_masked_thinking_comes_back_as_the_server_wrote_it() -> None:
    first = await run(request(user("hi")), FakeAnswer(body=[MESSAGE]))
    block = block_of(first)
    assert block["thinking"] == "so [masked] it is"
    assert block["signature"].startswith(MARK)
    assert b"sig==" not in first.caller.received

    body = request(user("hi"), {"role": "assistant", "content": [block]}, user("go on"))
    masked = masking(request=["aws"], record=["aws"])
    second = await run(body, None, masked, seals=Seals(["k" * 43, SEAL_KEY], os.urandom))
    ((_, _, forwarded),) = second.upstream.forwarded
    assert forwarded == request(
        user("hi"), {"role": "assistant", "content": [THOUGHT]}, user("go on")
    )
    assert recorded(second) == body
    assert SECRET.encode() not in msgspec.msgpack.encode(second.journal.records)


async def test_streamed_thinking_is_sealed_with_its_signature() -> None:
    deltas = [
        *({"type": "thinking_delta", "thinking": p} for p in ("so AKIA01234", "56789ABCDEF it is")),
        {"type": "signature_delta", "signature": "sig=="},
    ]
    events: list[tuple[str, dict[str, Any]]] = [
        (
            "content_block_start",
            {"index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
        ),
        *(("content_block_delta", {"index": 0, "delta": delta}) for delta in deltas),
        ("content_block_stop", {"index": 0}),
        ("message_stop", {}),
    ]
    body = [encode_event(kind, {"type": kind, **data}) for kind, data in events]
    world = await run(request(user("hi")), FakeAnswer(body=body, content_type="text/event-stream"))
    events_out = [line[6:] for line in world.caller.received.splitlines() if line[:6] == b"data: "]
    sent = [msgspec.json.decode(event).get("delta", {}) for event in events_out]
    assert "".join(delta.get("thinking", "") for delta in sent) == "so [masked] it is"
    (token,) = (delta["signature"] for delta in sent if "signature" in delta)
    seals = world.seals.of(Session("https://idp.test", "dev", "s1"))
    assert seals is not None
    assert seals.open(token) == Thought(f"so {SECRET} it is", "sig==")


async def test_without_a_key_signed_thinking_that_would_be_masked_ends_the_answer() -> None:
    world = await run(request(user("hi")), FakeAnswer(body=[MESSAGE]), seals=Seals([], os.urandom))
    assert world.caller.status == 502
    assert world.journal.closing.error_code == "masking_blocked"
    assert SECRET.encode() not in world.caller.received


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(
            (("authorization", "Bearer t"), ("x-claude-code-session-id", "s2")), id="session"
        ),
        pytest.param((("authorization", "Bearer t"),), id="no session"),
    ],
)
async def test_a_seal_of_another_session_refuses_with_one_sentence(headers: Any) -> None:
    block = block_of(await run(request(user("hi")), FakeAnswer(body=[MESSAGE])))
    body = request(user("hi"), {"role": "assistant", "content": [block]})
    world = await World(caller=FakeCaller(body=body, headers=headers)).run()
    assert (world.caller.status, world.upstream.forwarded) == (400, [])
    assert world.journal.closing.error_code == "thinking.unreadable"


@pytest.mark.parametrize("place", [0, 20, 40, -5])
def test_a_forged_seal_is_not_opened(place: int) -> None:
    seals = Seals([SEAL_KEY], os.urandom).of(Session("i", "s", "x"))
    assert seals is not None
    token = list(seals.seal(Thought("t", "s")))
    token[place] = "A" if token[place] != "A" else "B"
    with pytest.raises(BadSeal):
        seals.open("".join(token))


@pytest.mark.parametrize("token", ["", MARK, f"{MARK}x", f"{MARK}x.y", "é", f"{MARK}é.é"])
def test_what_is_no_seal_is_not_opened(token: str) -> None:
    seals = Seals([SEAL_KEY], os.urandom).of(Session("i", "s", "x"))
    assert seals is not None
    with pytest.raises(BadSeal):
        seals.open(token)


# --- errors ---------------------------------------------------------------------------------------


class Raising(PatternRule):
    """A rule that fails when it matches."""

    def look(self, text: str, start: int, *, is_end: bool) -> Any:
        raise RuntimeError("unexpected")


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatternRule, "look", Raising.look)


@pytest.mark.usefixtures("raising")
async def test_an_error_while_masking_an_answer_ends_it_with_an_error_event() -> None:
    world = await run(request(user("hi")), tool_use('{"a": "AKI', 'A0123456789ABCDEF"}'))
    assert b"0123456789" not in world.caller.received
    assert world.caller.sent[-1].startswith(b"event: error")
    assert world.journal.closing.error_code == "masking_failed"


@pytest.mark.usefixtures("raising")
async def test_an_error_while_masking_a_plain_answer_fails_it() -> None:
    world = await run(request(user("hi")), FakeAnswer(body=[MESSAGE]))
    assert (world.caller.status, world.journal.closing.error_code) == (502, "masking_failed")
    assert SECRET.encode() not in world.caller.received


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize("direction", ["request", "record"])
async def test_an_error_while_masking_a_request_fails_it_and_records_nothing(
    direction: str,
) -> None:
    world = await run(request(user(SECRET)), None, masking(**{direction: ["aws"]}))
    assert (world.caller.status, world.journal.closing.error_code) == (500, "masking_failed")
    assert world.upstream.forwarded == []
    assert SECRET.encode() not in msgspec.msgpack.encode(world.journal.records)
