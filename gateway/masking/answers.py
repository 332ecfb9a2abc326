"""Masks answers of the Messages API, streamed and plain.

Text is masked in place. In thinking and tool input a hit blocks the answer: replacing there would
break a signature or write a placeholder to somebody's disk. Signatures, ids and encrypted or
base64 content are never looked at.
"""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.masking.rules import Rule
from gateway.masking.text import TextMasker
from gateway.messages.sse import Event, encode_event
from gateway.records import MaskApplied

_NEVER = frozenset(
    {
        "data",
        "encrypted_content",
        "encrypted_index",
        "file_id",
        "id",
        "media_type",
        "model",
        "request_id",
        "role",
        "signature",
        "stop_reason",
        "tool_use_id",
        "type",
    }
)
_DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([^u]))")
_PARTIAL_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Blocked(Exception):
    """A rule matched where a value can't be replaced: nothing more may be delivered."""

    def __init__(self, rule: str, where: str) -> None:
        super().__init__(f"mask {rule} matched in {where}")
        self.rule = rule
        self.where = where


class Tally:
    """Counts hits by rule and place; never the values."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, where: str, counts: Counter[str]) -> None:
        """Take over the counts of a masker."""
        for rule, count in counts.items():
            self._counts[rule, where] += count
        counts.clear()

    def applied(self) -> tuple[MaskApplied, ...]:
        """Return what the record says of masks."""
        return tuple(
            MaskApplied(rule=rule, where=where, count=count)
            for (rule, where), count in sorted(self._counts.items())
        )


class AnswerMasker:
    """Masks one answer: its events as they come, or its whole body."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.tally = Tally()
        self._rules = rules
        self._blocks: dict[Any, _Block] = {}

    # --- streamed -------------------------------------------------------------------------------

    def mask_event(self, event: Event) -> bytes:
        """Return the bytes to release for `event`: its own, rewritten ones, or none yet.

        Raises:
            Blocked: a rule matched in thinking, tool input or content of unknown kind.
        """
        data = event.data
        if data is None or event.kind == "ping" or not self._rules:
            return event.raw
        match event.kind:
            case "content_block_start":
                return self._start(event, data)
            case "content_block_delta":
                return self._block(data).feed(event, data)
            case "content_block_stop":
                return self._finish(data.get("index")) + event.raw
            case "error":
                return self._mask_leaves_of(event, data)
            case _:
                rest = b"".join(self._finish(index) for index in list(self._blocks))
                self._check(data, "event")
                return rest + event.raw

    def _start(self, event: Event, data: dict[str, Any]) -> bytes:
        content = data.get("content_block")
        kind = content.get("type") if isinstance(content, dict) else None
        block = _Block.of(kind, data.get("index"), self._rules, self.tally)
        self._blocks[data.get("index")] = block
        if kind in _DELTAS:
            field = _DELTAS[kind][1]
            initial = content.get(field) if isinstance(content, dict) else None
            if isinstance(initial, str) and initial:
                return self._start_with_text(block, data, field, initial)
        else:
            self._check(content, _where(kind))
        return event.raw

    def _start_with_text(
        self, block: "_Block", data: dict[str, Any], field: str, initial: str
    ) -> bytes:
        """Open the block empty and let its first text come as a delta, so that it can be held."""
        head = {**data, "content_block": {**data["content_block"], field: ""}}
        delta = {
            "type": "content_block_delta",
            "index": data.get("index"),
            "delta": {"type": f"{field}_delta", field: initial},
        }
        raw = encode_event("content_block_delta", delta)
        first = block.feed(Event(raw=raw, name="content_block_delta", data=delta), delta)
        return encode_event("content_block_start", head) + first

    def _block(self, data: dict[str, Any]) -> "_Block":
        index = data.get("index")
        if index not in self._blocks:
            self._blocks[index] = _Block.of(None, index, self._rules, self.tally)
        return self._blocks[index]

    def _finish(self, index: Any) -> bytes:
        block = self._blocks.pop(index, None)
        return block.finish() if block else b""

    def _mask_leaves_of(self, event: Event, data: dict[str, Any]) -> bytes:
        return encode_event(event.name, data) if self._mask_leaves(data, "error") else event.raw

    # --- plain ----------------------------------------------------------------------------------

    def mask_body(self, body: bytes) -> bytes:
        """Return a whole answer masked; the very same bytes where no rule matched.

        Raises:
            Blocked: as for events.
            ValueError: the body is not JSON, so that it can't be masked.
        """
        if not self._rules:
            return body
        value = msgspec.json.decode(body)
        if isinstance(value, dict) and value.get("type") == "message":
            changed = self._mask_content(value.get("content"))
            self._check({k: v for k, v in value.items() if k != "content"}, "message")
        else:
            changed = self._mask_leaves(value, "body")
        return msgspec.json.encode(value) if changed else body

    def mask_text(self, body: bytes) -> bytes:
        """Return a body that is plain text masked; raises UnicodeDecodeError if it is not."""
        text = body.decode("utf-8")
        masked = self._mask(text, "body")
        return body if masked == text else masked.encode()

    def _mask_content(self, content: Any) -> bool:
        changed = False
        for block in content if isinstance(content, list) else [content]:
            kind = block.get("type") if isinstance(block, dict) else None
            if kind == "text" and isinstance(block.get("text"), str):
                masked = self._mask(block["text"], "text")
                changed, block["text"] = changed or masked != block["text"], masked
                self._check({k: v for k, v in block.items() if k != "text"}, "text")
            else:
                self._check(block, _where(kind))
        return changed

    # --- leaves ---------------------------------------------------------------------------------

    def _mask(self, text: str, where: str) -> str:
        masker = TextMasker(self._rules)
        masked = masker.feed(text) + masker.finish()
        self.tally.add(where, masker.counts)
        return masked

    def _mask_leaves(self, root: Any, where: str) -> bool:
        changed = False
        for holder, key, text in _leaves(root):
            masked = self._mask(text, where)
            if masked != text:
                holder[key] = masked
                changed = True
        return changed

    def _check(self, root: Any, where: str) -> None:
        """Raise `Blocked` if any string of a structure, or of its JSON, holds a match."""
        for text in [text for _, _, text in _leaves([root])]:
            _block_on_hit(text, where, self._rules, self.tally)
        if where == "tool_input":
            _block_on_hit(_as_json_text(root), where, self._rules, self.tally)


class _Block(ABC):
    """A content block while it streams."""

    def __init__(self, index: Any, where: str, rules: Sequence[Rule], tally: Tally) -> None:
        self._index = index
        self._where = where
        self._rules = rules
        self._tally = tally
        self._masker = TextMasker(rules)

    @staticmethod
    def of(kind: Any, index: Any, rules: Sequence[Rule], tally: Tally) -> "_Block":
        """Return the block for a kind of content; only text is rewritten, the rest is guarded."""
        block = _TextBlock if kind == "text" else _GuardedBlock
        return block(index, _where(kind), rules, tally)

    @abstractmethod
    def feed(self, event: Event, data: dict[str, Any]) -> bytes:
        """Take in a delta and return the bytes to release."""

    @abstractmethod
    def finish(self) -> bytes:
        """Return what was held, at the end of the block."""


class _TextBlock(_Block):
    """Text: masked in place, a delta rewritten only if it changes."""

    def feed(self, event: Event, data: dict[str, Any]) -> bytes:
        delta = data.get("delta")
        text = delta.get("text") if isinstance(delta, dict) else None
        if not isinstance(text, str) or delta is None or delta.get("type") != "text_delta":
            for _, _, leaf in _leaves([delta]):
                _block_on_hit(leaf, "citation", self._rules, self._tally)
            return event.raw
        released = self._masker.feed(text)
        self._tally.add("text", self._masker.counts)
        if released == text:
            return event.raw
        return self._encode(released)

    def finish(self) -> bytes:
        released = self._masker.finish()
        self._tally.add("text", self._masker.counts)
        return self._encode(released)

    def _encode(self, text: str) -> bytes:
        if not text:
            return b""
        delta = {"type": "text_delta", "text": text}
        return encode_event(
            "content_block_delta",
            {"type": "content_block_delta", "index": self._index, "delta": delta},
        )


class _GuardedBlock(_Block):
    """Thinking, tool input and the unknown: events are held while undecided, a hit blocks."""

    def __init__(self, index: Any, where: str, rules: Sequence[Rule], tally: Tally) -> None:
        super().__init__(index, where, rules, tally)
        self._queue: list[bytes] = []
        self._rest = ""

    def feed(self, event: Event, data: dict[str, Any]) -> bytes:
        delta = data.get("delta")
        kind = delta.get("type") if isinstance(delta, dict) else None
        self._queue.append(event.raw)
        if isinstance(delta, dict) and kind == "thinking_delta":
            self._take(str(delta.get("thinking")))
        elif isinstance(delta, dict) and kind == "input_json_delta":
            self._take(self._unescape(str(delta.get("partial_json"))))
        else:
            for _, _, text in _leaves([delta]):
                _block_on_hit(text, self._where, self._rules, self._tally)
        return b"" if self._masker.is_holding or self._rest else self._release()

    def finish(self) -> bytes:
        self._masker.finish()
        self._raise_on_hit()
        return self._release()

    def _take(self, text: str) -> None:
        self._masker.feed(text)
        self._raise_on_hit()

    def _raise_on_hit(self) -> None:
        for rule in self._masker.counts:
            self._tally.add(self._where, self._masker.counts)
            raise Blocked(rule, self._where)

    def _release(self) -> bytes:
        released = b"".join(self._queue)
        self._queue.clear()
        return released

    def _unescape(self, fragment: str) -> str:
        """Decode the JSON escapes of a fragment; one that is cut waits for its rest."""
        text = self._rest + fragment
        cut = _find_partial_escape(text)
        self._rest = text[cut:]
        return _ESCAPE.sub(_unescaped, text[:cut])


def _find_partial_escape(text: str) -> int:
    """Return where an unfinished escape begins at the end of `text`, else its length."""
    position = 0
    while (position := text.find("\\", position)) >= 0:
        if _PARTIAL_ESCAPE.match(text, position):
            return position
        position += 2
    return len(text)


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return _SHORT.get(escape[2], escape[2])
    character = chr(int(escape[1], 16))
    return "\ufffd" if "\ud800" <= character <= "\udfff" else character


def _as_json_text(value: Any) -> str:
    """Return JSON as a reader of fields sees it: names beside values, escapes decoded."""
    text = msgspec.json.encode(value).decode()
    return _ESCAPE.sub(_unescaped, text)


def _block_on_hit(text: str, where: str, rules: Sequence[Rule], tally: Tally) -> None:
    masker = TextMasker(rules)
    masker.feed(text)
    masker.finish()
    for rule in masker.counts:
        tally.add(where, masker.counts)
        raise Blocked(rule, where)


def _where(kind: Any) -> str:
    if kind in {"text", "thinking"}:
        return str(kind)
    return "tool_input" if isinstance(kind, str) and kind.endswith("tool_use") else "block"


def _leaves(root: Any) -> Iterator[tuple[Any, Any, str]]:
    """Yield (holder, key, text) of every string that may be looked at."""
    stack = [root]
    while stack:
        holder = stack.pop()
        items: Any = ()
        if isinstance(holder, dict):
            items = [(k, v) for k, v in holder.items() if k not in _NEVER]
        elif isinstance(holder, list):
            items = list(enumerate(holder))
        for key, value in items:
            if isinstance(value, str):
                yield holder, key, value
            else:
                stack.append(value)
