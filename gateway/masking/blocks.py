"""Masks a content block while it streams: what continues a text is masked across its deltas."""

from typing import Any

from gateway.masking.checks import is_opaque
from gateway.masking.inputs import InputStream
from gateway.masking.scope import TOOL_INPUT, Scope
from gateway.masking.seals import Thought
from gateway.masking.text import TextMasker
from gateway.messages.sse import Event, NotEvents, encode_event

TEXTS = {"text_delta": "text", "thinking_delta": "thinking"}
"""Of a delta's type: its field that continues a text."""
_EVENT_FIELDS = 3
"""The type, the index and the delta."""
_DELTA_FIELDS = 2
"""The type and the text."""


class Block:
    """One content block. Events go out in the order they came in, as far as nothing is held."""

    def __init__(self, index: int, kind: Any, scope: Scope) -> None:
        self._index = index
        self._scope = scope
        self._place = place_of(kind)
        self._texts: dict[str, TextMasker] = {}
        self._input: InputStream | None = None
        self._unknown: dict[str, UnknownStream] = {}
        self._thought: list[str] = []
        """What was thought, as it came."""
        self._is_thought_masked = False
        self._is_signed = False
        self._waiting: list[bytes] = []
        """Events that came after what is held."""

    def feed(self, event: Event, data: dict[str, Any]) -> bytes:
        """Take in a delta and return the bytes to release."""
        delta = data.get("delta")
        if not isinstance(delta, dict):
            raise NotEvents("a delta is no JSON object")
        kind = delta.get("type")
        field = TEXTS.get(kind) if isinstance(kind, str) else None
        if field is not None and isinstance(text := delta.get(field), str):
            return self._feed_text(event, data, field, text)
        if kind == "input_json_delta" and isinstance(text := delta.get("partial_json"), str):
            return self._feed_input(event, data, text)
        if kind == "signature_delta" and self._place == "thinking":
            return self._sign(event, data, delta)
        if kind in ("citations_delta", "signature_delta"):
            where = "citation" if kind == "citations_delta" else self._place
            changed = self._scope.mask_leaves(data, where)
            return self._pass(encode_event(event.kind, data) if changed else event.raw)
        return self._feed_unknown(event, data, delta)

    def finish(self) -> bytes:
        """Return what was held, at the end of the block."""
        released = self._finish_texts()
        if self._input is not None:
            released += self._input.finish()
        released += b"".join(stream.finish() for stream in self._unknown.values())
        return released + self._release()

    # --- texts ------------------------------------------------------------------------------------

    def _feed_text(self, event: Event, data: dict[str, Any], field: str, text: str) -> bytes:
        changed = self._mask_rest(data, field)
        masker = self._texts.get(field)
        if masker is None:
            masker = self._texts[field] = self._scope.masker()
        released = masker.feed(text)
        if field == "thinking":
            self._thought.append(text)
        if masker.counts:
            self._count(field, masker)
        if released == text and not changed:
            return event.raw + self._release()
        if released or changed:
            data["delta"][field] = released
            return encode_event(event.kind, data) + self._release()
        return b""

    def _mask_rest(self, data: dict[str, Any], field: str) -> bool:
        """Mask what else stands in a delta, if anything does."""
        delta = data["delta"]
        if len(data) == _EVENT_FIELDS and len(delta) == _DELTA_FIELDS:
            return False
        kept, delta[field] = delta[field], ""
        changed = self._scope.mask_leaves(data, self._place)
        delta[field] = kept
        return changed

    def _count(self, field: str, masker: TextMasker) -> None:
        if field == "thinking":
            self._is_thought_masked = True
            if self._is_signed:  # with what was thought before
                raise self._scope.block(next(iter(masker.counts)), field)
        self._scope.take_counts(field, masker)

    def _finish_texts(self) -> bytes:
        released = b""
        for field, masker in self._texts.items():
            if text := masker.finish():
                released += encode_delta(self._index, field, text)
            if masker.counts:
                self._count(field, masker)
        return released

    def _sign(self, event: Event, data: dict[str, Any], delta: dict[str, Any]) -> bytes:
        """Let the signature of what was thought pass, or seal it with what was masked."""
        held = self._finish_texts() + self._release()
        signature = delta.get("signature")
        changed = self._scope.mask_leaves(data, self._place)
        if self._is_thought_masked and isinstance(signature, str) and signature:
            thought = Thought("".join(self._thought), signature)
            delta["signature"] = self._scope.sign_thought(thought)
            changed = True
        self._is_signed = True
        return held + (encode_event(event.kind, data) if changed else event.raw)

    # --- tool input and the unknown ---------------------------------------------------------------

    def _feed_input(self, event: Event, data: dict[str, Any], fragment: str) -> bytes:
        if self._input is None:
            self._input = InputStream(self._index, self._scope)
        changed = self._mask_rest(data, "partial_json")
        return self._input.feed(encode_event(event.kind, data) if changed else event.raw, fragment)

    def _feed_unknown(self, event: Event, data: dict[str, Any], delta: dict[str, Any]) -> bytes:
        """Mask a delta of an unknown kind: its strings may continue those of the ones before."""
        kind = str(delta.get("type"))
        stream = self._unknown.get(kind)
        if stream is None:
            stream = self._unknown[kind] = UnknownStream(self._scope, self._place)
        return stream.feed(event, data, delta)

    # --- order ------------------------------------------------------------------------------------

    def _pass(self, released: bytes) -> bytes:
        """Return an event at once, or keep it behind what is held."""
        if any(masker.is_holding for masker in self._texts.values()):
            self._waiting.append(released)
            return b""
        return released

    def _release(self) -> bytes:
        if not self._waiting:
            return b""
        released = b"".join(self._waiting)
        self._waiting.clear()
        return released


class UnknownStream:
    """Deltas of one unknown kind: held whole while any text in them is undecided."""

    def __init__(self, scope: Scope, place: str) -> None:
        self._scope = scope
        self._place = place
        self._maskers: dict[str, TextMasker] = {}
        self._held: list[tuple[Event, dict[str, Any], bool]] = []
        """Events, their data, and whether that was changed."""
        self._released: dict[str, str] = {}
        """Of each field: the text to release with what is held."""
        self._is_hit = False

    def feed(self, event: Event, data: dict[str, Any], delta: dict[str, Any]) -> bytes:
        """Take in a delta and return the bytes to release."""
        texts = {
            name: text
            for name, text in delta.items()
            if isinstance(text, str) and name != "type" and not is_opaque(delta, name)
        }
        delta.update(dict.fromkeys(texts, ""))
        self._held.append((event, data, self._scope.mask_leaves(data, self._place)))
        delta.update(texts)
        for name, text in texts.items():
            masker = self._maskers.get(name)
            if masker is None:
                masker = self._maskers[name] = self._scope.masker()
            self._take(name, masker, masker.feed(text))
        if any(masker.is_holding for masker in self._maskers.values()):
            return b""
        return self._release()

    def finish(self) -> bytes:
        """Return what was held, at the end of the block."""
        for name, masker in self._maskers.items():
            self._take(name, masker, masker.finish())
        return self._release()

    def _take(self, name: str, masker: TextMasker, text: str) -> None:
        self._released[name] = self._released.get(name, "") + text
        if masker.counts:
            self._is_hit = True
            self._scope.take_counts(self._place, masker)

    def _release(self) -> bytes:
        """Return the held events; where a rule matched, the first has all of their text."""
        released = b""
        for event, data, changed in self._held:
            if self._is_hit:
                delta = data["delta"]
                for name in self._maskers.keys() & delta.keys():
                    delta[name] = self._released.pop(name, "")
            is_changed = changed or self._is_hit
            released += encode_event(event.kind, data) if is_changed else event.raw
        self._held.clear()
        self._released.clear()
        self._is_hit = False
        return released


def encode_delta(index: int, field: str, text: str) -> bytes:
    """Return an event that continues the text of a block."""
    kind = "input_json_delta" if field == "partial_json" else f"{field}_delta"
    data = {"type": "content_block_delta", "index": index, "delta": {"type": kind, field: text}}
    return encode_event("content_block_delta", data)


def place_of(kind: Any) -> str:
    """Return what the record calls a place in content of this type."""
    if not isinstance(kind, str):
        return "block"
    if kind in {"text", "thinking"}:
        return kind
    return TOOL_INPUT if kind.endswith("tool_use") else "block"
