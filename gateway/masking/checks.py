"""What masking shares: hits are counted, some stop an answer, some fields are never looked at.

Signatures, ids and encrypted or base64 content are never looked at, where the API has them.
"""

import re
from collections import Counter
from typing import Any

import msgspec

from gateway.records import MaskApplied

_IDS = frozenset({"file_id", "id", "request_id", "tool_use_id"})
_HOLDERS = {
    "data": frozenset({"base64", "redacted_thinking"}),
    "signature": frozenset({"signature_delta", "thinking"}),
}
"""Of a field that is never looked at: the types of what holds it."""

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([^u]))")
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

    def note(self, where: str, rule: str, count: int = 1) -> None:
        """Count hits of a rule."""
        self._counts[rule, where] += count

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


def as_json_text(value: Any) -> str:
    """Return JSON as a reader of fields sees it: names beside values, escapes decoded."""
    return unescape(msgspec.json.encode(value).decode())


def unescape(text: str) -> str:
    """Decode the escapes of JSON."""
    return _ESCAPE.sub(_unescaped, text) if "\\" in text else text


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return _SHORT.get(escape[2], escape[2])
    character = chr(int(escape[1], 16))
    return "\ufffd" if "\ud800" <= character <= "\udfff" else character


def is_opaque(holder: dict[str, Any], name: str) -> bool:
    """Say whether a field's string is never looked at."""
    if name in _HOLDERS:
        kind = holder.get("type")
        return isinstance(kind, str) and kind in _HOLDERS[name]
    return name in _IDS or name.startswith("encrypted_")
