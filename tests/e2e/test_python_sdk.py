"""The Python SDK through the whole product, next to what the demo Claude says to it directly."""

from collections.abc import Callable
from typing import Any

import anthropic
import pytest
from anthropic.types import Message
from support.deployment import Deployment

from e2e.clients import MODEL, NOTICE, all_recorded, question, recorded, untagged, without_ids
from gateway.demo.specimens import specimen

pytestmark = pytest.mark.e2e

Ask = Callable[..., Message]
COLUMNS = "client_name, stream, outcome, ending, prompt_text, masks_applied"
TOOL = {"name": "weather", "description": "The weather.", "input_schema": {"type": "object"}}
THINKING = {"type": "enabled", "budget_tokens": 1024}


def plain(sdk: anthropic.Anthropic, prompt: str, **fields: Any) -> Message:
    message: Message = sdk.messages.create(**question(prompt, **fields))
    return message


def streamed(sdk: anthropic.Anthropic, prompt: str, **fields: Any) -> Message:
    with sdk.messages.stream(**question(prompt, **fields)) as stream:
        return stream.get_final_message()


both_ways = pytest.mark.parametrize("ask", [plain, streamed])


def content(message: Message) -> list[dict[str, Any]]:
    return [block.to_dict() for block in message.content]


def row(ask: Ask, prompt: str, **fields: object) -> dict[str, object]:
    """Return the record of an ordinary call, but for some fields."""
    ordinary = {
        "client_name": "Anthropic/Python",
        "stream": ask is streamed,
        "outcome": "allow",
        "ending": "delivered",
        "prompt_text": prompt,
        "masks_applied": [],
    }
    return ordinary | fields


@both_ways
def test_an_answer_is_the_one_that_claude_gives(
    ask: Ask,
    client: anthropic.Anthropic,
    direct: anthropic.Anthropic,
    deployment: Deployment,
    user: str,
) -> None:
    ours, its = ask(client, "Hello."), ask(direct, "Hello.")
    assert without_ids(ours.to_json()) == without_ids(its.to_json())
    assert recorded(deployment, user, f"{COLUMNS}, response_id") == [
        row(ask, "Hello.", response_id=ours.id)
    ]


@both_ways
def test_a_tool_is_used_and_its_result_goes_back(
    ask: Ask, client: anthropic.Anthropic, deployment: Deployment, user: str
) -> None:
    prompt = '[[demo tool=weather input={"city": "Bern"}]]'
    said = content(ask(client, prompt, tools=[TOOL]))
    use = said[1]
    assert use == {
        "type": "tool_use",
        "id": use["id"],
        "name": "weather",
        "input": {"city": "Bern"},
    }
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": "sunny"}
    turns = [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": said},
        {"role": "user", "content": [result]},
    ]
    assert content(ask(client, "", tools=[TOOL], messages=turns)) == [
        {"type": "text", "text": f"{NOTICE} The tool answered: sunny"}
    ]
    columns = "tools, tool_calls, stop_reason, message_count"
    assert [tuple(row.values()) for row in recorded(deployment, user, columns, 2)] == [
        (["weather"], ["weather"], "tool_use", 1),
        (["weather"], [], "end_turn", 3),
    ]


@both_ways
def test_thinking_goes_back_with_its_signature(ask: Ask, client: anthropic.Anthropic) -> None:
    said = content(ask(client, "[[demo thinking]]", thinking=THINKING))
    turns = [
        {"role": "user", "content": "[[demo thinking]]"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": "go on"},
    ]
    last = content(ask(client, "", thinking=THINKING, messages=turns))
    assert [block["type"] for block in said] == ["thinking", "text"]
    assert last == [{"type": "text", "text": f"{NOTICE} You said: go on"}]


@both_ways
def test_a_secret_in_the_answer_is_masked(
    ask: Ask, client: anthropic.Anthropic, deployment: Deployment, user: str
) -> None:
    prompt = "[[demo secret=github split=3]]"
    said = content(ask(client, prompt))
    told = "Push with the token [masked:github_token], as always."
    assert [untagged(block["text"]) for block in said] == [f"{NOTICE} {told}"]
    assert specimen("github") not in str(said)
    masks = [{"rule": "github_token", "place": "text", "count": 1}]
    columns = f"{COLUMNS}, response_text"
    assert recorded(deployment, user, columns) == [
        row(ask, prompt, masks_applied=masks, response_text=said[0]["text"])
    ]


@both_ways
def test_a_denial_is_raised_after_one_request(
    ask: Ask, client: anthropic.Anthropic, deployment: Deployment, user: str
) -> None:
    with pytest.raises(anthropic.PermissionDeniedError) as caught:
        ask(client, "Hello.", model="claude-mythos-1")
    (only,) = all_recorded(deployment, user, f"exchange_id, {COLUMNS}, reasons")
    sentence = 'None of your groups grants the model "claude-mythos-1".'
    exchange_id = only.pop("exchange_id")
    assert caught.value.body == {
        "type": "error",
        "error": {
            "type": "permission_error",
            "message": f"{sentence} [models.not_granted, {exchange_id}]",
        },
        "request_id": exchange_id,
    }
    refused = {"outcome": "deny", "ending": "refused", "reasons": ["models.not_granted"]}
    assert only == row(ask, "Hello.", **refused)


def test_tokens_are_counted_as_claude_counts_them(
    client: anthropic.Anthropic, direct: anthropic.Anthropic, deployment: Deployment, user: str
) -> None:
    messages = [{"role": "user", "content": "x" * 40}]
    ours, its = (
        sdk.messages.count_tokens(model=MODEL, messages=messages)  # type: ignore[arg-type]  # the SDK wants its own type
        for sdk in (client, direct)
    )
    assert ours.to_dict() == its.to_dict()
    assert recorded(deployment, user, "route, outcome, prompt_text") == [
        {"route": "count_tokens", "outcome": "allow", "prompt_text": "x" * 40}
    ]


def test_the_models_are_those_of_claudes_that_policy_grants(
    client: anthropic.Anthropic, direct: anthropic.Anthropic, deployment: Deployment, user: str
) -> None:
    ours, its = (
        [model.to_dict() for model in sdk.models.list(limit=2)] for sdk in (client, direct)
    )
    granted = ("claude-opus-5-5", "claude-opus-4-8", "claude-haiku-4-5-20251001")
    assert ours == [model for model in its if model["id"] in (*granted, "claude-sonnet-4-5")]
    assert len(ours) < len(its)
    recorded_pages = recorded(deployment, user, "route, outcome, ending")
    page = {"route": "models", "outcome": "allow", "ending": "delivered"}
    assert recorded_pages == [page] * len(recorded_pages)


def test_one_model_is_shown_if_policy_grants_it(
    client: anthropic.Anthropic, direct: anthropic.Anthropic
) -> None:
    ours, its = (sdk.models.retrieve(MODEL).to_dict() for sdk in (client, direct))
    assert ours == its
    assert direct.models.retrieve("claude-sonnet-4-6").id == "claude-sonnet-4-6"
    with pytest.raises(anthropic.PermissionDeniedError, match="None of your groups grants"):
        client.models.retrieve("claude-sonnet-4-6")


def test_batches_and_files_are_refused_with_the_reason(client: anthropic.Anthropic) -> None:
    why = "keeps them under one credential for everyone"
    with pytest.raises(anthropic.PermissionDeniedError, match=why):
        client.messages.batches.list()
    with pytest.raises(anthropic.PermissionDeniedError, match=why):
        client.beta.files.list()
