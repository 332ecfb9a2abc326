"""The Python SDK takes the demo Claude for the real one, over a real loopback connection."""

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from pytest_aiohttp import AiohttpServer

from gateway.demo.answers import NOTICE
from gateway.demo.claude import DEFAULT_MODELS, build

anthropic: Any = import_module("anthropic")  # untyped: answers of the demo are odd on purpose

KEY = "demo-endpoint-key"
MODEL = "claude-opus-4-8"
TOOL = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}}
THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture
async def server(aiohttp_server: AiohttpServer) -> TestServer:
    return await aiohttp_server(build(KEY))


@pytest.fixture
async def client(server: TestServer) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(
        base_url=str(server.make_url("/")), auth_token=KEY, max_retries=0
    ) as client:
        yield client


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


async def create(client: Any, text: str, **fields: Any) -> Any:
    asked = {"model": MODEL, "max_tokens": 2048, "messages": [user(text)]} | fields
    return await client.messages.create(**asked)


@pytest.mark.parametrize("credential", ["auth_token", "api_key"])
async def test_a_plain_answer(server: TestServer, credential: str) -> None:
    url = str(server.make_url("/"))
    async with anthropic.AsyncAnthropic(base_url=url, **{credential: KEY}) as client:
        said = await create(client, "hello")
    assert [block.to_dict() for block in said.content] == [
        {"type": "text", "text": f"{NOTICE} You said: hello"}
    ]
    assert said._request_id.startswith("req_")


async def test_the_stream_helper_gives_the_plain_answer(client: Any) -> None:
    plain = (await create(client, "hello", system="Be kind.")).to_dict()
    async with client.messages.stream(
        model=MODEL, max_tokens=64, system="Be kind.", messages=[user("hello")]
    ) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        streamed = (await stream.get_final_message()).to_dict()
    assert text == f"{NOTICE} You said: hello"
    assert streamed | {"id": plain["id"]} == plain


async def test_a_tool_round_trip(client: Any) -> None:
    prompt = '[[demo tool=weather input={"city": "Bern"}]]'
    async with client.messages.stream(
        model=MODEL, max_tokens=64, tools=[TOOL], messages=[user(prompt)]
    ) as stream:
        said = await stream.get_final_message()
    use = said.content[1]
    assert (said.stop_reason, use.name, use.input) == ("tool_use", "weather", {"city": "Bern"})
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    turns = [
        user(prompt),
        {"role": "assistant", "content": said.content},
        {"role": "user", "content": [result]},
    ]
    last = await create(client, "", tools=[TOOL], messages=turns)
    assert (last.stop_reason, last.content[0].text) == (
        "end_turn",
        f"{NOTICE} The tool answered: sunny",
    )


async def test_a_tool_result_may_be_empty(client: Any) -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1"}
    said = await create(client, "", messages=[{"role": "user", "content": [result]}])
    assert said.content[0].text == f"{NOTICE} The tool answered: "


async def test_thinking_goes_round_only_unchanged(client: Any) -> None:
    prompt = "[[demo thinking]]"
    async with client.messages.stream(
        model=MODEL, max_tokens=2048, thinking=THINKING, messages=[user(prompt)]
    ) as stream:
        said = await stream.get_final_message()
    thought, _ = content = [block.to_dict() for block in said.content]
    assert thought["type"] == "thinking"
    turns = [user(prompt), {"role": "assistant", "content": content}, user("go on")]
    last = await create(client, "", thinking=THINKING, messages=turns)
    assert last.content[0].text == f"{NOTICE} You said: go on"
    thought["thinking"] = "I thought of something else."
    with pytest.raises(anthropic.BadRequestError, match="`signature` that is not ours"):
        await create(client, "", thinking=THINKING, messages=turns)


async def test_tokens_are_counted(client: Any) -> None:
    counted = await client.messages.count_tokens(model=MODEL, messages=[user("x" * 40)])
    assert counted.to_dict() == {"input_tokens": 11}


async def test_models_are_listed_over_pages(client: Any) -> None:
    listed = [model.id async for model in client.models.list(limit=3)]
    one = await client.models.retrieve(MODEL)
    assert (listed, one.display_name) == (list(DEFAULT_MODELS), "Claude Opus 4.8 (demo)")


async def test_a_structured_output_is_parsed(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }
    config = {"format": {"type": "json_schema", "schema": schema}}
    said = await create(client, "hi", output_config=config)
    assert said.content[0].text == '{"title":"Demo session"}'


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "BadRequestError", "invalid_request_error"),
        (401, "AuthenticationError", "authentication_error"),
        (403, "PermissionDeniedError", "permission_error"),
        (413, "ContentTooLargeError", "request_too_large"),
        (429, "RateLimitError", "rate_limit_error"),
        (500, "InternalServerError", "api_error"),
        (529, "OverloadedError", "overloaded_error"),
    ],
)
async def test_errors_are_of_the_sdks_classes(
    client: Any, status: int, error: str, kind: str
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await create(client, f"[[demo fail={status}]]")
    assert (type(caught.value).__name__, caught.value.type) == (error, kind)
    assert caught.value.request_id == caught.value.body["request_id"]


async def test_an_unknown_model_is_not_found(client: Any) -> None:
    with pytest.raises(anthropic.NotFoundError, match="model: gpt"):
        await create(client, "hi", model="gpt")


async def listen(client: Any, text: str) -> Any:
    async with client.messages.stream(model=MODEL, max_tokens=64, messages=[user(text)]) as stream:
        return await stream.get_final_message()


async def test_an_error_in_the_stream_is_raised(client: Any) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        await listen(client, "[[demo stream-error]]")
    assert caught.value.type == "overloaded_error"


async def test_a_clean_break_looks_whole_to_the_sdk(client: Any) -> None:
    said = await listen(client, "[[demo clean-break=4]]")
    assert (said.stop_reason, said.content[0].text) == (None, NOTICE[:8])


async def test_a_client_that_leaves_a_stream_is_no_error(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    prompt = "[[demo pace=5 break=9]]"
    async with client.messages.stream(
        model=MODEL, max_tokens=64, messages=[user(prompt)]
    ) as stream:
        assert (await anext(aiter(stream))).type == "message_start"
    await create(client, "[[demo slow=0.1]]")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
