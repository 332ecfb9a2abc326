"""The rule kind for values of named fields."""

import re
from typing import Final

from gateway.masking.looks import Hit, Look, Undecided, is_word, lower
from gateway.masking.specs import FieldSpec
from gateway.masking.tails import QuotedTail, RunTail, Tail
from gateway.masking.templates import Template

_QUOTE = r"""\\?["']"""
_HEAD = re.compile(rf"(?:{_QUOTE})?[ \t]{{0,4}}(?::=?|==?>?)[ \t]{{0,4}}({_QUOTE}|)")
_PARTIAL = re.compile(
    r"""\\?["']?[ \t]{0,4}(?:(?::=?|==?>?)[ \t]{0,4}(?:\\?["']?))?"""
)  # every beginning of a head
_BARE: Final = {
    "word": re.compile(r"""[^\s"'\\,;&)\]}>]*"""),
    "line": re.compile(r"""[^\r\n"'\\]*"""),
}
_ESCAPED = re.compile(r"""[^"'\\\n]*""")


class FieldRule:
    """The names of fields whose values are masked."""

    def __init__(self, name: str, spec: FieldSpec) -> None:
        self.name = name
        self.paths = tuple(tuple(lower(path).split(".")) for path in spec.paths)
        """Keys, outermost first."""
        names = {*map(lower, spec.names), *(path[-1] for path in self.paths)}
        self.begins = tuple(sorted(names, key=len, reverse=True))
        self.first_characters = {c for word in self.begins for c in (word[0], word[0].upper())}
        self._template = Template(name, spec.replace)
        self._bare = RunTail(_BARE[spec.value])
        escaped = RunTail(_ESCAPED)
        self._quoted: dict[str, Tail] = {
            '"': QuotedTail('"'),
            "'": QuotedTail("'"),
            '\\"': escaped,
            "\\'": escaped,
        }

    def stands_below(self, text: str, start: int, keys: tuple[str, ...]) -> bool:
        """Say whether what begins at `start`, within `keys`, is the end of one of the paths."""
        if is_word(text[max(0, start - 1) : start]) or text[max(0, start - 1) : start] in {
            "_",
            "-",
        }:
            return False
        return any(
            keys[-len(path) + 1 :] == path[:-1]
            and lower(text[start : start + len(path[-1])]) == path[-1]
            for path in self.paths
        )

    def look(self, text: str, start: int, *, is_end: bool) -> Look:
        """Say whether a match begins at `start`."""
        low = lower(text[start : start + len(self.begins[0])])
        for name in self.begins:
            if low.startswith(name):
                found = self._look_after(text, start, start + len(name), is_end=is_end)
                if found is not None:
                    return found
        return None

    def _look_after(self, text: str, start: int, end: int, *, is_end: bool) -> Look:
        if not is_end and _PARTIAL.fullmatch(text, end):
            return Undecided(start)
        head = _HEAD.match(text, end)
        if head is None:
            return None
        tail = self._quoted.get(head[1], self._bare)
        filled, is_open = self._template.find_filled(text, head.end())
        if not is_end and (is_open or filled == len(text)):
            return Undecided(start)
        if filled > head.end() and tail.swallow(text, filled, is_end=is_end)[0] == filled:
            return None  # it was masked before
        stop, _ = tail.swallow(text, head.end(), is_end=is_end)
        if stop == head.end():
            return None
        return Hit(start, head.end(), head.end(), self._template, tail)
