"""What rules would do to a text, for those who write rules; pure."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from gateway.masking.keys import Keys
from gateway.masking.looks import Hit
from gateway.masking.rule_set import RuleSet, rule_set
from gateway.masking.rules import Rule
from gateway.masking.scan import Scan


class Shown(NamedTuple):
    """One value that a rule masks, and where it stands."""

    line: int
    """From 1 on, as `column`."""
    column: int
    rule: str
    value: str


def show_hits(rules: Sequence[Rule], text: str) -> list[Shown]:
    """Return the values that are masked in a text, in their order."""
    lines = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    shown = []
    for start, end, rule in _values(rule_set(tuple(rules)), text, 0):
        line = bisect_right(lines, start)
        shown.append(Shown(line, start - lines[line - 1] + 1, rule, text[start:end]))
    return shown


def _values(rules: RuleSet, text: str, offset: int) -> Iterator[tuple[int, int, str]]:
    scan = Scan(rules, text, is_end=True, keys=Keys())
    start = 0
    while True:
        hit, rule = scan.next(start)
        if not isinstance(hit, Hit):
            return
        before = text[hit.begin : hit.start]
        if before and rules.may_match(before[1:]):
            yield from _values(rules, before, offset + hit.begin)
        start = hit.tail.swallow(text, hit.end, is_end=True)[0] if hit.tail else hit.end
        yield offset + hit.start, offset + start, rule
