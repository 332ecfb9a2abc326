"""Answers of the demo Claude: their content, the message around it, and its stream of events.

Pure but for the ids of messages and tool uses, which are random as the real ones are.
"""

import hashlib
import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from gateway.demo.directives import Steering
from gateway.demo.prompts import Question, count_tokens, shorten, tool_results
from gateway.demo.specimens import KINDS, sentence, specimen
from gateway.demo.structured import sample

NOTICE = "This is Countersign's demo Claude: no model is behind it."
"""How every answer in text begins."""

_FILLER = " The rest of this answer is filler, so that it has the length that was asked for."
_THOUGHT = "This is a demo: there is nothing to think about, and yet here is a thought."
_SECRET = re.compile(rf"<secret=({'|'.join(KINDS)})>")
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_WORD = re.compile(r"\s*\S+\s?|\s+")


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text", omit_defaults=True):
    """A block of text."""

    text: str
    citations: Sequence[dict[str, object]] = ()


class Thought(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """A block of thinking; it comes back only with the signature that it left with."""

    thinking: str
    signature: str


class ToolUse(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    """A call of a tool of the client."""

    id: str
    name: str
    input: dict[str, object]


class Result(msgspec.Struct, frozen=True, tag_field="type", tag="web_search_tool_result"):
    """What a tool of the server found."""

    tool_use_id: str
    content: Sequence[dict[str, object]]


Content = Text | Thought | ToolUse | Result


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is said to have cost."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int
    service_tier: Literal["standard"] = "standard"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """A whole answer, as a plain call gets it."""

    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: Sequence[Content]
    stop_reason: Literal["end_turn", "tool_use"] | None
    stop_sequence: None = None
    stop_details: None = None
    usage: Usage


class Frame(msgspec.Struct, frozen=True):
    """One event of a stream, ready to be sent."""

    data: bytes
    is_delta: bool = False


def sign(key: bytes, thinking: str) -> str:
    """Return the signature of a thinking block under the server's key."""
    return b64encode(hmac.digest(key, thinking.encode("utf-8", "replace"), hashlib.sha512)).decode()


def compose(question: Question, steering: Steering, said: str, key: bytes) -> Message:
    """Compose the answer to a question, whose directives and remaining text are given.

    A structured output is its JSON alone: it has no notice, and no directive changes it.
    """
    content: list[Content]
    if question.schema is not None:
        content = [Text(msgspec.json.encode(sample(question.schema)).decode())]
    else:
        content = [*_think(question, steering, key), *_say(question, steering, said)]
    fresh, cached = question.tokens()
    return Message(
        id=f"msg_{secrets.token_hex(12)}",
        model=question.model,
        content=content,
        stop_reason="tool_use" if isinstance(content[-1], ToolUse) else "end_turn",
        usage=Usage(
            input_tokens=fresh,
            cache_read_input_tokens=cached,
            output_tokens=sum(count_tokens(len(_essence(block))) for block in content),
        ),
    )


def _think(question: Question, steering: Steering, key: bytes) -> list[Content]:
    kind = steering.thinking_secret
    if not question.has_thinking or not (steering.thinking or kind):
        return []
    thinking = f"{_THOUGHT} {sentence(kind)}" if kind else _THOUGHT
    return [Thought(thinking, sign(key, thinking))]


def _say(question: Question, steering: Steering, said: str) -> list[Content]:
    parts = [NOTICE, *(sentence(kind) for kind in steering.secrets)]
    if results := tool_results(question.asked()):
        parts.append(f"The tool answered: {shorten(' '.join(results))}")
    if said := shorten(said):
        parts.append(f"You said: {said}")
    text = Text(_stretch(" ".join(parts), steering.length), _cite(steering.citation_secret))
    found = _find(steering.result_secret)
    if steering.tool is None and steering.tool_secret is None:
        return [*found, text]
    name = steering.tool or question.first_tool()
    return [*found, text, ToolUse(f"toolu_{secrets.token_hex(12)}", name, _tool_input(steering))]


def _cite(kind: str | None) -> Sequence[dict[str, object]]:
    if kind is None:
        return ()
    cited: dict[str, object] = {
        "type": "char_location",
        "cited_text": sentence(kind),
        "document_index": 0,
    }
    return [cited | {"start_char_index": 0, "end_char_index": len(sentence(kind))}]


def _find(kind: str | None) -> list[Content]:
    if kind is None:
        return []
    page: dict[str, object] = {
        "type": "web_search_result",
        "title": sentence(kind),
        "url": "https://found.test/",
    }
    return [Result(f"srvtoolu_{secrets.token_hex(12)}", [page | {"encrypted_content": "ZGVtbw=="}])]


def _tool_input(steering: Steering) -> dict[str, object]:
    given = {_fill_in(name): _fill_in(value) for name, value in steering.input.items()}
    match steering.tool_secret:
        case None:
            return given
        case "field":
            return given | {"password": specimen("field")}
        case kind:
            return given | {"note": sentence(kind)}


def _fill_in(value: Any) -> Any:
    """Return a string with the secrets that it names; anything else as it is."""
    if not isinstance(value, str):
        return value
    return _SECRET.sub(lambda found: specimen(found[1]), value)


def _stretch(text: str, length: int | None) -> str:
    if length is None:
        return text
    missing = max(0, length - len(text))
    return (text + _FILLER * (missing // len(_FILLER) + 1))[:length]


def _essence(block: Content) -> str:
    match block:
        case Text():
            return block.text
        case Thought():
            return block.thinking
        case ToolUse():
            return msgspec.json.encode(block.input).decode()
        case Result():
            return ""


# --- events ---------------------------------------------------------------------------------------


def frame(name: str, fields: dict[str, object], *, is_delta: bool = False) -> Frame:
    """Return one event as it stands in the stream; its type is its name."""
    body = msgspec.json.encode({"type": name, **fields})
    return Frame(b"event: %s\ndata: %s\n\n" % (name.encode(), body), is_delta)


def stream(message: Message, steering: Steering) -> list[Frame]:
    """Return the events that carry a message, in deltas as the steering wants them."""
    opening = msgspec.structs.replace(
        message,
        content=[],
        stop_reason=None,
        usage=msgspec.structs.replace(message.usage, output_tokens=1),
    )
    frames = [frame("message_start", {"message": opening}), frame("ping", {})]
    for index, block in enumerate(message.content):
        frames += _block_frames(index, block, steering)
    stop = {"stop_reason": message.stop_reason, "stop_sequence": None, "stop_details": None}
    frames.append(frame("message_delta", {"delta": stop, "usage": message.usage}))
    frames.append(frame("message_stop", {}))
    return frames


def _block_frames(index: int, block: Content, steering: Steering) -> list[Frame]:
    essence = _essence(block)
    if steering.escaped and isinstance(block, ToolUse):
        essence = _STRING.sub(_escape_all, essence)
    pieces = _cut(essence, steering)
    deltas: list[dict[str, object]]
    empty: Content
    match block:
        case Text():
            empty = Text("")
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
            deltas += [{"type": "citations_delta", "citation": c} for c in block.citations]
        case Thought():
            empty = Thought("", "")
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
            deltas.append({"type": "signature_delta", "signature": block.signature})
        case ToolUse():
            empty = msgspec.structs.replace(block, input={})
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        case Result():
            empty = block
            deltas = []
    place: dict[str, object] = {"index": index}
    return [
        frame("content_block_start", place | {"content_block": empty}),
        *(frame("content_block_delta", place | {"delta": d}, is_delta=True) for d in deltas),
        frame("content_block_stop", place),
    ]


def _escape_all(string: "re.Match[str]") -> str:
    """Return a string of JSON with each of its characters escaped."""
    characters = msgspec.json.decode(string[0], type=str)
    return '"' + "".join(f"\\u{ord(c):04x}" for c in characters) + '"'


def _cut(text: str, steering: Steering) -> list[str]:
    if steering.words:
        return _WORD.findall(text)
    step = steering.split
    return [text[start : start + step] for start in range(0, len(text), step)]
