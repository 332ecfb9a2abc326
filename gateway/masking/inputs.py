"""Masks the input of a tool while it streams.

Until a rule matches, fragments pass byte for byte: a look at all of the decoded JSON as one text
costs least. On the first hit what was not released is written again, string by string.
"""

import re

from gateway.masking.checks import unescape
from gateway.masking.partial import JsonMasker, NameHit, NotJson
from gateway.masking.scope import TOOL_INPUT, Scope
from gateway.messages.sse import encode_event

_CUT_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class InputStream:
    """The `input_json_delta`s of one block."""

    def __init__(self, index: int, scope: Scope) -> None:
        self._index = index
        self._scope = scope
        self._guard = scope.masker()
        self._cut = ""
        """An escape that waits for its rest."""
        self._seen: list[str] = []
        """All fragments, until one is written again."""
        self._held: list[bytes] = []
        """The events of the last of them that were not released."""
        self._masker: JsonMasker | None = None
        self._rule = ""
        self._out = ""
        """What was released before, and is not to be released again."""

    def feed(self, raw: bytes, fragment: str) -> bytes:
        """Take in an event with its fragment and return the bytes to release."""
        if self._masker is not None:
            return self._write(self._masker, fragment)
        self._seen.append(fragment)
        self._held.append(raw)
        self._guard.feed(self._unescape(fragment))
        return self._judge()

    def finish(self) -> bytes:
        """Return what was held, at the end of the block."""
        released = b""
        if self._masker is None:
            self._guard.finish()
            self._cut = ""
            released = self._judge()
        if self._masker is not None:
            released += self._write(self._masker, None)
        return released

    def _judge(self) -> bytes:
        """Return what is released after a fragment: nothing while it is undecided."""
        if self._guard.counts:
            return self._start_over()
        if self._cut or self._guard.is_holding:
            return b""
        released = b"".join(self._held)
        self._held.clear()
        return released

    def _start_over(self) -> bytes:
        """Read all from the beginning, and release what was not released yet."""
        self._rule = next(iter(self._guard.counts))
        self._masker = JsonMasker(self._scope.rules, self._scope.deciding(TOOL_INPUT))
        self._out = "".join(self._seen[: len(self._seen) - len(self._held)])
        seen = "".join(self._seen)
        self._seen.clear()
        self._held.clear()
        return self._write(self._masker, seen)

    def _write(self, masker: JsonMasker, fragment: str | None) -> bytes:
        """Return the event of what is released after a fragment, or after the last one."""
        try:
            text = masker.finish() if fragment is None else masker.feed(fragment)
        except NameHit as e:
            raise self._scope.block(e.rule, TOOL_INPUT) from e
        except NotJson as e:
            raise self._scope.block(self._rule, TOOL_INPUT) from e
        known = self._out[: len(text)]
        if not text.startswith(known):
            raise self._scope.block(self._rule, TOOL_INPUT)
        self._out = self._out[len(known) :]
        text = text[len(known) :]
        if not text:
            return b""
        delta = {"type": "input_json_delta", "partial_json": text}
        data = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return encode_event("content_block_delta", data)

    def _unescape(self, fragment: str) -> str:
        """Decode the JSON escapes of a fragment; one that is cut waits for its rest."""
        text = self._cut + fragment
        cut = _find_cut_escape(text)
        self._cut = text[cut:]
        return unescape(text[:cut])


def _find_cut_escape(text: str) -> int:
    """Return where an unfinished escape begins at the end of a text, else its length."""
    position = 0
    while (position := text.find("\\", position)) >= 0:
        if _CUT_ESCAPE.match(text, position):
            return position
        position += 2
    return len(text)
