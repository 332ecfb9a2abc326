"""Masks a content block while it streams."""

import re
from typing import Any

from gateway.masking.checks import Checks, is_opaque, unescape
from gateway.masking.text import TextMasker
from gateway.messages.sse import Event, NotEvents, encode_event

STREAMED = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Of a delta's type: its field that continues a text."""
_EVENT_FIELDS = 3
"""The type, the index and the delta."""
_DELTA_FIELDS = 2
"""The type and the text."""

_PARTIAL_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class Block:
    """Thinking, tool input and the unknown: events are held while undecided, a hit blocks."""

    def __init__(self, index: Any, where: str, checks: Checks) -> None:
        self._index = index
        self._where = where
        self._checks = checks
        self._queue: list[bytes] = []
        self._maskers: dict[str, TextMasker] = {}
        self._rest = ""

    @staticmethod
    def of(kind: Any, index: Any, checks: Checks) -> "Block":
        """Return the block for a kind of content; only text is rewritten, the rest is guarded."""
        block = TextBlock if kind == "text" else Block
        return block(index, place_of(kind), checks)

    def feed(self, event: Event, data: dict[str, Any]) -> bytes:
        """Take in a delta and return the bytes to release."""
        delta = data.get("delta")
        if not isinstance(delta, dict):
            raise NotEvents("a delta is no JSON object")
        kind = delta.get("type")
        if not isinstance(kind, str) or not isinstance(text := delta.get(STREAMED.get(kind)), str):
            return self._feed_unknown(event, data, delta)
        if len(data) != _EVENT_FIELDS or len(delta) != _DELTA_FIELDS:
            rest = {**data, "delta": {**delta, STREAMED[kind]: ""}}
            self._checks.check_json(rest, self._where)
        return self._feed_text(event, kind, text)

    def finish(self) -> bytes:
        """Return what was held, at the end of the block."""
        for masker in self._maskers.values():
            masker.finish()
            self._checks.refuse_hits(masker, self._where)
        self._rest = ""
        return self._release()

    def _feed_text(self, event: Event, kind: str, text: str) -> bytes:
        self._guard(kind, self._unescape(text) if kind == "input_json_delta" else text)
        return self._hold(event)

    def _feed_unknown(self, event: Event, data: dict[str, Any], delta: dict[str, Any]) -> bytes:
        """Check a delta as a whole; the texts of an unknown kind may continue each other too."""
        kind = delta.get("type")
        self._checks.check_json(data, "citation" if kind == "citations_delta" else self._where)
        if kind not in ("citations_delta", "signature_delta"):
            for name, text in delta.items():
                if isinstance(text, str) and name != "type" and not is_opaque(delta, name):
                    self._guard(f"{kind}.{name}", text)
        return self._hold(event)

    def _guard(self, name: str, text: str) -> None:
        masker = self._maskers.get(name)
        if masker is None:
            masker = self._maskers[name] = TextMasker(self._checks.rules)
        masker.feed(text)
        if masker.counts:
            self._checks.refuse_hits(masker, self._where)

    def _hold(self, event: Event) -> bytes:
        """Return the event and all before it, once none of their texts is undecided."""
        self._queue.append(event.raw)
        if self._rest or any(masker.is_holding for masker in self._maskers.values()):
            return b""
        return self._release()

    def _release(self) -> bytes:
        released = b"".join(self._queue)
        self._queue.clear()
        return released

    def _unescape(self, fragment: str) -> str:
        """Decode the JSON escapes of a fragment; one that is cut waits for its rest."""
        text = self._rest + fragment
        cut = _find_partial_escape(text)
        self._rest = text[cut:]
        return unescape(text[:cut])


class TextBlock(Block):
    """Text: masked in place, a delta rewritten only if it changes."""

    def __init__(self, index: Any, where: str, checks: Checks) -> None:
        super().__init__(index, where, checks)
        self._masker = TextMasker(checks.rules)

    def finish(self) -> bytes:
        """Return what was held, at the end of the block."""
        released = self._masker.finish()
        self._checks.tally.add("text", self._masker.counts)
        return super().finish() + self._encode(released)

    def _feed_text(self, event: Event, kind: str, text: str) -> bytes:
        if kind != "text_delta":
            return super()._feed_text(event, kind, text)
        released = self._masker.feed(text)
        if self._masker.counts:
            self._checks.tally.add("text", self._masker.counts)
        return event.raw if released == text else self._encode(released)

    def _encode(self, text: str) -> bytes:
        return encode_delta(self._index, "text", text) if text else b""


def encode_delta(index: Any, field: str, text: str) -> bytes:
    """Return an event that continues the text of a block."""
    delta = {"type": f"{field}_delta", field: text}
    data = {"type": "content_block_delta", "index": index, "delta": delta}
    return encode_event("content_block_delta", data)


def place_of(kind: Any) -> str:
    """Return what the record calls a place in content of this type."""
    if not isinstance(kind, str):
        return "block"
    if kind in {"text", "thinking"}:
        return kind
    return "tool_input" if kind.endswith("tool_use") else "block"


def _find_partial_escape(text: str) -> int:
    """Return where an unfinished escape begins at the end of `text`, else its length."""
    position = 0
    while (position := text.find("\\", position)) >= 0:
        if _PARTIAL_ESCAPE.match(text, position):
            return position
        position += 2
    return len(text)
