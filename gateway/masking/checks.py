"""Looks for matches where a value can't be replaced: one is enough to stop the answer.

Signatures, ids and encrypted or base64 content are never looked at, where the API has them.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.masking.rule_set import RuleSet
from gateway.masking.text import TextMasker
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


class Checks:
    """The checks of one answer; each raises `Blocked` if a rule matches."""

    def __init__(self, rules: RuleSet, tally: Tally) -> None:
        self.rules = rules
        self.tally = tally

    def check_text(self, text: str, where: str) -> None:
        """Check a whole text."""
        if self.rules.may_match(text):
            masker = TextMasker(self.rules)
            masker.feed(text)
            masker.finish()
            self.refuse_hits(masker, where)

    def check_escaped(self, text: str, where: str) -> None:
        """Check a text that is no JSON, also as a lenient reader of JSON may read it."""
        self.check_text(text, where)
        self.check_text(unescape(text), where)

    def check_json(self, root: Any, where: str) -> None:
        """Check all names and strings of a structure, and names beside their values."""
        if not self.rules.may_match(as_json_text(root)):
            return
        kept = _without_opaque(root)
        for text in _strings(kept):
            self.check_text(text, where)
        self.check_text(as_json_text(kept), where)

    def check_block(self, block: Any, where: str) -> None:
        """Check a content block; what a tool is given has no field that is not looked at."""
        self.check_json(block, where)
        if where == "tool_input" and isinstance(block, dict):
            self.check_text(as_json_text(block.get("input")), where)

    def refuse_hits(self, masker: TextMasker, where: str) -> None:
        """Raise `Blocked` if a masker masked anything."""
        for rule in masker.counts:
            self.tally.add(where, masker.counts)
            raise Blocked(rule, where)


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


def _without_opaque(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: inner if isinstance(inner, str) else _without_opaque(inner)
            for name, inner in value.items()
            if not (isinstance(inner, str) and is_opaque(value, name))
        }
    return [_without_opaque(inner) for inner in value] if isinstance(value, list) else value


def _strings(root: Any) -> Iterator[str]:
    """Yield all names and strings of a structure."""
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            stack += [*value, *value.values()]
        elif isinstance(value, list):
            stack += value
