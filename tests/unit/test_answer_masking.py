"""Masking of whole answers, and where a hit blocks."""

from typing import Any

import msgspec
import pytest
from support.fakes import MASKS

from gateway.masking.answers import AnswerMasker, Blocked
from gateway.masking.rules import BadRule, MaskTable, compile_rules
from gateway.messages.sse import EventReader, encode_event

SECRET = "AKIA0123456789ABCDEF"
RULES = list(compile_rules(msgspec.convert(MASKS, MaskTable)).values())


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
    ("block", "where"),
    [
        pytest.param({"type": "thinking", "thinking": SECRET}, "thinking", id="thinking"),
        pytest.param({"type": "tool_use", "input": {"a": [SECRET]}}, "tool_input", id="tool"),
        pytest.param({"type": "tool_use", "input": {"data": SECRET}}, "tool_input", id="data key"),
        pytest.param({"type": "tool_use", "input": {SECRET: 1}}, "tool_input", id="tool key"),
        pytest.param({"type": "novel", "x": {"y": SECRET}}, "block", id="unknown block"),
        pytest.param({"type": "text", "text": "", "citations": [SECRET]}, "text", id="citation"),
    ],
)
def test_a_hit_where_nothing_can_be_replaced_blocks(block: dict[str, Any], where: str) -> None:
    with pytest.raises(Blocked) as blocked:
        AnswerMasker(RULES).mask_body(message(block))
    assert (blocked.value.rule, blocked.value.where) == ("aws", where)


@pytest.mark.parametrize(
    "block",
    [
        pytest.param({"type": "thinking", "thinking": "", "signature": SECRET}, id="signature"),
        pytest.param({"type": "redacted_thinking", "data": SECRET}, id="redacted thinking"),
    ],
)
def test_signatures_and_encrypted_content_are_never_looked_at(block: dict[str, Any]) -> None:
    assert AnswerMasker(RULES).mask_body(message(block)) == message(block)


def test_an_error_body_is_masked_too() -> None:
    body = b'{"type":"error","error":{"type":"api_error","message":"bad %s"}}' % SECRET.encode()
    assert SECRET.encode() not in AnswerMasker(RULES).mask_body(body)


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


@pytest.mark.parametrize("size", range(1, 27))
def test_a_secret_in_escaped_tool_input_blocks_before_any_of_it_is_out(size: int) -> None:
    text = '{"command": "x\\u0041KIA0123456789ABCDEF\\n"}'
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    masker = AnswerMasker(RULES)
    out = masker.mask_event(EventReader().feed(start({"type": "tool_use", "input": {}}))[0])
    with pytest.raises(Blocked):
        for event in EventReader().feed(
            b"".join(deltas("input_json_delta", "partial_json", pieces))
        ):
            out += masker.mask_event(event)
    assert b"u0041" not in out
    assert b"KIA" not in out


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
