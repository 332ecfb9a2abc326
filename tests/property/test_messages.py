"""Messages as bytes: any chunking gives the same events; any bytes give a body or a refusal."""

import json
from functools import reduce
from itertools import pairwise
from typing import Any
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain import Refusal
from gateway.messages import answers
from gateway.messages.answers import read_prompt_text, read_response_text
from gateway.messages.body import parse
from gateway.messages.facts import Facts, Said, hear, prompt_parts, read_facts, read_text
from gateway.messages.recordable import make_recordable
from gateway.messages.sse import EventReader, NotEvents, Unreadable, encode_event, read_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)
LINES = st.sampled_from(
    [
        b"event: x", b"event: ping", b'data: {"a": 1}', b'data: {"type": "y"}', b"data: {",
        b"data:[]", b'data: {"a": "\xff"}', b'data: {"a": 1, "a": 2}', b"data: " + b"[" * 5000,
        b": comment", b"", b"id: 1", b"\xff", b"\xef\xbb\xbfdata: {}",
    ]
)  # fmt: skip
FIELDS = ["model", "stream", "max_tokens", "tools", "messages", "system", "mcp_servers", "metadata"]
NEWLINES = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(
    lines=st.lists(st.tuples(LINES, NEWLINES), max_size=12),
    cuts=st.lists(st.integers(0, 200), max_size=6),
)
def test_any_chunking_of_a_stream_gives_every_byte_once(
    lines: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    raw = b"".join(line + newline for line, newline in lines)
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    reader = EventReader()
    seen = b""
    try:
        for start, end in pairwise(edges):
            seen += b"".join(event.raw for event in reader.feed(raw[start:end]))
    except NotEvents:
        return
    assert raw.startswith(seen)
    assert raw[len(seen) :].strip() == reader.finish()


@given(value=JSON)
def test_an_answer_is_read_as_json_reads_it(value: Any) -> None:
    assert read_json(json.dumps(value).encode()) == value
    assert read_json(json.dumps(value, ensure_ascii=False, indent=1).encode()) == value


@given(
    names=st.lists(st.sampled_from(["a", '"', "\\", "\u00e9"]), max_size=4),
    value=st.text(max_size=3),
)
def test_an_object_that_names_a_field_twice_is_refused(names: list[str], value: str) -> None:
    for is_ascii in (True, False):
        letters = (json.dumps(letter, ensure_ascii=is_ascii)[1:-1] for letter in value)
        text = "".join("\\u0022" if each == '\\"' else each for each in letters)
        fields = [f'{json.dumps(name, ensure_ascii=is_ascii)}: "{text}"' for name in names]
        body = f"[{{{', '.join(fields)}}}]".encode()
        try:
            assert read_json(body) == [dict.fromkeys(names, value)]
            assert len(set(names)) == len(names)
        except Unreadable:
            assert len(set(names)) < len(names)


@given(body=st.binary(max_size=60))
@example(b'{"a":1,"a":2}')
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_a_body_or_a_refusal(body: bytes) -> None:
    try:
        assert isinstance(parse(body), dict)
    except Refusal as e:
        assert e.status == 400


@given(value=st.dictionaries(st.text(max_size=8), JSON))
def test_a_body_is_read_as_json_reads_it(value: dict[str, Any]) -> None:
    assert parse(json.dumps(value).encode()) == value


@given(
    fields=st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON)),
)
def test_any_json_has_facts_or_is_refused_and_can_be_recorded(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    make_recordable(body, fields)
    try:
        assert isinstance(facts_of(parse(body)), Facts)
    except Refusal as e:
        assert e.code == "body.wrong_type"


def parts_of(body: dict[str, Any]) -> list[Any]:
    """Return all parts of a prompt."""
    messages, system, tools = prompt_parts(body)
    return [*messages, system, tools]


def facts_of(body: dict[str, Any]) -> Facts:
    """Return the facts of a body, nothing of it known before."""
    return read_facts(body, reduce(Said.plus, map(hear, parts_of(body))))


def prompt_of(body: dict[str, Any]) -> str:
    """Return what signals look at."""
    return "\n".join(map(read_text, parts_of(body)))


PDF = {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}
TOOL_USE = {
    "type": "tool_use",
    "id": "t",
    "name": "Bash",
    "input": {"command": "ls", "source": {"type": "url"}},
}


def test_the_facts_of_a_request() -> None:
    body = {
        "model": "claude-sonnet-4-5",
        "stream": True,
        "max_tokens": 5,
        "system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "Bash", "input_schema": {}}, {"type": "web_search_1", "name": "search"}],
        "mcp_servers": [{"url": "https://mcp.acme.test/x"}, {"url": 5}],
        "metadata": {"user_id": json.dumps({"session_id": "s-1"})},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "source": {"type": "url", "url": "https://x"}},
                    {"type": "document", "source": PDF},
                ],
            },
            {"role": "assistant", "content": [TOOL_USE]},
        ],
    }
    facts = facts_of(body)
    assert prompt_of(body) == "look\nhttps://x\nls\nurl\nbe kind\n"
    assert (facts.model, facts.stream, facts.max_tokens, facts.messages) == (
        "claude-sonnet-4-5",
        True,
        5,
        2,
    )
    assert (facts.tools, facts.server_tools) == (("Bash", "search"), ("web_search_1",))
    assert facts.mcp_hosts == ("mcp.acme.test", "unreadable")
    assert [(s.kind, s.media_type) for s in facts.sources] == [
        ("base64", "application/pdf"),
        ("url", ""),
    ]
    assert facts.session_id == "s-1"


def test_bearer_tokens_of_mcp_servers_are_not_recorded() -> None:
    body = b'{"mcp_servers": [{"url": "https://x", "\\u0061uthorization_token": "SECRET"}]}'
    assert b"SECRET" not in make_recordable(body, parse(body))
    plain = b'{ "mcp_servers" : [ ] , "x": "authorization_token" }'
    assert make_recordable(plain, parse(plain)) == plain


def test_texts_for_the_record() -> None:
    blocks = [{"type": "text", "text": "c"}]
    turns = [("user", "a"), ("assistant", "b"), ("user", blocks)]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert read_prompt_text([json.dumps({"messages": messages}).encode()]) == "c"
    assert (
        read_response_text("application/json", b'{"content":[{"type":"text","text":"x"}]}') == "x"
    )
    stream = b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"y"}}\n\n'
    assert read_response_text("text/event-stream", stream * 2) == "yy"


PLAIN = st.builds(
    encode_event,
    st.sampled_from(["content_block_start", "content_block_delta", "message_delta", "ping"]),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["content_block_start", "content_block_delta", "ping"])},
        optional={
            "delta": st.one_of(
                st.builds(lambda text: {"type": "text_delta", "text": text}, st.text()),
                st.builds(lambda text: {"type": "input_json_delta", "text": text}, st.text()),
                st.just({"stop_reason": None, "text": 3}),
                st.none(),
            )
        },
    ),
)
ODD = st.sampled_from(
    [
        b"\n\n",
        b": a comment\n\n",
        b'data: {"type":"content_block_delta",\ndata: "delta":{"type":"text_delta","text":"y"}}'
        b"\n\n",
        b'event: content_block_delta\r\ndata: {"delta":{"type":"text_delta","text":"z"}}\r\n\r\n',
        b'event: content_block_delta\nid: 1\ndata: {"delta":{"type":"text_delta","text":"w"}}\n\n',
        b"event: ping\ndata: no json\n\n",
        b"event: torn",
    ]
)


@given(st.lists(st.one_of(PLAIN, ODD), max_size=8), st.booleans())
def test_the_quick_and_the_careful_way_find_the_same_text(
    events: list[bytes], is_first: bool
) -> None:
    stream = b"".join(events)
    quick = answers.read_stream_part(stream, is_first=is_first)
    with mock.patch.object(answers, "_read_plainly", return_value=[]):
        assert quick == answers.read_stream_part(stream, is_first=is_first)


def test_everything_that_is_text_is_looked_at() -> None:
    text = {"type": "text", "media_type": "text/plain", "data": "in a document"}
    body = {
        "tools": [
            {"name": "t", "description": "in a tool", "input_schema": {"name": "in a schema"}}
        ],
        "messages": [
            {"role": "user", "content": [{"type": "document", "source": text}]},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "input": {"data": "in a call"}}],
            },
        ],
    }
    prompt = prompt_of(body)
    for words in ("in a tool", "in a schema", "in a document", "in a call"):
        assert words in prompt
    assert "AAAA" not in prompt_of({"messages": [{"content": [{"source": PDF}]}]})
