"""The invariant of masking in answers: streamed in any chunking, it is as if it were masked whole.

What was released can't be taken back, so a stream that ends up equal never held too little.
"""

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.masking.answers import AnswerMasker
from gateway.masking.echo import Echo
from gateway.masking.rules import Rule
from gateway.messages.sse import EventReader, encode_event
from property.test_masking_streams import RULES, TEXTS

RULE_SETS = st.lists(st.sampled_from(RULES), unique=True)
NAMES = st.one_of(
    st.sampled_from(["password", "secret", "a", "é", "n\\"]), st.text("ab\"'", max_size=3)
)
SCALARS = st.one_of(
    TEXTS,
    st.integers(-99, 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
INPUTS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    ),
    max_size=4,
)


def cut(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def stream(
    rules: list[Rule], block: dict[str, Any], field: str, pieces: list[str], echo: Echo
) -> str:
    """Return the text of a block as a client puts it together."""
    kind = "input_json_delta" if field == "partial_json" else f"{field}_delta"
    deltas: list[dict[str, Any]] = [
        {"index": 0, "delta": {"type": kind, field: piece}} for piece in pieces
    ]
    events = [
        ("content_block_start", {"index": 0, "content_block": block}),
        *(("content_block_delta", delta) for delta in deltas),
        ("content_block_stop", {"index": 0}),
    ]
    sent = b"".join(encode_event(kind, {"type": kind, **data}) for kind, data in events)
    masker = AnswerMasker(rules, echo=echo)
    released = b"".join(masker.mask_event(event) for event in EventReader().feed(sent))
    parts = [
        event.data.get("delta", {}).get(field, "")
        for event in EventReader().feed(released)
        if event.data
    ]
    return "".join(parts)


def mask_block(rules: list[Rule], block: dict[str, Any], echo: Echo) -> dict[str, Any]:
    body = msgspec.json.encode({"type": "message", "content": [block]})
    masked = msgspec.json.decode(AnswerMasker(rules, echo=echo).mask_body(body))["content"][0]
    assert isinstance(masked, dict)
    return masked


@given(rules=RULE_SETS, text=TEXTS, field=st.sampled_from(["text", "thinking"]), data=st.data())
def test_text_and_thinking(rules: list[Rule], text: str, field: str, data: st.DataObject) -> None:
    whole = mask_block(rules, {"type": field, field: text}, Echo())[field]
    assert stream(rules, {"type": field, field: ""}, field, cut(text, data), Echo()) == whole


@given(
    rules=RULE_SETS,
    value=INPUTS,
    is_ascii=st.booleans(),
    echoed=TEXTS,
    rule=st.sampled_from(["allow", "mask"]),
    data=st.data(),
)
def test_tool_input(
    rules: list[Rule],
    value: dict[str, Any],
    is_ascii: bool,
    echoed: str,
    rule: Any,
    data: st.DataObject,
) -> None:
    text = json.dumps(value, ensure_ascii=is_ascii, indent=data.draw(st.sampled_from([None, 1])))
    value = msgspec.json.decode(text.encode())
    request = {"messages": [echoed]}
    whole = mask_block(rules, {"type": "tool_use", "input": value}, Echo(rule, request))["input"]
    block = {"type": "tool_use", "input": {}}
    streamed = stream(rules, block, "partial_json", cut(text, data), Echo(rule, request))
    assert msgspec.json.decode(streamed.encode()) == whole
    if whole == msgspec.json.decode(text.encode()):
        assert streamed == text
