"""Rules compiled together: one search of a text tells whether any of them needs a closer look."""

import re
from collections import defaultdict
from functools import lru_cache

from gateway.masking.rules import Rule, WordRule, lower


class RuleSet:
    """The rules that apply to a text, and what all of them say of how a match can begin."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.finders = [rule for rule in rules if isinstance(rule, WordRule)]
        self.lookers = [rule for rule in rules if not isinstance(rule, WordRule)]
        self._needs = [rule.needs for rule in self.finders]
        literals = {word for rule in self.lookers for word in rule.begins}
        self.search = re.compile(_any_of(literals) if literals else r"(?!)").search
        """Finds in a lower-case text where a literal stands that a match may begin with."""
        self._prefixes = {word[:n] for word in literals for n in range(1, len(word))}
        self._lengths = _lengths_by_ending(self._prefixes)

    def __bool__(self) -> bool:
        return bool(self.finders or self.lookers)

    def may_match(self, text: str) -> bool:
        """Say whether a whole text needs a closer look; False is certain."""
        return bool(self.search(lower(text))) or any(need in text for need in self._needs)

    def open_from(self, text: str) -> int:
        """Return from where on more text could make a match, or -1 if that needs a closer look."""
        low = lower(text)
        if self.search(low):
            return -1
        first = self.find_partial(low, 0)
        for rule in self.finders:
            if rule.needs in text:
                return -1
            first = min(first, rule.open_from(text, 0))
        return first

    def find_partial(self, low: str, floor: int) -> int:
        """Return where the longest ending begins that more text could make a literal."""
        size = len(low)
        for length in self._lengths.get(low[-2:], ()):
            if length <= size - floor and low[-length:] in self._prefixes:
                return size - length
        return size - 1 if size > floor and low[-1] in self._prefixes else size


@lru_cache(maxsize=64)
def rule_set(rules: tuple[Rule, ...]) -> RuleSet:
    """Return these rules compiled together."""
    return RuleSet(rules)


def _any_of(words: set[str]) -> str:
    """Return a pattern that finds where a word begins, of branches that begin differently."""
    first, last = min(words), max(words)
    size = next(
        (n for n, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1), -1
    )
    if size < 0:
        return re.escape(first)  # every word begins with it
    branches = defaultdict(set)
    for word in words:
        branches[word[size]].add(word[size:])
    return re.escape(first[:size]) + f"(?:{'|'.join(map(_any_of, branches.values()))})"


def _lengths_by_ending(prefixes: set[str]) -> dict[str, list[int]]:
    """Return how long, longest first, those are that end in the same two characters."""
    lengths = defaultdict(set)
    for prefix in prefixes:
        if len(prefix) > 1:
            lengths[prefix[-2:]].add(len(prefix))
    return {ending: sorted(found, reverse=True) for ending, found in lengths.items()}
