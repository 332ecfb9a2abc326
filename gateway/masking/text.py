"""Masks text that arrives in pieces, holding back only what could be the start of a match."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from gateway.masking.rules import Hit, Rule, Tail, Undecided


class TextMasker:
    """Masks one text, fed in any chunking. The result depends on the text alone."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.counts: Counter[str] = Counter()
        """Hits by rule."""
        self._finders = [rule for rule in rules if not rule.begins]
        self._lookers = [rule for rule in rules if rule.begins]
        self._begins = _begins(frozenset(word for rule in rules for word in rule.begins))
        self._search = self._begins.search
        self._held = ""
        self._tail: Tail | None = None

    @property
    def is_holding(self) -> bool:
        """Whether text was fed that is neither out nor masked yet."""
        return bool(self._held)

    def feed(self, chunk: str) -> str:
        """Take in more text and return what can be released now."""
        return self._advance(self._held + chunk, is_end=False)

    def finish(self) -> str:
        """Return what was held, now that no more text will come, and start afresh."""
        released = self._advance(self._held, is_end=True)
        self._held, self._tail = "", None
        return released

    def _advance(self, text: str, *, is_end: bool) -> str:
        released: list[str] = []
        start = position = 0
        while True:
            if self._tail is not None:
                start, is_over = self._tail.swallow(text, start)
                if not is_over:
                    break
                self._tail, position = None, start
            found = self._next(text, position, is_end=is_end)
            if not isinstance(found, Hit):
                stop = found.begin if found else len(text)
                released.append(text[start:stop])
                start = stop
                break
            released += (text[start : found.start], found.replacement)
            start = position = found.end
            self._tail = found.tail
        self._held = text[start:]
        return "".join(released)

    def _next(self, text: str, start: int, *, is_end: bool) -> Hit | Undecided | None:
        """Return the first hit, or from where on the text is undecided."""
        undecided = len(text) if is_end else self._begins.partial(text, start)
        first: Hit | Undecided | None = None
        name = ""
        for rule in self._finders:
            found = rule.find(text, start, is_end=is_end)
            if found and (first is None or found.begin < first.begin):
                first, name = found, rule.name
        position = start
        while candidate := self._search(text, position):
            position = candidate.start()
            if position >= undecided or (first and first.begin < position):
                break
            found, found_name = self._look(text, position, is_end=is_end)
            if found:
                first, name = found, found_name
                break
            position += 1
        if undecided < len(text) and (first is None or undecided <= first.begin):
            return Undecided(undecided)
        if isinstance(first, Hit):
            self.counts[name] += 1
        return first

    def _look(
        self, text: str, position: int, *, is_end: bool
    ) -> tuple[Hit | Undecided | None, str]:
        for rule in self._lookers:
            found = rule.look(text, position, is_end=is_end)
            if found:
                return found, rule.name
        return None, ""


class _Begins:
    """All literals that a match may begin with, and their proper prefixes."""

    def __init__(self, literals: frozenset[str]) -> None:
        pattern = "|".join(re.escape(word) for word in sorted(literals, key=len, reverse=True))
        self.search = re.compile(pattern or r"(?!)", re.IGNORECASE | re.ASCII).search
        self._prefixes = {word[:n] for word in literals for n in range(1, len(word))}
        self._longest = max(map(len, self._prefixes), default=0)

    def partial(self, text: str, floor: int) -> int:
        """Return where the longest suffix begins that more text could make a literal."""
        end = text[max(floor, len(text) - self._longest) :]
        end = "".join(c.lower() if c.isascii() else c for c in end)
        for start in range(len(end)):
            if end[start:] in self._prefixes:
                return len(text) - len(end) + start
        return len(text)


@lru_cache(maxsize=256)
def _begins(literals: frozenset[str]) -> _Begins:
    return _Begins(literals)
