"""Masks text that arrives in pieces, holding back only what could be the start of a match."""

from collections import Counter
from collections.abc import Sequence

from gateway.masking.keys import Keys
from gateway.masking.looks import CONTEXT, Hit
from gateway.masking.rule_set import RuleSet, rule_set
from gateway.masking.rules import Rule
from gateway.masking.scan import Scan
from gateway.masking.templates import TAGGED_CHARS, Tagger


class TextMasker:
    """Masks one text, fed in any chunking. The result depends on the text alone.

    What takes the place of a value is released when the value's end is seen, so that its tag is
    that of the whole value.
    """

    def __init__(self, rules: Sequence[Rule] | RuleSet, tagger: Tagger | None = None) -> None:
        self.counts: Counter[str] = Counter()
        """Hits by rule."""
        self._rules = rules if isinstance(rules, RuleSet) else rule_set(tuple(rules))
        self._tagger = tagger
        self._context = ""
        """The last characters before what is held."""
        self._held = ""
        self._value: _Value | None = None
        self._keys = Keys() if self._rules.knows_paths else None

    @property
    def is_holding(self) -> bool:
        """Whether text was fed that is not out yet, nor what takes its place."""
        return bool(self._held) or self._value is not None

    def feed(self, chunk: str) -> str:
        """Take in more text and return what can be released now."""
        floor = len(self._context)
        text = self._context + self._held + chunk
        if self._value is None:
            stop = self._rules.open_from(text, floor)
            if stop >= 0:
                self._context, self._held = text[max(0, stop - CONTEXT) : stop], text[stop:]
                if self._keys is not None:
                    self._keys.feed(text[floor:stop])
                return text[floor:stop]
        return self._advance(text, floor, is_end=False)

    def finish(self) -> str:
        """Return what was held, now that no more text will come, and start afresh."""
        released = ""
        if self.is_holding:
            text = self._context + self._held
            released = self._advance(text, len(self._context), is_end=True)
        self._keep("", 0)
        if self._keys is not None:
            self._keys = Keys()
        return released

    def _keep(self, text: str, start: int) -> None:
        self._context, self._held = text[max(0, start - CONTEXT) : start], text[start:]

    def _advance(self, text: str, floor: int, *, is_end: bool) -> str:
        released: list[str] = []
        scan = Scan(self._rules, text, is_end=is_end, keys=self._keys, floor=floor)
        start = floor
        while True:
            if self._value is not None:
                start, is_over = self._value.swallow(text, start, is_end=is_end)
                if not is_over:
                    break
                released.append(self._value.replaced(self._tagger))
                self._value = None
            found, rule = scan.next(start)
            if not isinstance(found, Hit):
                stop = found.begin if found else len(text)
                released.append(text[start:stop])
                start = stop
                break
            self.counts[rule] += 1
            released += (text[start : found.begin], self._mask_before(text, found))
            start, self._value = found.end, _Value(found, text[found.start : found.end])
        self._keep(text, start)
        if self._keys is not None:
            self._keys.feed(text[floor:start])
        return "".join(released)

    def _mask_before(self, text: str, hit: Hit) -> str:
        """Return what makes a match and stays, masked by itself: it may hold another value."""
        before = text[hit.begin : hit.start]
        if not before or not self._rules.may_match(before[1:]):
            return before
        masker = TextMasker(self._rules, self._tagger)
        masker._context = text[max(0, hit.begin - CONTEXT) : hit.begin]
        masked = masker.feed(before) + masker.finish()
        self.counts += masker.counts
        return masked


class _Value:
    """A value that is being masked, up to its end."""

    def __init__(self, hit: Hit, head: str) -> None:
        self._hit = hit
        self._parts = [head]
        self._size = len(head)

    def swallow(self, text: str, start: int, *, is_end: bool) -> tuple[int, bool]:
        """Say where swallowing stopped and whether the value ended there."""
        if self._hit.tail is None:
            return start, True
        stop, is_over = self._hit.tail.swallow(text, start, is_end=is_end)
        if self._size < TAGGED_CHARS:
            self._parts.append(text[start:stop])
            self._size += stop - start
        return stop, is_over

    def replaced(self, tagger: Tagger | None) -> str:
        """Return what takes its place."""
        return self._hit.template.fill("".join(self._parts) if tagger else "", tagger)
