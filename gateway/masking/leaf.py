"""Masks one string of JSON, whole or in parts, and says what became of which characters.

A value is decided about once all of it is there: whether it passes may depend on what it is. Knows
no JSON; whoever writes the string again needs only the segments.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from gateway.masking.rule_set import RuleSet
from gateway.masking.rules import Hit, Undecided, lower
from gateway.masking.text import TextMasker


class Match(NamedTuple):
    """A value that a rule found."""

    rule: str
    value: str
    replacement: str


Decide = Callable[[Match], str | None]
"""Says what a match becomes; None lets it pass."""


class Segment(NamedTuple):
    """So many characters of a string, and what they become; None: they stay."""

    length: int
    text: str | None


class Named(NamedTuple):
    """The rule that masks whatever stands in a field of some name."""

    rule: str
    replacement: str


class LeafMasker:
    """Masks one string in a field; fed in any chunking. The result depends on the string alone."""

    def __init__(self, rules: RuleSet, decide: Decide, name: str | None = None) -> None:
        """Begin; `name` is that of the field, if it has one, which rules may look at."""
        self._finder = _Finder(rules)
        self._decide = decide
        self._held = "" if name is None else _before(name)
        self._lead = len(self._held)
        """Characters of what is held that are not of the string."""
        self._hit: Hit | None = None
        """What is held begins with it: its end was not seen."""
        self._rule = ""
        self._end = 0
        """From where on the end of the hit is sought."""

    def feed(self, chunk: str, *, is_end: bool = False) -> list[Segment]:
        """Take in more of the string, to its end or not, and return what is decided."""
        text = self._held + chunk
        low = lower(text)
        segments: list[Segment] = []
        at = 0
        while at < len(text):
            hit = self._hit
            if hit is None:
                found, self._rule = self._finder.find(text, low, at, is_end=is_end)
                begin = found.begin if found else len(text)
                self._add(segments, begin - at, None)
                at = begin
                if not isinstance(found, Hit):
                    break
                hit, self._end = found, found.end
            if not self._is_over(hit, text, is_end=is_end):
                moved = hit._replace(begin=0, start=hit.start - at, end=hit.end - at)
                self._hit, self._end = moved, self._end - at
                break
            self._add(segments, hit.start - at, None)
            match = Match(self._rule, text[hit.start : self._end], hit.replacement)
            self._add(segments, self._end - hit.start, self._decide(match))
            at, self._hit = self._end, None
        self._held = text[at:]
        return segments

    def _is_over(self, hit: Hit, text: str, *, is_end: bool) -> bool:
        """Say whether all of a hit is there, and move to where it ends."""
        is_over = hit.tail is None
        if hit.tail is not None:
            self._end, is_over = hit.tail.swallow(text, self._end)
        if is_end and not is_over:
            self._end = len(text)
        return is_over or is_end

    def _add(self, segments: list[Segment], length: int, text: str | None) -> None:
        """Add a segment, less what of it is not of the string."""
        lead = min(self._lead, length)
        self._lead -= lead
        if length > lead or text:
            segments.append(Segment(length - lead, text))


def mask_string(rules: RuleSet, decide: Decide, text: str, name: str | None = None) -> str:
    """Return a whole string, in a field of that name, masked."""
    if name is not None and (named := named_by(rules, name)):
        return _or(decide(Match(named.rule, text, named.replacement)), text) if text else text
    if not rules.may_match(text if name is None else _before(name) + text):
        return text
    parts: list[str] = []
    at = 0
    for length, new in LeafMasker(rules, decide, name).feed(text, is_end=True):
        parts.append(text[at : at + length] if new is None else new)
        at += length
    return "".join(parts)


def _or(new: str | None, old: str) -> str:
    return old if new is None else new


@lru_cache(maxsize=4096)
def named_by(rules: RuleSet, name: str) -> Named | None:
    """Return the rule that masks the whole value of a field of this name, if there is one."""
    before = _before(name)
    if not rules.may_match(before):
        return None
    text = f"{before}0"
    found, rule = _Finder(rules).find(text, lower(text), 0, is_end=True)
    if isinstance(found, Hit) and found.start == len(before):
        return Named(rule, found.replacement)
    return None


def _before(name: str) -> str:
    """Return what stands before the value of a field, as rules that look for names see it."""
    return f'"{name}": "'


class _Finder(TextMasker):
    """Finds one match after the other in a text."""

    def find(
        self, text: str, low: str, start: int, *, is_end: bool
    ) -> tuple[Hit | Undecided | None, str]:
        """Return the next hit, or from where on the text is undecided; and the rule of a hit."""
        self.counts.clear()
        found = self._next(text, low, start, is_end=is_end)
        return found, next(iter(self.counts), "")
