"""Masks answers of the Messages API, streamed and plain.

A value is replaced wherever it stands: in text, thinking, the input and the results of tools,
citations, errors and what is not known yet. A hit ends the answer only where nothing can be
replaced (names of fields, comments), where policy refuses an echo, and where thinking could never
come back because no key seals it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.masking.blocks import Block, encode_delta, place_of
from gateway.masking.checks import Blocked, Tally, as_json_text, unescape
from gateway.masking.echo import Echo
from gateway.masking.rule_set import rule_set
from gateway.masking.rules import Rule
from gateway.masking.scope import Scope
from gateway.masking.seals import SessionSeals, Thought
from gateway.messages.sse import Event, NotEvents, Unreadable, encode_event, parse_event, read_json

__all__ = ["AnswerMasker", "Blocked", "Tally"]

_INITIAL = {"text": "text", "thinking": "thinking"}
"""Of a block's type: its field that deltas continue."""


class AnswerMasker:
    """Masks one answer: its events as they come, or its whole body."""

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        echo: Echo | None = None,
        seals: SessionSeals | None = None,
        tally: Tally | None = None,
    ) -> None:
        """Begin; without `echo` no value is one, without `seals` no masked thinking is signed."""
        self.tally = tally or Tally()
        self._rules = rule_set(tuple(rules))
        self._scope = Scope(self._rules, self.tally, echo or Echo(), seals)
        self._blocks: dict[int, Block] = {}
        self._opened: set[int] = set()

    # --- streamed -------------------------------------------------------------------------------

    def mask_event(self, event: Event) -> bytes:
        """Return the bytes to release for `event`: its own, rewritten ones, or none yet.

        What is replaced is replaced in its `data` too, but for the texts of deltas.

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
            self._scope.check_escaped(event.around, "event")
        data = event.data
        if data is None:
            return event.raw
        match event.kind:
            case "content_block_delta":
                return self._open_block(data).feed(event, data)
            case "content_block_start":
                return self._start(event, data)
            case "content_block_stop":
                masked = self._mask_data(event, data, "event")
                return self._finish(data.get("index")) + masked
            case "error":
                return self._finish_all() + self._mask_data(event, data, "error")
            case "message_start" if _has_content(data):
                self._scope.mask_leaves(data, "event")
                raise NotEvents("a message begins with content")
            case kind:
                masked = self._mask_data(event, data, "event")
                is_end = kind in {"message_delta", "message_stop"}
                return self._finish_all() + masked if is_end else masked

    def _mask_data(self, event: Event, data: dict[str, Any], where: str) -> bytes:
        """Mask an event that continues no text."""
        if self._scope.mask_leaves(data, where):
            return encode_event(event.name or event.kind, data)
        return event.raw

    def _start(self, event: Event, data: dict[str, Any]) -> bytes:
        index, content = data.get("index"), data.get("content_block")
        if type(index) is not int or index in self._opened:
            raise NotEvents("a content block has no index of its own")
        self._opened.add(index)
        kind = content.get("type") if isinstance(content, dict) else None
        place = place_of(kind)
        block = self._blocks[index] = Block(index, kind, self._scope)
        rest = {**data, "content_block": None}
        changed = self._scope.mask_leaves(rest, place)
        later: list[tuple[str, str]] = []
        if isinstance(content, dict):
            content, later = _open_empty(content)
            changed = self._scope.mask_block(content, place) or changed or bool(later)
        elif content is not None:
            raise NotEvents("a content block is no JSON object")
        if not changed:
            return event.raw
        data.update({**rest, "content_block": content})
        released = encode_event("content_block_start", data)
        for field, text in later:
            delta = parse_event(encode_delta(index, field, text))
            released += block.feed(delta, delta.data or {})
        return released

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
            rest = {name: inner for name, inner in value.items() if name != "content"}
            changed = self._scope.mask_leaves(rest, "message")
            value.update(rest)
            changed = self._mask_content(value) or changed
        else:
            where = "error" if isinstance(value, dict) and value.get("type") == "error" else "body"
            changed = self._scope.mask_leaves(root, where)
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
        masked = self._scope.mask_text(text, "body")
        if "\\" in masked:
            self._scope.check_text(unescape(masked), "body")
        return body if masked == text else masked.encode()

    def _mask_content(self, message: dict[str, Any]) -> bool:
        """Mask the content of a whole message in place; say whether it was changed."""
        content = message.get("content")
        if not isinstance(content, list):
            rest = {"content": content}
            changed = self._scope.mask_leaves(rest, "block")
            message.update(rest)
            return changed
        changed = False
        for place, block in enumerate(content):
            if isinstance(block, dict):
                changed = self._mask_block(block) or changed
            else:
                one = [block]
                changed = self._scope.mask_leaves(one, "block") or changed
                content[place] = one[0]
        return changed

    def _mask_block(self, block: dict[str, Any]) -> bool:
        place = place_of(block.get("type"))
        thinking, signature = block.get("thinking"), block.get("signature")
        changed = self._scope.mask_block(block, place)
        if place == "thinking" and block.get("thinking") != thinking and signature:
            thought = Thought(str(thinking), str(signature))
            block["signature"] = self._scope.sign_thought(thought)
        return changed


def _open_empty(content: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the content that a block begins with, and what of it is to come as deltas.

    So that text can be held, and thinking is signed after it was masked.
    """
    kind = content.get("type")
    field = _INITIAL.get(kind) if isinstance(kind, str) else None
    if field is None or not isinstance(text := content.get(field), str) or not text:
        return content, []
    later = [(field, text)]
    empty = {**content, field: ""}
    signature = content.get("signature")
    if field == "thinking" and isinstance(signature, str) and signature:
        later.append(("signature", signature))
        empty["signature"] = ""
    return empty, later


def _has_content(data: dict[str, Any]) -> bool:
    message = data.get("message")
    return bool(message.get("content")) if isinstance(message, dict) else False
