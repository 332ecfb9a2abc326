"""Finds one match after the other in a text of which all that is known is at hand."""

from gateway.masking.fields import FieldRule
from gateway.masking.keys import Keys
from gateway.masking.looks import Look, Undecided
from gateway.masking.rule_set import RuleSet, plain


class Scan:
    """One pass over a text. What was found further on is kept: no part is searched twice."""

    def __init__(
        self, rules: RuleSet, text: str, *, is_end: bool, keys: Keys | None = None, floor: int = 0
    ) -> None:
        """Begin at `floor`; `keys` know the text before it."""
        self._keys, self._read_up_to = (keys.copy() if keys else None), floor
        self._rules = rules
        self._text = text
        self._plain = plain(text)
        self._is_end = is_end
        self._candidate = -1
        """Where the next match may begin that begins with what its rule declares."""
        self._found: dict[str, Look] = {}
        """Of each finder: the next it sees."""

    def next(self, start: int) -> tuple[Look, str]:
        """Return the first hit with its rule, or from where on the text is undecided.

        `start` only grows.
        """
        text, rules = self._text, self._rules
        undecided = len(text) if self._is_end else rules.find_partial(text, start)
        first, name = self._find(start)
        while 0 <= (position := self._next_candidate(start)) < undecided:
            if first and first.begin < position:
                break
            found, found_name = self._look(position)
            if found:
                first, name = found, found_name
                break
            start = position + 1
        if undecided < len(text) and (first is None or undecided <= first.begin):
            return Undecided(undecided), ""
        return first, name

    def _next_candidate(self, start: int) -> int:
        if self._candidate < start:
            self._candidate = self._rules.search(self._plain, start)
            if self._candidate < 0:
                self._candidate = len(self._text)
        return self._candidate

    def _find(self, start: int) -> tuple[Look, str]:
        first: Look = None
        name = ""
        for rule in self._rules.finders:
            known = self._found.get(rule.name, Undecided(-1))
            if known is not None and known.begin < start:
                known = self._found[rule.name] = rule.find(self._text, start, is_end=self._is_end)
            if known and (first is None or known.begin < first.begin):
                first, name = known, rule.name
        return first, name

    def _look(self, position: int) -> tuple[Look, str]:
        for rule in self._rules.lookers_at(self._text[position]):
            if isinstance(rule, FieldRule) and rule.paths and not self._is_below(rule, position):
                continue
            found = rule.look(self._text, position, is_end=self._is_end)
            if found:
                return found, rule.name
        return None, ""

    def _is_below(self, rule: FieldRule, position: int) -> bool:
        if self._keys is None:
            return False
        self._keys.feed(self._text[self._read_up_to : position])
        self._read_up_to = max(position, self._read_up_to)
        return rule.stands_below(self._text, position, self._keys.enclosing())
