"""Masking of whole answers, and where a hit blocks."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from support.fakes import MASKS

from gateway.masking.answers import AnswerMasker, Blocked
from gateway.masking.rules import BadRule, MaskTable, compile_rules
from gateway.messages.sse import EventReader, NotEvents, Unreadable, encode_event
from gateway.records import MaskApplied

SECRET = "AKIA0123456789ABCDEF"
RULES = list(compile_rules(msgspec.convert(MASKS, MaskTable)).values())
FIELDS = {"pw": {"kind": "field", "title": "t", "names": ["password"], "replace": "[pw]"}}
FIELD_RULES = list(compile_rules(msgspec.convert(FIELDS, MaskTable)).values())


def message(*blocks: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"type": "message", "id": SECRET, "content": list(blocks)})


def test_an_answer_without_a_match_keeps_its_very_bytes() -> None:
    body = b'{ "type":"message" , "content":[ {"type":"text","text":"\\u0068i"} ] }'
    assert AnswerMasker(RULES).mask_body(body) == body


def test_text_is_masked_and_counted_and_ids_are_left_alone() -> None:
    masker = AnswerMasker(RULES)
    masked = masker.mask_body(message({"type": "text", "text": f"a {SECRET} b {SECRET}"}))
    assert masked == message({"type": "text", "text": "a [masked] b [masked]"})
    (applied,) = masker.tally.applied()
    assert (applied.rule, applied.where, applied.count) == ("aws", "text", 2)


@pytest.mark.parametrize(
    ("block", "where", "masked"),
    [
        pytest.param(
            {"type": "thinking", "thinking": SECRET},
            "thinking",
            {"type": "thinking", "thinking": "[masked]"},
            id="thinking",
        ),
        pytest.param(
            {"type": "tool_use", "input": {"a": [SECRET, {"data": SECRET}]}},
            "tool_input",
            {"type": "tool_use", "input": {"a": ["[masked]", {"data": "[masked]"}]}},
            id="tool input, also where other content is opaque",
        ),
        pytest.param(
            {"type": "server_tool_use", "input": {"query": SECRET}},
            "tool_input",
            {"type": "server_tool_use", "input": {"query": "[masked]"}},
            id="input of a tool of the server",
        ),
        pytest.param(
            {"type": "web_search_tool_result", "content": [{"title": SECRET, "url": "x"}]},
            "block",
            {"type": "web_search_tool_result", "content": [{"title": "[masked]", "url": "x"}]},
            id="result of a tool of the server",
        ),
        pytest.param({"type": [SECRET]}, "block", {"type": ["[masked]"]}, id="type that is a list"),
        pytest.param(
            {"type": "novel", "data": SECRET, "signature": SECRET, "id": {"x": SECRET}},
            "block",
            {"type": "novel", "data": "[masked]", "signature": "[masked]", "id": {"x": "[masked]"}},
            id="unknown block: nothing of it is opaque but an id",
        ),
        pytest.param(
            {"type": "text", "text": "", "citations": [{"cited_text": SECRET}]},
            "text",
            {"type": "text", "text": "", "citations": [{"cited_text": "[masked]"}]},
            id="citation",
        ),
    ],
)
def test_a_value_is_replaced_wherever_it_stands(
    block: dict[str, Any], where: str, masked: dict[str, Any]
) -> None:
    count = str(block).count(SECRET)
    masker = AnswerMasker(RULES)
    assert masker.mask_body(message(block)) == message(masked)
    assert masker.tally.applied() == (MaskApplied(rule="aws", where=where, count=count),)


@pytest.mark.parametrize(
    ("block", "where"),
    [
        pytest.param({"type": "tool_use", "input": {SECRET: 1}}, "tool_input", id="tool key"),
        pytest.param({"type": "novel", SECRET: 1}, "block", id="name in an unknown block"),
        pytest.param({"type": "text", "text": "", SECRET: 1}, "text", id="name in a text"),
    ],
)
def test_a_hit_in_the_name_of_a_field_ends_the_answer(block: dict[str, Any], where: str) -> None:
    with pytest.raises(Blocked) as blocked:
        AnswerMasker(RULES).mask_body(message(block))
    assert (blocked.value.rule, blocked.value.where) == ("aws", where)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param({"type": "thinking", "thinking": "", "signature": SECRET}, id="signature"),
        pytest.param({"type": "redacted_thinking", "data": SECRET}, id="redacted thinking"),
        pytest.param({"type": "x", "y": {"encrypted_content": SECRET}}, id="encrypted content"),
        pytest.param({"type": "x", "source": {"type": "base64", "data": SECRET}}, id="base64"),
    ],
)
def test_signatures_and_encrypted_content_are_never_looked_at(block: dict[str, Any]) -> None:
    assert AnswerMasker(RULES).mask_body(message(block)) == message(block)


def test_an_error_body_is_masked_too() -> None:
    body = b'{"type":"error","error":{"type":"api_error","message":"bad %s"}}' % SECRET.encode()
    assert SECRET.encode() not in AnswerMasker(RULES).mask_body(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({SECRET: 1}, id="name in an error"),
        pytest.param([{"a": {SECRET: 1}}], id="name within a list"),
        pytest.param({"type": "message", "content": [], "note": {SECRET: 1}}, id="name beside"),
    ],
)
def test_a_name_cannot_be_replaced(body: Any) -> None:
    with pytest.raises(Blocked):
        AnswerMasker(RULES).mask_body(msgspec.json.encode(body))


def test_every_string_of_a_body_that_is_no_message_is_masked() -> None:
    body = msgspec.json.encode({"data": [SECRET, {"type": SECRET}]})
    masked = msgspec.json.encode({"data": ["[masked]", {"type": "[masked]"}]})
    assert AnswerMasker(RULES).mask_body(body) == masked
    assert AnswerMasker(RULES).mask_body(b'"%b"' % SECRET.encode()) == b'"[masked]"'


def test_a_value_that_was_read_before_is_masked_in_place() -> None:
    value = {"type": "error", "error": {"message": SECRET}}
    body = AnswerMasker(RULES).mask_body(msgspec.json.encode(value), value)
    assert value == {"type": "error", "error": {"message": "[masked]"}}
    assert body == msgspec.json.encode(value)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"type":"message","content":[],"a":"x","a":"y"}', id="twice"),
        pytest.param(b'{"a":"x","a":"\\u0022\\u0022"}', id="twice, escaped quotes"),
        pytest.param(b'{"a":[{"b":1,"\\u0062":2}]}', id="twice, by an escape"),
        pytest.param(b'{"a":"\xff"}', id="not UTF-8"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="too deep"),
        pytest.param(b"<p>", id="no JSON"),
    ],
)
def test_a_body_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(Unreadable):
        AnswerMasker(RULES).mask_body(body)


@pytest.mark.parametrize("depth", range(50, 1200, 50))
def test_at_any_depth_a_body_is_masked_or_refused(depth: int) -> None:
    body = b'{"type":' * depth + b'"%b"' % SECRET.encode() + b"}" * depth
    message = b'{"type":"message","content":[%b]}' % body
    for each in (body, message):
        with suppress(Blocked, Unreadable):
            assert SECRET.encode() not in AnswerMasker(RULES).mask_body(each)
    with suppress(Blocked, Unreadable):
        assert SECRET.encode() not in run([b"data: " + body + b"\n\n"])


def test_plain_text_is_masked_and_what_escapes_hide_blocks() -> None:
    assert AnswerMasker(RULES).mask_text(SECRET.encode()) == b"[masked]"
    with pytest.raises(Blocked):
        AnswerMasker(RULES).mask_text(b'{"a": "\\u0041' + SECRET[1:].encode())
    for body in (b"\xff", SECRET.encode("utf-16-le")):
        with pytest.raises(Unreadable):
            AnswerMasker(RULES).mask_text(body)


def deltas(kind: str, field: str, pieces: list[str]) -> list[bytes]:
    return [
        encode_event(
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": kind, field: piece}},
        )
        for piece in pieces
    ]


def start(block: dict[str, Any]) -> bytes:
    data = {"type": "content_block_start", "index": 0, "content_block": block}
    return encode_event("content_block_start", data)


STOP = encode_event("content_block_stop", {"type": "content_block_stop", "index": 0})


def run(events: list[bytes]) -> bytes:
    masker = AnswerMasker(RULES)
    reader = EventReader()
    return b"".join(masker.mask_event(e) for e in reader.feed(b"".join(events)))


@pytest.mark.parametrize("size", range(1, 21))
def test_a_secret_in_streamed_text_never_gets_out(size: int) -> None:
    text = f"before {SECRET} after AKI"
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    released = run(
        [start({"type": "text", "text": ""}), *deltas("text_delta", "text", pieces), STOP]
    )
    texts = [
        e.data["delta"]["text"]
        for e in EventReader().feed(released)
        if e.data and "delta" in e.data
    ]
    assert "".join(texts) == "before [masked] after AKI"


def read_input(released: bytes) -> str:
    """Return the JSON of a tool's input as a client puts it together."""
    return "".join(
        e.data["delta"]["partial_json"]
        for e in EventReader().feed(released)
        if e.data and "delta" in e.data
    )


@pytest.mark.parametrize("size", range(1, 41))
def test_a_secret_in_escaped_tool_input_is_replaced_inside_its_string(size: int) -> None:
    text = '{"a": "\\ud83d\\ude00 \\"", "command": "x\\u0041KIA0123456789ABCDEF\\n", "n": 1.5}'
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    events = deltas("input_json_delta", "partial_json", pieces)
    released = run([start({"type": "tool_use", "input": {}}), *events, STOP])
    masked = '{"a": "\\ud83d\\ude00 \\"", "command": "x[masked]\\n", "n": 1.5}'
    assert read_input(released) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        pytest.param('{"password": "a\\"b"}', '{"password": "[pw]"}', id="quote in the value"),
        pytest.param('{"password": ["a", "b"]}', '{"password": ["[pw]", "[pw]"]}', id="list"),
        pytest.param('{"password": 12, "n": 3}', '{"password": "[pw]", "n": 3}', id="number"),
        pytest.param('{"password": null, "x": ""}', '{"password": null, "x": ""}', id="no value"),
        pytest.param('{"password": {"x": "y"}}', '{"password": {"x": "y"}}', id="names inside"),
        pytest.param('{"x": "password: a"', '{"x": "password: [pw]"', id="cut between fields"),
        pytest.param('{"x": "password: a', '{"x": "password: [pw]', id="cut inside of a string"),
        pytest.param('{"password": "a', '{"password": "[pw]', id="cut inside of the value"),
        pytest.param('{"x": "it\'s: password=\'a", "y": "b\'"}', None, id="quotes across strings"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_fields_named_like_a_credential_are_masked_whole(
    text: str, masked: str | None, size: int
) -> None:
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    events = [
        start({"type": "tool_use", "input": {}}),
        *deltas("input_json_delta", "partial_json", pieces),
        STOP,
    ]
    masker = AnswerMasker(FIELD_RULES)
    released = b"".join(masker.mask_event(e) for e in EventReader().feed(b"".join(events)))
    if masked is None:
        masked = '{"x": "it\'s: password=\'[pw]", "y": "b\'"}'
    assert read_input(released) == masked
    if masked.endswith("}"):
        body = b'{"type":"message","content":[{"type":"tool_use","input":%b}]}' % text.encode()
        whole = msgspec.json.decode(AnswerMasker(FIELD_RULES).mask_body(body))
        assert whole["content"][0]["input"] == msgspec.json.decode(masked)


def test_what_is_no_json_is_not_passed_on_with_a_hit_in_it() -> None:
    for text in (
        f"{{'a': '{SECRET}'}}",
        f'{{"a": {SECRET}}}',
        f'{{"{SECRET}": 1}}',
        f'"\\u00 {SECRET}"',
    ):
        with pytest.raises(Blocked) as blocked:
            run(
                [
                    start({"type": "tool_use"}),
                    *deltas("input_json_delta", "partial_json", [text]),
                    STOP,
                ]
            )
        assert (blocked.value.rule, blocked.value.where) == ("aws", "tool_input")


def test_tool_input_without_a_hit_passes_byte_for_byte() -> None:
    text = '{"path": "C:\\\\AK", "x": "\\ud83d\\ude00 \\"AKI\\" done"}'
    for size in range(1, 9):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        events = [
            start({"type": "tool_use", "input": {}}),
            *deltas("input_json_delta", "partial_json", pieces),
            STOP,
        ]
        assert run(events) == b"".join(events)


def test_text_in_the_start_of_a_block_is_masked() -> None:
    released = run([start({"type": "text", "text": SECRET}), STOP])
    assert SECRET.encode() not in released
    assert b"[masked]" in released


def cited(text: str) -> dict[str, Any]:
    return {"type": "citations_delta", "citation": {"cited_text": text, "encrypted_index": SECRET}}


def data(kind: str, **fields: Any) -> bytes:
    return encode_event(kind, {"type": kind, **fields})


OPEN = start({"type": "text", "text": ""})
DELTA = {"type": "text_delta", "text": "b"}


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([b": %b\n\n" % SECRET.encode()], id="comment"),
        pytest.param([b": \\u0041%b\n\n" % SECRET[1:].encode()], id="escaped comment"),
        pytest.param([b"event: %b\ndata: {}\n\n" % SECRET.encode()], id="event name"),
        pytest.param([b"event: %b\nevent: ping\n\n" % SECRET.encode()], id="first event name"),
        pytest.param([b"id: %b\n" % SECRET.encode() + OPEN], id="id line"),
        pytest.param([b"note: %b\r\n" % SECRET.encode() + OPEN], id="unknown line"),
        pytest.param([data("novel", **{SECRET: 1})], id="name in an unknown event"),
        pytest.param([data("error", **{SECRET: 1})], id="name in an error event"),
        pytest.param(
            [OPEN, data("content_block_delta", index=0, delta={**DELTA, SECRET: 1})],
            id="name in a delta",
        ),
    ],
)
def test_a_hit_anywhere_else_in_a_stream_blocks_before_any_of_it_is_out(
    events: list[bytes],
) -> None:
    masker = AnswerMasker(RULES)
    released = b""
    with pytest.raises(Blocked):
        for event in EventReader().feed(b"".join(events)):
            released += masker.mask_event(event)
    assert b"KIA" not in released


HALVES = [f"a {SECRET[:7]}", f"{SECRET[7:]} AK"]


@pytest.mark.parametrize(
    ("events", "masked"),
    [
        pytest.param([data("ping", note=SECRET)], [data("ping", note="[masked]")], id="ping"),
        pytest.param(
            [data("novel", note=SECRET)], [data("novel", note="[masked]")], id="unknown event"
        ),
        pytest.param(
            [OPEN, data("content_block_stop", index=0, note=SECRET)],
            [OPEN, data("content_block_stop", index=0, note="[masked]")],
            id="stop",
        ),
        pytest.param(
            [start({"type": "text", "text": "", "citations": [SECRET]})],
            [start({"type": "text", "text": "", "citations": ["[masked]"]})],
            id="start",
        ),
        pytest.param(
            [data("content_block_start", index=0, note=SECRET)],
            [data("content_block_start", index=0, note="[masked]", content_block=None)],
            id="beside a start",
        ),
        pytest.param(
            [OPEN, data("content_block_delta", index=0, delta=DELTA, note=SECRET)],
            [OPEN, data("content_block_delta", index=0, delta=DELTA, note="[masked]")],
            id="beside a delta",
        ),
        pytest.param(
            [OPEN, *deltas("novel_delta", "text", HALVES), STOP],
            [OPEN, *deltas("novel_delta", "text", ["a [masked] AK", ""]), STOP],
            id="unknown deltas",
        ),
        pytest.param(
            [OPEN, *deltas("novel_delta", "text", ["a AK", "b"]), STOP],
            [OPEN, *deltas("novel_delta", "text", ["a AK", "b"]), STOP],
            id="unknown deltas without a hit",
        ),
        pytest.param(
            [OPEN, *deltas("thinking_delta", "thinking", HALVES), STOP],
            [OPEN, *deltas("thinking_delta", "thinking", ["a ", "[masked] ", "AK"]), STOP],
            id="thinking in a text",
        ),
        pytest.param(
            [start({"type": "novel"}), *deltas("text_delta", "text", HALVES), STOP],
            [
                start({"type": "novel"}),
                *deltas("text_delta", "text", ["a ", "[masked] ", "AK"]),
                STOP,
            ],
            id="text in an unknown block",
        ),
        pytest.param(
            [OPEN, data("content_block_delta", index=0, delta=cited(SECRET))],
            [OPEN, data("content_block_delta", index=0, delta=cited("[masked]"))],
            id="citation",
        ),
        pytest.param(
            [
                OPEN,
                *deltas("text_delta", "text", HALVES[:1]),
                data("content_block_delta", index=0, delta=cited("x")),
                *deltas("text_delta", "text", HALVES[1:]),
                STOP,
            ],
            [
                OPEN,
                *deltas("text_delta", "text", ["a ", "[masked] "]),
                data("content_block_delta", index=0, delta=cited("x")),
                *deltas("text_delta", "text", ["AK"]),
                STOP,
            ],
            id="citation behind text that is held",
        ),
        pytest.param(
            [
                start(
                    {
                        "type": "mcp_tool_result",
                        "tool_use_id": SECRET,
                        "content": [{"text": SECRET}],
                    }
                ),
                STOP,
            ],
            [
                start(
                    {
                        "type": "mcp_tool_result",
                        "tool_use_id": SECRET,
                        "content": [{"text": "[masked]"}],
                    }
                ),
                STOP,
            ],
            id="result of a tool of the server",
        ),
    ],
)
def test_a_value_anywhere_in_a_stream_is_replaced_where_it_stands(
    events: list[bytes], masked: list[bytes]
) -> None:
    assert [e.data for e in EventReader().feed(run(events))] == [
        e.data for e in EventReader().feed(b"".join(masked))
    ]


@pytest.mark.parametrize(
    "events",
    [
        pytest.param(deltas("text_delta", "text", [SECRET[:7], SECRET[7:]]), id="no start"),
        pytest.param([OPEN, STOP, *deltas("text_delta", "text", ["a"])], id="after its stop"),
        pytest.param([OPEN, STOP, OPEN], id="opened twice"),
        pytest.param([data("content_block_start", index=[], content_block={})], id="index"),
        pytest.param([OPEN, data("content_block_delta", index=0, delta="a")], id="delta"),
        pytest.param([data("message_start", message={"content": [DELTA]})], id="content"),
        pytest.param([b'data: {"text":"a","text":""}\n\n'], id="field given twice"),
        pytest.param([b'data: {"a":"\xff"}\n\n'], id="not UTF-8"),
        pytest.param([b"data: {" + b'"a":{' * 100_000 + b"\n\n"], id="too deep"),
        pytest.param([b"\xef\xbb\xbfdata: {}\n\n"], id="byte order mark"),
    ],
)
def test_a_stream_that_readers_could_put_together_differently_is_refused(
    events: list[bytes],
) -> None:
    with pytest.raises(NotEvents):
        run(events)


def test_an_event_of_an_unknown_type_leaves_open_blocks_open() -> None:
    first, second = deltas("text_delta", "text", [SECRET[:7], SECRET[7:]])
    released = run([OPEN, first, data("novel"), data("ping"), second, STOP])
    assert b"KIA" not in released
    assert b"[masked]" in released


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"pattern": "(?=x)"}, "not RE2", id="lookahead"),
        pytest.param({"alphabet": "x*"}, "one character class", id="no class"),
        pytest.param({"begins": []}, "needs", id="neither begins nor needs"),
    ],
)
def test_a_rule_that_cannot_be_used_says_which_and_why(change: dict[str, Any], why: str) -> None:
    table = msgspec.convert({"aws": MASKS["aws"] | change}, MaskTable)
    with pytest.raises(BadRule, match=f"mask aws.*{why}"):
        compile_rules(table)
