"""What is said in one exchange, as blocks: the new turn and the answer, read from recorded bodies.

Pure. Bodies are hostile and may be cut off: what can't be read is shown as the text it is.
"""

from typing import Any, Final

import msgspec

from gateway.display import shortened
from gateway.domain import NOT_JSON, Fact
from gateway.messages.sse import EventReader, NotEvents, Unreadable, read_json
from lake.shown import ExchangeDetail

LONGEST_BLOCK: Final = 50_000
"""Characters of one block that a document for reading shows; the JSON export has all."""
MOST_BLOCKS: Final = 500
"""Blocks of one side that a document for reading shows."""

_PIECES: Final = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
}
"""Of a delta's type: its field that goes on with the block."""


class Block(Fact, frozen=True, kw_only=True):
    """A part of what was said."""

    kind: str
    """text, thinking, tool call, tool result, or the type as recorded."""
    title: str = ""
    """Name of a tool, type of a medium."""
    text: str = ""


class Turn(Fact, frozen=True, kw_only=True):
    """What was new in the request, and what was answered."""

    asked: tuple[Block, ...]
    answered: tuple[Block, ...]


def read_turn(exchange: ExchangeDetail) -> Turn:
    """Return what is said in an exchange."""
    return Turn(asked=_bounded(_asked(exchange)), answered=_bounded(_answered(exchange)))


def _bounded(blocks: list[Block]) -> tuple[Block, ...]:
    kept = [
        msgspec.structs.replace(
            each,
            kind=shortened(each.kind, 100),
            title=shortened(each.title, 200),
            text=shortened(each.text, LONGEST_BLOCK),
        )
        for each in blocks[:MOST_BLOCKS]
    ]
    if len(blocks) > MOST_BLOCKS:
        kept.append(Block(kind="left out", text=f"{len(blocks) - MOST_BLOCKS:,} more blocks"))
    return tuple(kept)


# --- the request ----------------------------------------------------------------------------------


def _asked(exchange: ExchangeDetail) -> list[Block]:
    body = exchange.request_body
    if body is None:
        return _text_block(exchange.prompt_text)
    try:
        messages = _list(_dict(read_json(body)).get("messages"))
    except Unreadable:
        return _text_block(body.decode("utf-8", "replace"))
    before = messages[:-1]  # a last message of the assistant begins the answer that is wanted
    answered = [n for n, m in enumerate(before) if _dict(m).get("role") == "assistant"]
    new = messages[answered[-1] + 1 :] if answered else messages
    return [block for message in new for block in _blocks(_dict(message).get("content"))]


def _blocks(content: Any) -> list[Block]:
    if isinstance(content, str):
        return _text_block(content)
    return [_block(_dict(each)) for each in _list(content)]


def _block(block: dict[str, Any]) -> Block:
    kind = _str(block.get("type"))
    if kind in {"text", "thinking"}:
        return Block(kind=kind, text=_str(block.get(kind)))
    if kind.endswith("tool_use"):
        return Block(
            kind="tool call", title=_str(block.get("name")), text=_json(block.get("input"))
        )
    if kind.endswith("tool_result"):
        inner = _blocks(block.get("content"))
        text = "\n".join(each.text or f"[{each.kind} {each.title}]" for each in inner)
        return Block(kind="tool result", title=_str(block.get("tool_use_id")), text=text)
    if "source" in block:
        source = _dict(block.get("source"))
        title = _str(source.get("media_type")) or _str(source.get("type"))
        return Block(kind=kind, title=title, text=f"{len(_json(source)):,} characters")
    return Block(kind=kind or "unknown", text=_json(block))


# --- the answer -----------------------------------------------------------------------------------


def _answered(exchange: ExchangeDetail) -> list[Block]:
    body = exchange.response_body
    if body is None:
        return _text_block(exchange.response_text)
    try:
        if _content_type(exchange).startswith("text/event-stream"):
            return _streamed(body)
        message = _dict(read_json(body))
    except (Unreadable, NotEvents):
        return _text_block(body.decode("utf-8", "replace"))
    return _blocks(message.get("content")) if "content" in message else [_plain(message)]


def _plain(message: dict[str, Any]) -> Block:
    kind = "error" if message.get("type") == "error" else "answer"
    return Block(kind=kind, text=_json(message))


def _streamed(body: bytes) -> list[Block]:
    """Put a stream's blocks together again."""
    starts: dict[int, dict[str, Any]] = {}
    parts: dict[int, list[str]] = {}
    errors: list[Block] = []
    for event in EventReader().feed(body):
        data = event.data or {}
        index = data.get("index")
        if event.kind == "error":
            errors.append(Block(kind="error", text=_json(data.get("error"))))
        elif event.kind == "content_block_start" and isinstance(index, int):
            starts[index] = _dict(data.get("content_block"))
            parts[index] = []
        elif event.kind == "content_block_delta" and index in parts:
            delta = _dict(data.get("delta"))
            parts[index].append(_str(delta.get(_PIECES.get(_str(delta.get("type")), ""))))
    return [_joined(starts[index], "".join(parts[index])) for index in starts] + errors


def _joined(start: dict[str, Any], text: str) -> Block:
    block = _block(start)
    if block.kind == "tool call":
        return msgspec.structs.replace(block, text=_pretty(text))
    if block.kind in {"text", "thinking"}:
        return msgspec.structs.replace(block, text=block.text + text)
    return block


def _pretty(text: str) -> str:
    try:
        return _json(msgspec.json.decode(text))
    except NOT_JSON:
        return text


def _content_type(exchange: ExchangeDetail) -> str:
    headers = exchange.response_headers or {}
    return next((v for name, v in headers.items() if name.lower() == "content-type"), "")


def _text_block(text: str | None) -> list[Block]:
    return [Block(kind="text", text=text)] if text else []


def _json(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""
