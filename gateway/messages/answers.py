"""What an answer says about itself: usage, stop reason, tools called; and its text."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.domain import NOT_JSON
from gateway.messages.sse import Event, EventReader, NotEvents
from gateway.records import Usage


class _Delta(msgspec.Struct, frozen=True):
    type: str = ""
    text: str = ""


class _TextEvent(msgspec.Struct, frozen=True):
    type: str = ""
    delta: _Delta = _Delta()


_decode = msgspec.json.Decoder(dict[str, Any]).decode
_decode_text_event = msgspec.json.Decoder(_TextEvent).decode


class AnswerFacts:
    """Gathers facts from the events of a stream, or from a whole message."""

    def __init__(self) -> None:
        self.response_id = ""
        self.model = ""
        self.stop_reason = ""
        self.tool_calls: list[str] = []
        self.error_type = ""
        self.error_message = ""
        self.has_content = False
        """Whether a part of the answer itself was seen, beside its head."""
        self._usage: dict[str, int] = {}

    @property
    def usage(self) -> Usage:
        """Token counts; later events override earlier ones, as the API defines."""
        return msgspec.convert(self._usage, Usage)

    def read_event(self, event: Event) -> None:
        """Take in one event of a stream."""
        data = event.data
        if data is None:
            return
        match event.kind:
            case "message_start":
                self._read_head(_dict(data.get("message")))
            case "content_block_start":
                self._read_block(_dict(data.get("content_block")))
            case "content_block_delta":
                self.has_content = True
            case "message_delta":
                self.stop_reason = _str(_dict(data.get("delta")).get("stop_reason"))
                self._read_usage(data)
            case "error":
                self.read_error(data)
            case _:
                pass

    def read_message(self, message: dict[str, Any]) -> None:
        """Take in a whole message, or the error body in its place."""
        if message.get("type") == "error":
            self.read_error(message)
            return
        self._read_head(message)
        self.stop_reason = _str(message.get("stop_reason"))
        self.has_content = bool(_list(message.get("content")))
        for block in _list(message.get("content")):
            self._read_block(_dict(block))
        self._read_usage({"usage": {"input_tokens": message.get("input_tokens")}})

    def read_error(self, body: dict[str, Any]) -> None:
        """Take in an error, from an event or a body."""
        error = _dict(body.get("error"))
        self.error_type = _str(error.get("type")) or "api_error"
        self.error_message = _str(error.get("message"))[:500]

    def _read_head(self, message: dict[str, Any]) -> None:
        self.response_id = _str(message.get("id"))
        self.model = _str(message.get("model"))
        self._read_usage(message)

    def _read_block(self, block: dict[str, Any]) -> None:
        if _str(block.get("type")).endswith("tool_use"):
            self.tool_calls.append(_str(block.get("name")))

    def _read_usage(self, holder: dict[str, Any]) -> None:
        for name, value in _dict(holder.get("usage")).items():
            if name in Usage.__struct_fields__ and type(value) is int and 0 <= value < 2**63:
                self._usage[name] = value


def read_prompt_text(pieces: Sequence[bytes]) -> str:
    """Return the text of the last user message among pieces of a recorded request."""
    for piece in reversed(pieces):
        for message in reversed(_read_messages(piece)):
            if message.get("role") == "user":
                return _block_text(message.get("content"))
    return ""


def _read_messages(piece: bytes) -> list[dict[str, Any]]:
    """Return the messages in a piece: of a whole body all, else the one that it is, if any."""
    try:
        value = _decode(piece.lstrip(b", \n\r\t"))
    except NOT_JSON:
        return []
    messages = _list(value["messages"]) if "messages" in value else [value]
    return [message for message in messages if isinstance(message, dict)]


def read_response_text(content_type: str, body: bytes) -> str:
    """Return the text of a recorded answer, streamed or not, however it ended."""
    if content_type.startswith("text/event-stream"):
        return read_stream_part(body, is_first=True).strip("\n")
    return _block_text(_decode(body).get("content"))


def read_stream_part(part: bytes, *, is_first: bool) -> str:
    """Return what a part of a stream, whole events, adds to the text of the answer."""
    parts: list[str] = []
    for kind, text in _read_plainly(part) or _read_carefully(part):
        if kind == "content_block_start" and (parts or not is_first):
            parts.append("\n")
        if kind == "content_block_delta":
            parts.append(text)
    return "".join(parts)


def _read_plainly(part: bytes) -> list[tuple[str, str]]:
    """Return kind and text of each event, many times as fast; none if one has another form."""
    found: list[tuple[str, str]] = []
    *events, rest = part.split(b"\n\n")
    try:
        for raw in events:
            head, _, body = raw.partition(b"\ndata: ")
            event = _decode_text_event(body)
            if rest or not event.type or not head.startswith(b"event: ") or b"\n" in head:
                return []
            found.append((event.type, event.delta.text if event.delta.type == "text_delta" else ""))
    except msgspec.MsgspecError:
        return []
    return found


def _read_carefully(part: bytes) -> list[tuple[str, str]]:
    try:
        events = EventReader().feed(part)
    except NotEvents:
        return []
    return [(event.kind, _delta_text(event)) for event in events]


def _delta_text(event: Event) -> str:
    delta = _dict(event.data.get("delta")) if event.data else {}
    return _str(delta.get("text")) if delta.get("type") == "text_delta" else ""


def _block_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = (_dict(block) for block in _list(content))
    return "\n".join(_str(b.get("text")) for b in blocks if b.get("type") == "text")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _str(value: Any) -> str:
    return value if isinstance(value, str) else ""
