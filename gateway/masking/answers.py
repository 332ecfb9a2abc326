"""Masks answers of the Messages API, streamed and plain.

Text is masked in place. In thinking and tool input a hit blocks the answer: replacing there would
break a signature or write a placeholder to somebody's disk. Names, comments and unknown lines
can't be replaced either.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.masking.blocks import Block, encode_delta, place_of
from gateway.masking.checks import Blocked, Checks, Tally, as_json_text, is_opaque, unescape
from gateway.masking.rule_set import rule_set
from gateway.masking.rules import Rule
from gateway.masking.text import TextMasker
from gateway.messages.sse import Event, NotEvents, Unreadable, encode_event, parse_event, read_json

__all__ = ["AnswerMasker", "Blocked", "Tally"]

_INITIAL = {"text": "text", "thinking": "thinking"}
"""Of a block's type: its field that deltas continue."""


class AnswerMasker:
    """Masks one answer: its events as they come, or its whole body."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.tally = Tally()
        self._rules = rule_set(tuple(rules))
        self._checks = Checks(self._rules, self.tally)
        self._blocks: dict[int, Block] = {}
        self._opened: set[int] = set()

    # --- streamed -------------------------------------------------------------------------------

    def mask_event(self, event: Event) -> bytes:
        """Return the bytes to release for `event`: its own, rewritten ones, or none yet.

        What an error event says is masked in its `data` too.

        Raises:
            Blocked: a rule matched where a value can't be replaced.
            NotEvents: a delta or a block is not where the API has them, so that readers could
                put its text together in different ways.
        """
        if not self._rules:
            return event.raw
        try:
            return self._mask_event(event)
        except RecursionError as e:
            raise NotEvents("an event nests too deep") from e

    def _mask_event(self, event: Event) -> bytes:
        if event.around:
            self._checks.check_escaped(event.around, "event")
        data = event.data
        if data is None:
            return event.raw
        match event.kind:
            case "content_block_delta":
                return self._open_block(data).feed(event, data)
            case "content_block_start":
                return self._start(event, data)
            case "content_block_stop":
                self._checks.check_json(data, "event")
                return self._finish(data.get("index")) + event.raw
            case "error":
                return self._finish_all() + self._mask_error(event, data)
            case "message_start" if _has_content(data):
                self._checks.check_json(data, "event")
                raise NotEvents("a message begins with content")
            case kind:
                self._checks.check_json(data, "event")
                is_end = kind in {"message_delta", "message_stop"}
                return self._finish_all() + event.raw if is_end else event.raw

    def _start(self, event: Event, data: dict[str, Any]) -> bytes:
        index, content = data.get("index"), data.get("content_block")
        if type(index) is not int or index in self._opened:
            raise NotEvents("a content block has no index of its own")
        self._opened.add(index)
        kind = content.get("type") if isinstance(content, dict) else None
        place = place_of(kind)
        block = self._blocks[index] = Block.of(kind, index, self._checks)
        self._checks.check_json({**data, "content_block": None}, place)
        field = _INITIAL.get(kind) if isinstance(kind, str) else None
        initial = content.get(field) if isinstance(content, dict) and field else None
        if not field or not isinstance(initial, str) or not initial:
            self._checks.check_block(content, place)
            return event.raw
        # It opens empty, and its first text comes as a delta, so that it can be held.
        empty = {**data["content_block"], field: ""}
        self._checks.check_block(empty, place)
        head = encode_event("content_block_start", {**data, "content_block": empty})
        first = parse_event(encode_delta(index, field, initial))
        return head + block.feed(first, first.data or {})

    def _open_block(self, data: dict[str, Any]) -> Block:
        index = data.get("index")
        block = self._blocks.get(index) if type(index) is int else None
        if block is None:
            raise NotEvents("a delta belongs to no open content block")
        return block

    def _finish(self, index: Any) -> bytes:
        block = self._blocks.pop(index, None) if type(index) is int else None
        return block.finish() if block else b""

    def _finish_all(self) -> bytes:
        return b"".join(self._finish(index) for index in list(self._blocks))

    def _mask_error(self, event: Event, data: dict[str, Any]) -> bytes:
        return encode_event("error", data) if self._mask_leaves(data, "error") else event.raw

    # --- plain ----------------------------------------------------------------------------------

    def mask_body(self, body: bytes, value: Any = None) -> bytes:
        """Return a whole answer masked; the very same bytes where no rule matched.

        `value` is what `read_json` made of the body, if it was read before. What can be replaced
        is masked in it as well.

        Raises:
            Blocked: as for events.
            Unreadable: the body is not JSON that reads the same to everyone.
        """
        if not self._rules:
            return body
        try:
            return self._mask_value(body, read_json(body) if value is None else value)
        except RecursionError as e:
            raise Unreadable("it nests too deep") from e

    def _mask_value(self, body: bytes, value: Any) -> bytes:
        if not self._rules.may_match(as_json_text(value)):
            return body
        root = [value]
        if isinstance(value, dict) and value.get("type") == "message":
            changed = self._mask_content(value.get("content"))
            self._checks.check_json({k: v for k, v in value.items() if k != "content"}, "message")
        else:
            changed = self._mask_leaves(root, "body")
        return msgspec.json.encode(root[0]) if changed else body

    def mask_text(self, body: bytes) -> bytes:
        """Return a body that is plain text masked.

        Raises:
            Blocked: a rule matches what the escapes of JSON hide.
            Unreadable: it is not text.
        """
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as e:
            raise Unreadable("it is not text") from e
        if "\0" in text:  # UTF-16, to a reader that guesses
            raise Unreadable("it is not text")
        if not self._rules:
            return body
        masked = self._mask(text, "body")
        if "\\" in masked:
            self._checks.check_text(unescape(masked), "body")
        return body if masked == text else masked.encode()

    def _mask_content(self, content: Any) -> bool:
        changed = False
        for block in content if isinstance(content, list) else [content]:
            kind = block.get("type") if isinstance(block, dict) else None
            if kind == "text" and isinstance(block.get("text"), str):
                masked = self._mask(block["text"], "text")
                changed, block["text"] = changed or masked != block["text"], masked
                self._checks.check_json({k: v for k, v in block.items() if k != "text"}, "text")
            else:
                self._checks.check_block(block, place_of(kind))
        return changed

    # --- leaves ---------------------------------------------------------------------------------

    def _mask(self, text: str, where: str) -> str:
        if not self._rules.may_match(text):
            return text
        masker = TextMasker(self._rules)
        masked = masker.feed(text) + masker.finish()
        self.tally.add(where, masker.counts)
        return masked

    def _mask_leaves(self, root: Any, where: str) -> bool:
        """Mask the strings of a structure in place; a name can't be replaced."""
        changed = False
        stack = [root]
        while stack:
            holder = stack.pop()
            items = enumerate(holder) if isinstance(holder, list) else holder.items()
            for key, value in list(items):
                if isinstance(key, str):
                    self._checks.check_text(key, where)
                if isinstance(value, dict | list):
                    stack.append(value)
                elif isinstance(value, str) and not (
                    isinstance(key, str) and is_opaque(holder, key)
                ):
                    holder[key] = self._mask(value, where)
                    changed = changed or holder[key] != value
        return changed


def _has_content(data: dict[str, Any]) -> bool:
    message = data.get("message")
    return bool(message.get("content")) if isinstance(message, dict) else False
