"""Masks one string of JSON, whole or in parts, and says what became of which characters.

A value is decided about once all of it is there: whether it passes may depend on what it is. Knows
no JSON; whoever writes the string again needs only the segments.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from gateway.masking.looks import CONTEXT, Hit
from gateway.masking.rule_set import RuleSet
from gateway.masking.scan import Scan
from gateway.masking.templates import Tagger, Template


class Match(NamedTuple):
    """A value that a rule found."""

    rule: str
    value: str
    template: Template

    def replaced(self, tagger: Tagger | None) -> str:
        """Return what takes the place of the value."""
        return self.template.fill(self.value, tagger)


Decide = Callable[[Match], str | None]
"""Says what a match becomes; None lets it pass."""


class Segment(NamedTuple):
    """So many characters of a string, and what they become; None: they stay."""

    length: int
    text: str | None


class Named(NamedTuple):
    """The rule that masks whatever stands in a field of some name."""

    rule: str
    template: Template

    def mask(self, value: str, decide: Decide) -> str | None:
        """Return what the value becomes; None where it stays, as one that was masked before."""
        if not value or self.template.find_filled(value, 0)[0] == len(value):
            return None
        return decide(Match(self.rule, value, self.template))


class LeafMasker:
    """Masks one string in a field; fed in any chunking. The result depends on the string alone."""

    def __init__(self, rules: RuleSet, decide: Decide, name: str | None = None) -> None:
        """Begin; `name` is that of the field, if it has one, which rules may look at."""
        self._rules = rules
        self._decide = decide
        self._context = ""
        """The last characters before what is held."""
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
        text = f"{self._context}{self._held}{chunk}"
        scan = Scan(self._rules, text, is_end=is_end)
        segments: list[Segment] = []
        at = len(self._context)
        while at < len(text):
            hit = self._hit
            if hit is None:
                found, self._rule = scan.next(at)
                begin = found.begin if found else len(text)
                self._add(segments, begin - at, None)
                at = begin
                if not isinstance(found, Hit):
                    break
                hit, self._end = found, found.end
            if not self._is_over(hit, text, is_end=is_end):
                self._hit = hit
                break
            self._add_before(segments, text, hit)
            match = Match(self._rule, text[hit.start : self._end], hit.template)
            self._add(segments, self._end - hit.start, self._decide(match))
            at, self._hit = self._end, None
        self._keep(text, at)
        return segments

    def _keep(self, text: str, at: int) -> None:
        """Hold what is not decided, and move what is known of it."""
        self._context, self._held = text[max(0, at - CONTEXT) : at], text[at:]
        moved = at - len(self._context)
        self._end -= moved
        if self._hit is not None:
            hit = self._hit
            self._hit = hit._replace(
                begin=hit.begin - moved, start=hit.start - moved, end=hit.end - moved
            )

    def _is_over(self, hit: Hit, text: str, *, is_end: bool) -> bool:
        """Say whether all of a hit is there, and move to where it ends."""
        if hit.tail is None:
            return True
        self._end, is_over = hit.tail.swallow(text, self._end, is_end=is_end)
        return is_over

    def _add_before(self, segments: list[Segment], text: str, hit: Hit) -> None:
        """Add what makes a match and stays, masked by itself: it may hold another value."""
        before = text[hit.begin : hit.start]
        if not before or not self._rules.may_match(before[1:]):
            self._add(segments, len(before), None)
            return
        masker = LeafMasker(self._rules, self._decide)
        masker._context = text[max(0, hit.begin - CONTEXT) : hit.begin]
        for segment in masker.feed(before, is_end=True):
            self._add(segments, *segment)

    def _add(self, segments: list[Segment], length: int, text: str | None) -> None:
        """Add a segment, less what of it is not of the string."""
        lead = min(self._lead, length)
        self._lead -= lead
        if length > lead or (text and not lead):
            segments.append(Segment(length - lead, text))


def mask_string(rules: RuleSet, decide: Decide, text: str, name: str | None = None) -> str:
    """Return a whole string, in a field of that name, masked."""
    if name is not None and (named := named_by(rules, name)):
        masked = named.mask(text, decide)
        return text if masked is None else masked
    if not rules.may_match(text if name is None else _before(name) + text):
        return text
    parts: list[str] = []
    at = 0
    for length, new in LeafMasker(rules, decide, name).feed(text, is_end=True):
        parts.append(text[at : at + length] if new is None else new)
        at += length
    return "".join(parts)


@lru_cache(maxsize=4096)
def named_by(rules: RuleSet, name: str) -> Named | None:
    """Return the rule that masks the whole value of a field of this name, if there is one."""
    before = _before(name)
    if not rules.may_match(before):
        return None
    found, rule = Scan(rules, f"{before}0", is_end=True).next(0)
    if isinstance(found, Hit) and found.start == len(before):
        return Named(rule, found.template)
    return None


def _before(name: str) -> str:
    """Return what stands before the value of a field, as rules that look for names see it."""
    return f'"{name}": "'
