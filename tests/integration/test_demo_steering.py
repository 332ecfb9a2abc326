"""The directives in a prompt steer the demo Claude, in plain answers and in streams."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from pytest_aiohttp import AiohttpClient

from gateway.demo.answers import NOTICE
from gateway.demo.claude import build
from gateway.demo.specimens import KINDS, sentence, specimen

KEY = "demo-endpoint-key"
Client = TestClient[Request, Application]
THOUGHT = "This is a demo: there is nothing to think about, and yet here is a thought."


@pytest.fixture
async def claude(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(build(KEY), headers={"x-api-key": KEY})


def body(content: Any, **fields: Any) -> dict[str, Any]:
    return {
        "model": "claude-opus-4-8",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": content}],
    } | fields


async def ask(claude: Client, content: Any, **fields: Any) -> Any:
    async with claude.post("/v1/messages", json=body(content, **fields)) as response:
        return await response.json()


async def hear(claude: Client, content: Any, **fields: Any) -> list[Any]:
    """Return the events of a whole stream."""
    sent = body(content, stream=True, **fields)
    async with claude.post("/v1/messages", json=sent) as response:
        return read(await response.text())


def read(text: str) -> list[Any]:
    assert text.endswith("\n\n")
    return [json.loads(block.split("\ndata: ")[1]) for block in text[:-2].split("\n\n")]


def deltas(events: list[Any], kind: str, field: str) -> list[str]:
    found = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return [delta[field] for delta in found if delta["type"] == kind]


def names(events: list[Any]) -> list[str]:
    return [event["type"] for event in events]


async def test_only_the_last_message_of_the_user_steers(claude: Client) -> None:
    said = await ask(
        claude,
        "",
        messages=[
            {"role": "user", "content": "[[demo fail=500]]"},
            {"role": "assistant", "content": "[[demo fail=501]]"},
            {"role": "user", "content": [{"type": "text", "text": "go on"}]},
            {"role": "system", "content": "[[demo fail=502]]"},
        ],
    )
    assert said["content"] == [{"type": "text", "text": f"{NOTICE} You said: go on"}]


async def test_an_answer_without_a_question_is_the_notice(claude: Client) -> None:
    said = await ask(claude, "", messages=[{"role": "assistant", "content": "Well"}])
    assert said["content"] == [{"type": "text", "text": NOTICE}]


async def test_a_long_question_is_quoted_in_short(claude: Client) -> None:
    said = await ask(claude, "word " * 1000)
    assert said["content"][0]["text"] == f"{NOTICE} You said: {'word ' * 31}word…"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "retry_after"),
    [
        (400, "invalid_request_error", None), (401, "authentication_error", None),
        (403, "permission_error", None), (413, "request_too_large", None),
        (429, "rate_limit_error", "1"), (500, "api_error", None), (503, "api_error", None),
        (529, "overloaded_error", "1"),
    ],
)  # fmt: skip
async def test_fail(
    claude: Client, *, stream: bool, status: int, kind: str, retry_after: str | None
) -> None:
    sent = body(f"[[demo fail={status}]]", stream=stream)
    async with claude.post("/v1/messages", json=sent) as response:
        assert response.status == status
        assert response.headers.get("retry-after") == retry_after
        assert await response.json() == {
            "type": "error",
            "error": {"type": kind, "message": f"The demo was asked to fail with {status}."},
            "request_id": response.headers["request-id"],
        }


@pytest.mark.parametrize("stream", [False, True])
async def test_slow(claude: Client, *, stream: bool) -> None:
    clock = asyncio.get_running_loop().time
    start = clock()
    async with claude.post("/v1/messages", json=body("[[demo slow=0.05]]", stream=stream)):
        assert clock() - start >= 0.05


async def test_pace_lies_between_deltas_only(claude: Client) -> None:
    clock = asyncio.get_running_loop().time
    start = clock()
    events = await hear(claude, "[[demo pace=20 length=32]]")
    assert len(deltas(events, "text_delta", "text")) == 4
    assert clock() - start >= 0.06


async def collect(content: aiohttp.StreamReader, into: bytearray) -> None:
    while chunk := await content.readany():
        into += chunk


@pytest.mark.parametrize("count", [0, 1, 5])
async def test_break_resets_a_stream_after_its_events(claude: Client, count: int) -> None:
    text = bytearray()
    sent = body(f"[[demo break={count}]]", stream=True)
    async with claude.post("/v1/messages", json=sent) as response:
        with pytest.raises((aiohttp.ClientPayloadError, ConnectionResetError)):
            await collect(response.content, text)
    assert text.count(b"\n\n") == count


async def test_break_resets_a_plain_answer_in_its_body(claude: Client) -> None:
    async with claude.post("/v1/messages", json=body("[[demo break=1]]")) as response:
        assert response.status == 200
        with pytest.raises((aiohttp.ClientPayloadError, ConnectionResetError)):
            await response.read()


async def test_clean_break_ends_a_stream_without_its_end(claude: Client) -> None:
    events = await hear(claude, "[[demo clean-break=4]]")
    assert names(events) == ["message_start", "ping", "content_block_start", "content_block_delta"]


async def test_stream_error_ends_a_stream_half_way(claude: Client) -> None:
    events = await hear(claude, "[[demo stream-error length=32]]")
    assert "".join(deltas(events, "text_delta", "text")) == NOTICE[:16]
    assert events[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "The demo was asked to fail half-way."},
    }


async def test_garbage_is_one_malformed_line_in_a_whole_stream(claude: Client) -> None:
    async with claude.post("/v1/messages", json=body("[[demo garbage]]", stream=True)) as response:
        blocks = (await response.text())[:-2].split("\n\n")
    bad = 'event: content_block_delta\ndata: {"type":"content_block_delta","ind'
    assert blocks.count(bad) == 1
    blocks.remove(bad)
    assert names([json.loads(block.split("\ndata: ")[1]) for block in blocks])[-1] == "message_stop"


async def test_garbage_is_a_plain_body_that_is_not_json(claude: Client) -> None:
    async with claude.post("/v1/messages", json=body("[[demo garbage]]")) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        with pytest.raises(json.JSONDecodeError):
            await response.json()


@pytest.mark.parametrize("kind", KINDS)
async def test_secret_gives_a_secret_away_over_several_deltas(claude: Client, kind: str) -> None:
    text = f"{NOTICE} {sentence(kind)}"
    events = await hear(claude, f"[[demo secret={kind} split=3]]")
    said = await ask(claude, f"[[demo secret={kind}]]")
    pieces = deltas(events, "text_delta", "text")
    assert ("".join(pieces), said["content"]) == (text, [{"type": "text", "text": text}])
    assert [piece for piece in pieces if specimen(kind) in piece] == []


async def test_length_split_and_words_shape_the_text(claude: Client) -> None:
    said = await ask(claude, "[[demo length=1024]]")
    assert len(said["content"][0]["text"]) == 1024
    assert (
        len(deltas(await hear(claude, "[[demo length=1408 split=22]]"), "text_delta", "text")) == 64
    )
    pieces = deltas(await hear(claude, "[[demo words]]"), "text_delta", "text")
    assert pieces == [f"{word} " for word in NOTICE.split()[:-1]] + ["it."]


@pytest.mark.parametrize(
    ("directive", "thought"),
    [
        pytest.param("thinking", THOUGHT, id="thinking"),
        pytest.param("thinking-secret=email", f"{THOUGHT} {sentence('email')}", id="a secret"),
    ],
)
async def test_thinking_comes_first_and_signed(
    claude: Client, directive: str, thought: str
) -> None:
    prompt = f"[[demo {directive}]]"
    block, text = (await ask(claude, prompt, thinking={"type": "adaptive"}))["content"]
    events = await hear(claude, prompt, thinking={"type": "enabled", "budget_tokens": 1024})
    assert (block["type"], block["thinking"], text["text"]) == ("thinking", thought, NOTICE)
    assert events[2]["content_block"] == {"type": "thinking", "thinking": "", "signature": ""}
    assert "".join(deltas(events, "thinking_delta", "thinking")) == thought
    assert deltas(events, "signature_delta", "signature") == [block["signature"]]


@pytest.mark.parametrize("thinking", [None, {"type": "disabled"}])
async def test_there_is_no_thinking_where_it_is_off(claude: Client, thinking: Any) -> None:
    said = await ask(claude, "[[demo thinking thinking-secret]]", thinking=thinking)
    assert said["content"] == [{"type": "text", "text": NOTICE}]


@pytest.mark.parametrize("field", [None, "thinking", "signature"])
async def test_a_thinking_block_comes_back_as_it_left_or_not_at_all(
    claude: Client, field: str | None
) -> None:
    thinking = {"type": "adaptive"}
    first = await ask(claude, "[[demo thinking]]", thinking=thinking)
    if field:
        first["content"][0][field] += "x"
    turns = [
        {"role": "user", "content": "think"},
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": "again"},
    ]
    said = await ask(claude, "", thinking=thinking, messages=turns)
    assert (said["type"], said.get("error")) == (
        ("message", None)
        if field is None
        else (
            "error",
            {
                "type": "invalid_request_error",
                "message": "a `thinking` block carries a `signature` that is not ours",
            },
        )
    )


async def test_tool_is_used_and_its_result_quoted(claude: Client) -> None:
    prompt = '[[demo tool=Bash input={"command": "ls -l"}]]'
    said = await ask(claude, prompt)
    events = await hear(claude, prompt)
    text, use = said["content"]
    tool_id = use.pop("id")
    assert tool_id.startswith("toolu_")
    assert use == {"type": "tool_use", "name": "Bash", "input": {"command": "ls -l"}}
    assert (text["text"], said["stop_reason"]) == (NOTICE, "tool_use")
    pieces = deltas(events, "input_json_delta", "partial_json")
    assert (len(pieces), json.loads("".join(pieces))) == (3, {"command": "ls -l"})
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": tool_id}
    for content in ("two files", [{"type": "text", "text": "two files"}]):
        turns = [
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": said["content"][:1]},
            {"role": "user", "content": [result | {"content": content}]},
        ]
        last = await ask(claude, "", messages=turns)
        assert last["stop_reason"] == "end_turn"
        assert last["content"] == [
            {"type": "text", "text": f"{NOTICE} The tool answered: two files"}
        ]


@pytest.mark.parametrize(
    ("directive", "given"),
    [
        pytest.param("tool-secret", {"note": sentence("github")}, id="default"),
        pytest.param(
            'tool-secret=field input={"a":1}',
            {"a": 1, "password": specimen("field")},
            id="a field beside the input",
        ),
    ],
)
async def test_tool_secret_is_in_the_input(
    claude: Client, directive: str, given: dict[str, object]
) -> None:
    tools = [{"name": "Write", "input_schema": {"type": "object"}}]
    declared = await ask(claude, f"[[demo {directive}]]", tools=tools)
    undeclared = await ask(claude, f"[[demo {directive}]]")
    events = await hear(claude, f"[[demo {directive}]]", tools=tools)
    assert (declared["content"][1]["name"], declared["content"][1]["input"]) == ("Write", given)
    assert undeclared["content"][1]["name"] == "demo_tool"
    assert json.loads("".join(deltas(events, "input_json_delta", "partial_json"))) == given
