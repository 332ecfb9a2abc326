"""The demo Claude keeps the Messages API's promises: credentials, errors, answers, streams."""

import json
from io import BytesIO
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from pytest_aiohttp import AiohttpClient

from gateway.demo.answers import NOTICE
from gateway.demo.claude import BODY_LIMIT_BYTES, DEFAULT_MODELS, build
from gateway.demo.loopback import require_loopback

KEY = "demo-endpoint-key"
AUTH = {"x-api-key": KEY}
Client = TestClient[Request, Application]


@pytest.fixture
async def claude(aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(build(KEY))


def ask(content: Any, **fields: Any) -> dict[str, Any]:
    return {
        "model": "claude-opus-4-8",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": content}],
    } | fields


def read_events(text: str) -> list[tuple[str, Any]]:
    events = []
    for block in text.split("\n\n")[:-1]:
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"x-api-key": KEY}, id="api key"),
        pytest.param({"Authorization": f"Bearer {KEY}"}, id="bearer token"),
        pytest.param({"x-api-key": KEY, "Authorization": f"bearer {KEY}"}, id="both"),
    ],
)
async def test_its_own_key_is_let_in(claude: Client, headers: dict[str, str]) -> None:
    async with claude.post("/v1/messages", json=ask("hi"), headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        pytest.param({}, "an API key is required, in x-api-key or as a bearer token", id="none"),
        pytest.param({"x-api-key": "other"}, "invalid API key", id="another key"),
        pytest.param({"x-api-key": ""}, "invalid API key", id="an empty key"),
        pytest.param({"x-api-key": "schlüssel"}, "invalid API key", id="a key beyond ASCII"),
        pytest.param({"Authorization": f"Basic {KEY}"}, "invalid API key", id="basic"),
        pytest.param({"Authorization": KEY}, "invalid API key", id="no scheme"),
        pytest.param(
            {"x-api-key": KEY, "Authorization": "Bearer caller"},
            "invalid API key",
            id="the key beside the token of a caller",
        ),
    ],
)
async def test_any_other_credential_is_refused(
    claude: Client, headers: dict[str, str], message: str
) -> None:
    async with claude.post("/v1/messages", json=ask("hi"), headers=headers) as response:
        assert (response.status, await response.json()) == (
            401,
            {
                "type": "error",
                "error": {"type": "authentication_error", "message": message},
                "request_id": response.headers["request-id"],
            },
        )
        assert response.headers["request-id"].startswith("req_")


async def test_the_probe_of_the_cli_needs_no_key(claude: Client) -> None:
    async with claude.head("/") as response:
        assert response.status == 200
        assert response.headers["request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind", "message"),
    [
        pytest.param("POST", "/v1/messages", b"{", 400, "invalid_request_error",
                     "The request body is not valid JSON", id="bad JSON"),
        pytest.param("POST", "/v1/messages", b"\xff", 400, "invalid_request_error",
                     "The request body is not valid JSON", id="bad UTF-8"),
        pytest.param("POST", "/v1/messages", b'{"x":' + b"[" * 100_000, 400,
                     "invalid_request_error", "The request body is not valid JSON",
                     id="deep nesting"),
        pytest.param("POST", "/v1/messages", b"{}", 400, "invalid_request_error",
                     "Object missing required field `model`", id="no model"),
        pytest.param("POST", "/v1/messages", b'{"model":"m"}', 400, "invalid_request_error",
                     "Object missing required field `messages`", id="no messages"),
        pytest.param("POST", "/v1/messages",
                     b'{"model":"m","messages":[{"role":"user","content":"x"}]}', 400,
                     "invalid_request_error", "Object missing required field `max_tokens`",
                     id="no max_tokens"),
        pytest.param("POST", "/v1/messages", b'{"model":"m","max_tokens":1,"messages":[]}', 400,
                     "invalid_request_error", "Expected `array` of length >= 1", id="no message"),
        pytest.param("POST", "/v1/messages", msgspec.json.encode(ask("hi", model="gpt")), 404,
                     "not_found_error", "model: gpt", id="unknown model"),
        pytest.param("POST", "/v1/messages", msgspec.json.encode(ask(
            [{"type": "tool_result", "tool_use_id": "t", "content": 7}])), 400,
                     "invalid_request_error", "Expected `str | array | null`", id="odd result"),
        pytest.param("POST", "/v1/messages", msgspec.json.encode(ask("[[demo nonsense]]")), 400,
                     "invalid_request_error", "unknown demo directive nonsense", id="directive"),
        pytest.param("POST", "/v1/messages", b" " * (BODY_LIMIT_BYTES + 1), 413,
                     "request_too_large", "", id="one byte too many"),
        pytest.param("POST", "/v1/messages", b" " * (BODY_LIMIT_BYTES + 2), 413,
                     "request_too_large", "", id="beyond the reader's limit"),
        pytest.param("POST", "/v1/complete", b"{}", 404, "not_found_error",
                     "Not Found: POST /v1/complete", id="unknown path"),
        pytest.param("GET", "/v1/messages", b"", 405, "invalid_request_error",
                     "Method Not Allowed: GET /v1/messages", id="wrong method"),
        pytest.param("GET", "/v1/models/gpt", b"", 404, "not_found_error", "model: gpt",
                     id="unknown model by id"),
        pytest.param("GET", "/v1/models?limit=0", b"", 400, "invalid_request_error", "limit: ",
                     id="bad limit"),
        pytest.param("GET", "/v1/models?after_id=gpt", b"", 400, "invalid_request_error",
                     "after_id: no such model", id="bad cursor"),
    ],
)  # fmt: skip
async def test_errors_have_the_shape_of_the_api(
    claude: Client, method: str, path: str, body: bytes, status: int, kind: str, message: str
) -> None:
    async with claude.request(method, path, data=BytesIO(body), headers=AUTH) as response:
        answer = await response.json()
        said = answer["error"].pop("message")
        assert (response.status, answer) == (
            status,
            {
                "type": "error",
                "error": {"type": kind},
                "request_id": response.headers["request-id"],
            },
        )
        assert said.startswith(message)


async def test_a_wrong_method_is_told_the_right_ones(claude: Client) -> None:
    async with claude.get("/v1/messages", headers=AUTH) as response:
        assert response.headers["Allow"] == "POST"


async def test_a_plain_answer_says_that_it_is_a_demo(claude: Client) -> None:
    content = [
        {"type": "text", "text": "<system-reminder>[[demo fail=500]]</system-reminder>"},
        {"type": "text", "text": " Hello\n there ", "cache_control": {"type": "ephemeral"}},
    ]
    body = ask(content, context_management={"edits": []}, never_heard_of=1)
    body["messages"].append({"role": "system", "content": "the plan mode is on"})
    async with claude.post("/v1/messages?beta=true", json=body, headers=AUTH) as response:
        answer = await response.json()
        assert response.content_type == "application/json"
    assert answer.pop("id").startswith("msg_")
    assert answer == {
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-8",
        "content": [{"type": "text", "text": f"{NOTICE} You said: Hello there"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 22,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 20,
            "service_tier": "standard",
        },
    }


async def test_a_stream_has_the_events_of_the_api(claude: Client) -> None:
    body = ask("[[demo length=20]]", stream=True)
    async with claude.post("/v1/messages", json=body, headers=AUTH) as response:
        text = await response.text()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["request-id"].startswith("req_")
    events = read_events(text)
    assert all(data["type"] == name for name, data in events)
    message = events[0][1]["message"]
    assert message.pop("id").startswith("msg_")
    usage = {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 1,
        "service_tier": "standard",
    }
    place = {"type": "content_block_delta", "index": 0}
    assert [data for _, data in events] == [
        {
            "type": "message_start",
            "message": {
                "type": "message",
                "role": "assistant",
                "model": "claude-opus-4-8",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "stop_details": None,
                "usage": usage,
            },
        },
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        place | {"delta": {"type": "text_delta", "text": NOTICE[:8]}},
        place | {"delta": {"type": "text_delta", "text": NOTICE[8:16]}},
        place | {"delta": {"type": "text_delta", "text": NOTICE[16:20]}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None},
            "usage": usage | {"output_tokens": 6},
        },
        {"type": "message_stop"},
    ]


async def test_what_stands_before_a_cache_mark_counts_as_cached(claude: Client) -> None:
    mark = {"type": "ephemeral"}
    body = ask("hi", system=[{"type": "text", "text": "Be kind." * 50, "cache_control": mark}])
    async with claude.post("/v1/messages", json=body, headers=AUTH) as response:
        usage = (await response.json())["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (1, 118)


async def test_tokens_are_counted_without_max_tokens(claude: Client) -> None:
    body = ask("x" * 400 + "[[demo fail=500]]")
    del body["max_tokens"]
    path = "/v1/messages/count_tokens?beta=true"
    async with claude.post(path, json=body, headers=AUTH) as response:
        assert (response.status, await response.json()) == (200, {"input_tokens": 105})


async def test_a_structured_output_is_json_of_its_schema_and_not_steered(claude: Client) -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    config = {"format": {"type": "json_schema", "schema": schema}}
    body = ask("[[demo fail=500]] [[nonsense", tools=[], output_config=config)
    async with claude.post("/v1/messages", json=body, headers=AUTH) as response:
        content = (await response.json())["content"]
    assert content == [{"type": "text", "text": '{"title":"Demo session"}'}]


async def test_models_come_in_pages(claude: Client) -> None:
    async with claude.get("/v1/models?limit=2", headers=AUTH) as response:
        first = await response.json()
    async with claude.get(
        f"/v1/models?limit=1000&after_id={first['last_id']}", headers=AUTH
    ) as response:
        second = await response.json()
    async with claude.get(f"/v1/models/{first['first_id']}", headers=AUTH) as response:
        shown = await response.json()
    opus = {
        "type": "model",
        "id": "claude-opus-5-5",
        "display_name": "Claude Opus 5.5 (demo)",
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
    }
    assert shown == first["data"][0] == opus
    assert [model["id"] for model in first["data"] + second["data"]] == list(DEFAULT_MODELS)
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert second["last_id"] == DEFAULT_MODELS[-1]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_is_where_a_demo_may_bind(host: str) -> None:
    assert require_loopback(host) == host


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "demo.example.org"])
def test_a_demo_binds_nowhere_else(host: str) -> None:
    with pytest.raises(ValueError, match="loopback"):
        require_loopback(host)


def test_a_demo_without_a_key_is_not_built() -> None:
    with pytest.raises(ValueError, match="needs a key"):
        build("")
