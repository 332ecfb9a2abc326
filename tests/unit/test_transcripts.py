"""What a transcript takes from recorded bodies."""

import json
from typing import Any

import pytest
from support.exchanges import detail, stream

from gateway.console.exports.transcript import Block, Turn, read_turn


def text(said: str) -> Block:
    return Block(kind="text", text=said)


def asked(*messages: tuple[str, Any]) -> tuple[Block, ...]:
    body = {"messages": [{"role": role, "content": content} for role, content in messages]}
    return read_turn(detail(request_body=json.dumps(body).encode())).asked


def streamed(*events: tuple[str, dict[str, Any]]) -> tuple[Block, ...]:
    kind = {"content-type": "text/event-stream"}
    return read_turn(detail(response_body=stream(*events), response_headers=kind)).answered


def test_a_first_turn_is_asked_whole() -> None:
    assert asked(("user", "a"), ("user", "b")) == (text("a"), text("b"))


def test_of_a_later_turn_only_what_is_new_is_asked() -> None:
    assert asked(("user", "a"), ("assistant", "b"), ("user", "c")) == (text("c"),)


def test_how_the_answer_is_to_begin_belongs_to_the_new_turn() -> None:
    turns = (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "It is"))
    assert asked(*turns) == (text("c"), text("It is"))


def test_each_kind_of_block_is_named() -> None:
    blocks = [
        {"type": "text", "text": "look"},
        {"type": "tool_result", "tool_use_id": "t1", "content": "done"},
        {"type": "tool_result", "content": [{"type": "text", "text": "a"}, {"type": "image"}]},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
        {"type": "new", "field": 1},
    ]
    assert asked(("user", blocks)) == (
        text("look"),
        Block(kind="tool result", title="t1", text="done"),
        Block(kind="tool result", text='a\n{\n  "type": "image"\n}'),
        Block(kind="image", title="image/png", text="69 characters"),
        Block(kind="new", text='{\n  "type": "new",\n  "field": 1\n}'),
    )


def test_a_stream_is_put_together_again() -> None:
    assert streamed(
        ("content_block_start", {"index": 0, "content_block": {"type": "thinking"}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "thinking_delta", "thinking": "h"}}),
        (
            "content_block_delta",
            {"index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        ),
        ("content_block_start", {"index": 1, "content_block": {"type": "text", "text": "A"}}),
        (
            "content_block_start",
            {"index": 2, "content_block": {"type": "tool_use", "name": "Bash"}},
        ),
        ("content_block_delta", {"index": 1, "delta": {"type": "text_delta", "text": "B"}}),
        (
            "content_block_delta",
            {"index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":'}},
        ),
        (
            "content_block_delta",
            {"index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
        ),
        ("error", {"error": {"type": "overloaded_error"}}),
    ) == (
        Block(kind="thinking", text="h"),
        text("AB"),
        Block(kind="tool call", title="Bash", text='{\n  "a": 1\n}'),
        Block(kind="error", text='{\n  "type": "overloaded_error"\n}'),
    )


def test_input_of_a_tool_that_broke_off_is_shown_as_far_as_it_came() -> None:
    assert streamed(
        (
            "content_block_start",
            {"index": 0, "content_block": {"type": "tool_use", "name": "Bash"}},
        ),
        (
            "content_block_delta",
            {"index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"a'}},
        ),
    ) == (Block(kind="tool call", title="Bash", text='{"a'),)


def test_an_error_is_shown_whole() -> None:
    body = {"type": "error", "error": {"type": "api_error"}}
    found = detail(response_body=json.dumps(body).encode())
    assert read_turn(found).answered == (Block(kind="error", text=json.dumps(body, indent=2)),)


@pytest.mark.parametrize(
    ("body", "texts", "expected"),
    [
        pytest.param(None, (None, None), Turn(asked=(), answered=()), id="nothing kept"),
        pytest.param(
            None, ("a", "b"), Turn(asked=(text("a"),), answered=(text("b"),)), id="texts only"
        ),
        pytest.param(
            b"no JSON",
            ("a", "b"),
            Turn(asked=(text("no JSON"),), answered=(text("no JSON"),)),
            id="bytes that are no JSON",
        ),
    ],
)
def test_what_cannot_be_read_is_shown_as_it_is(
    body: bytes | None, texts: tuple[str | None, str | None], expected: Turn
) -> None:
    found = detail(
        request_body=body, response_body=body, prompt_text=texts[0], response_text=texts[1]
    )
    assert read_turn(found) == expected
