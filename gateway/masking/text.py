"""Masks text that arrives in pieces, holding back only what could be the start of a match."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.masking.rule_set import RuleSet, rule_set
from gateway.masking.rules import Hit, Rule, Undecided, lower

if TYPE_CHECKING:
    from gateway.masking.tails import Tail


class TextMasker:
    """Masks one text, fed in any chunking. The result depends on the text alone."""

    def __init__(self, rules: Sequence[Rule] | RuleSet) -> None:
        self.counts: Counter[str] = Counter()
        """Hits by rule."""
        self._rules = rules if isinstance(rules, RuleSet) else rule_set(tuple(rules))
        self._held = ""
        self._tail: Tail | None = None

    @property
    def is_holding(self) -> bool:
        """Whether text was fed that is neither out nor masked yet."""
        return bool(self._held)

    def feed(self, chunk: str) -> str:
        """Take in more text and return what can be released now."""
        text = self._held + chunk
        if self._tail is None:
            stop = self._rules.open_from(text)
            if stop >= 0:
                self._held = text[stop:]
                return text[:stop]
        return self._advance(text, is_end=False)

    def finish(self) -> str:
        """Return what was held, now that no more text will come, and start afresh."""
        released = self._advance(self._held, is_end=True) if self._held else ""
        self._held, self._tail = "", None
        return released

    def _advance(self, text: str, *, is_end: bool) -> str:
        released: list[str] = []
        low = lower(text)
        start = position = 0
        while True:
            if self._tail is not None:
                start, is_over = self._tail.swallow(text, start)
                if not is_over:
                    break
                self._tail, position = None, start
            found = self._next(text, low, position, is_end=is_end)
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

    def _next(self, text: str, low: str, start: int, *, is_end: bool) -> Hit | Undecided | None:
        """Return the first hit, or from where on the text is undecided."""
        rules = self._rules
        undecided = len(text) if is_end else rules.find_partial(low, start)
        first: Hit | Undecided | None = None
        name = ""
        for rule in rules.finders:
            found = rule.find(text, start, is_end=is_end)
            if found and (first is None or found.begin < first.begin):
                first, name = found, rule.name
        position = start
        while candidate := rules.search(low, position):
            position = candidate.start()
            if position >= undecided or (first and first.begin < position):
                break
            found, found_name = self._look(text, low, position, is_end=is_end)
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
        self, text: str, low: str, position: int, *, is_end: bool
    ) -> tuple[Hit | Undecided | None, str]:
        for rule in self._rules.lookers:
            if low.startswith(rule.begins, position):
                found = rule.look(text, position, is_end=is_end)
                if found:
                    return found, rule.name
        return None, ""
