"""Rules compiled together: one search of a text tells whether any of them needs a closer look."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import re2

from gateway.masking.fields import FieldRule
from gateway.masking.looks import is_apart, lower
from gateway.masking.rules import PatternRule, Rule, WordRule

_SHORT = 64
"""Characters up to which Python's patterns are quicker than the way into RE2."""
_LATIN = re2.Options()
_LATIN.encoding = re2.Options.Encoding.LATIN1
_LATIN.max_mem = 64 * 1024 * 1024


class RuleSet:
    """The rules that apply to a text, and what all of them say of how a match can begin."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.finders = [rule for rule in rules if isinstance(rule, WordRule)]
        self._lookers: dict[str, list[PatternRule | FieldRule]] = defaultdict(list)
        """By the character that a match begins with."""
        for rule in rules:
            if not isinstance(rule, WordRule):
                for character in rule.first_characters:
                    self._lookers[character].append(rule)
        self.knows_paths = any(isinstance(rule, FieldRule) and rule.paths for rule in rules)
        self._needs = [rule.needs for rule in self.finders]
        patterns = [rule for rule in rules if isinstance(rule, PatternRule)]
        fields = [rule for rule in rules if isinstance(rule, FieldRule)]
        literals = {word for rule in patterns for word in rule.begins}
        starts = {"".join(start) for rule in patterns for start in rule.starts}
        names = {word for rule in fields for word in rule.begins}
        self._short = [
            re.compile(pattern).search
            for pattern in (*([_any_of(literals)] if literals else []), *sorted(starts))
        ]
        """They find the same in a short text, sooner."""
        self._fold = re.compile(_any_of(names)).search if names else None
        self._find = re2.compile(_any_beginning(literals, starts, names), _LATIN).search
        self._endings = Endings((word, rule.is_apart) for rule in patterns for word in rule.begins)
        self._folded = Endings((word, False) for rule in fields for word in rule.begins)
        self._starts = [
            OpenStart(classes, rule.is_apart) for rule in patterns for classes in rule.starts
        ]

    def __bool__(self) -> bool:
        return bool(self.finders or self._lookers)

    def lookers_at(self, character: str) -> Sequence[PatternRule | FieldRule]:
        """Return the rules of which a match may begin with this character."""
        return self._lookers.get(character, ())

    def search(self, plain: bytes, start: int) -> int:
        """Return where in a text made `plain` a match may begin, at or after `start`, or -1."""
        found = self._find(plain, start)
        return found.start() if found else -1

    def may_match(self, text: str) -> bool:
        """Say whether a whole text needs a closer look; False is certain."""
        return self.search(plain(text), 0) >= 0 or any(need in text for need in self._needs)

    def open_from(self, text: str, floor: int) -> int:
        """Return from where on more text could make a match, or -1 if that needs a closer look.

        What is before `floor` is out already.
        """
        if len(text) < _SHORT:
            for search in self._short:
                if search(text, floor):
                    return -1
            if self._fold is not None and self._fold(lower(text), floor):
                return -1
        elif self.search(plain(text), floor) >= 0:
            return -1
        first = self.find_partial(text, floor)
        for rule in self.finders:
            if text.find(rule.needs, floor) >= 0:
                return -1
            first = min(first, rule.open_from(text, floor))
        return first

    def find_partial(self, text: str, floor: int) -> int:
        """Return where the longest ending begins that more text could make a match begin with."""
        first = self._endings.find(text, floor, text)
        if self._fold is not None:
            first = min(first, self._folded.find(text, floor, lower(text)))
        for start in self._starts:
            first = min(first, start.find(text, floor))
        return first


class Endings:
    """The beginnings of words, found at the end of a text."""

    def __init__(self, words: Iterable[tuple[str, bool]]) -> None:
        self._prefixes: dict[str, bool] = {}
        """Of each: whether it counts only where it stands apart."""
        for word, must_be_apart in words:
            for size in range(1, len(word)):
                known = self._prefixes.get(word[:size], True)
                self._prefixes[word[:size]] = known and must_be_apart
        self._sizes = _sizes_by_ending(self._prefixes)

    def find(self, text: str, floor: int, ending: str) -> int:
        """Return where the longest begins that ends `text`; `ending` is its end, maybe folded."""
        size = len(text)
        for length in self._sizes.get(ending[-2:], ()):
            if self._stands(text, floor, ending, length):
                return size - length
        if ending[-1:] in self._prefixes and self._stands(text, floor, ending, 1):
            return size - 1
        return size

    def _stands(self, text: str, floor: int, ending: str, length: int) -> bool:
        start = len(text) - length
        if start < floor or (must_be_apart := self._prefixes.get(ending[-length:])) is None:
            return False
        return not must_be_apart or is_apart(text, start)


class OpenStart:
    """The beginnings of a sequence of classes, found at the end of a text."""

    def __init__(self, classes: tuple[str, ...], must_be_apart: bool) -> None:
        self._reach = len(classes) - 1
        self._must_be_apart = must_be_apart
        optional = ""
        for each in reversed(classes[:-1]):
            optional = f"(?:{each}{optional})?"
        self._beginning = re.compile(optional)
        self._last = re.compile("|".join({*classes[:-1]} or {"(?!)"}))

    def find(self, text: str, floor: int) -> int:
        """Return where the longest begins that `text` ends in."""
        size = len(text)
        if not size or not self._last.match(text, size - 1):
            return size
        for start in range(max(floor, size - self._reach), size):
            if self._beginning.fullmatch(text, start) and (
                not self._must_be_apart or is_apart(text, start)
            ):
                return start
        return size


@lru_cache(maxsize=64)
def rule_set(rules: tuple[Rule, ...]) -> RuleSet:
    """Return these rules compiled together."""
    return RuleSet(rules)


def plain(text: str) -> bytes:
    """Return a text with one byte per character; all that is not ASCII looks the same."""
    return text.encode("ascii", "replace")


def _any_beginning(literals: set[str], starts: set[str], names: set[str]) -> bytes:
    """Return an RE2 pattern that finds where a match of any rule may begin."""
    branches = [*map(re2.escape, sorted(literals)), *sorted(starts)]
    if names:
        folded = (re2.escape(plain(name).decode()) for name in sorted(names))
        branches.append(f"(?i:{'|'.join(folded)})")
    return "|".join(branches or [r"[^\x00-\xff]"]).encode()


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


def _sizes_by_ending(prefixes: Iterable[str]) -> dict[str, list[int]]:
    """Return how long, longest first, those are that end in the same two characters."""
    sizes = defaultdict(set)
    for prefix in prefixes:
        if len(prefix) > 1:
            sizes[prefix[-2:]].add(len(prefix))
    return {ending: sorted(found, reverse=True) for ending, found in sizes.items()}
