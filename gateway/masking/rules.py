"""Mask rules: the bundle's `masks` table, compiled.

RE2 says nothing about partial matches, so a rule declares how its matches can begin and of which
characters they consist. From that alone it is known, for text that is still arriving, whether a
match can no longer begin here, has been found, or is undecided. Only the undecided is held.
"""

import re
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
import re2

from gateway.domain import Strict
from gateway.masking.tails import QuotedTail, RunTail, Tail, UntilTail


class BadRule(Exception):
    """A rule of the table that can't be used; it says which and why."""


class Hit(NamedTuple):
    """A decided match that begins at `begin`: `text[start:end]` becomes `replacement`.

    `tail`, if any, swallows what of the match follows `end`.
    """

    begin: int
    start: int
    end: int
    replacement: str
    tail: Tail | None


class Undecided(NamedTuple):
    """Text from `begin` on could be a match; more text will tell."""

    begin: int


# --- the table as the bundle writes it ----------------------------------------------------------

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class PatternSpec(Strict, frozen=True, kw_only=True, tag_field="kind", tag="pattern"):
    """Values of a known form, such as keys and tokens."""

    title: str
    begins: tuple[_Text, ...]
    alphabet: _Text
    pattern: _Text
    longest: Annotated[int, msgspec.Meta(ge=1, le=8192)]
    replace: _Text
    needs: str = ""
    """For a rule without `begins`: a literal that every match contains."""


class BlockSpec(Strict, frozen=True, kw_only=True, tag_field="kind", tag="block"):
    """A head, and all that follows until an end marker."""

    title: str
    begins: tuple[_Text, ...]
    alphabet: _Text
    pattern: _Text
    longest: Annotated[int, msgspec.Meta(ge=1, le=8192)]
    until: _Text
    replace: _Text


class FieldSpec(Strict, frozen=True, kw_only=True, tag_field="kind", tag="field"):
    """The value of a named field, as it stands in code, JSON, YAML, dotenv or a query."""

    title: str
    names: tuple[_Text, ...]
    replace: _Text


Spec = PatternSpec | BlockSpec | FieldSpec
MaskTable = dict[str, Spec]


def compile_rules(table: Mapping[str, Spec]) -> "dict[str, Rule]":
    """Return the compiled rules of a table.

    Raises:
        BadRule: a pattern does not compile or a declaration is missing.
    """
    return {name: _compile(name, spec) for name, spec in table.items()}


def _compile(name: str, spec: Spec) -> "Rule":
    match spec:
        case PatternSpec() if spec.begins:
            return PatternRule(name, spec)
        case PatternSpec() if len(spec.needs) == 1:
            return WordRule(name, spec)
        case PatternSpec():
            raise BadRule(f"mask {name}: a pattern without `begins` must say what it `needs`")
        case BlockSpec():
            return BlockRule(name, spec)
        case FieldSpec():
            return FieldRule(name, spec)


def _compile_pattern(name: str, pattern: str) -> "re2._Regexp":
    try:
        return re2.compile(pattern)
    except re2.error as e:
        raise BadRule(f"mask {name}: the pattern is not RE2: {e}") from e


def _compile_alphabet(name: str, alphabet: str) -> re.Pattern[str]:
    if not re.fullmatch(r"\[(?:[^\[\]\\]|\\[\w\\\[\]-])+\]", alphabet):
        raise BadRule(f"mask {name}: the alphabet must be one character class: {alphabet}")
    try:
        return re.compile(alphabet + "*")
    except re.error as e:
        raise BadRule(f"mask {name}: the alphabet is no character class: {e}") from e


def lower(text: str) -> str:
    """Return `text` with ASCII letters in lower case; its length stays, unlike in `str.lower`."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


# --- rules --------------------------------------------------------------------------------------


class PatternRule:
    """A pattern whose every match begins with one of some literals."""

    def __init__(self, name: str, spec: PatternSpec | BlockSpec) -> None:
        self.name = name
        self.begins = tuple(map(lower, spec.begins))
        self._run = _compile_alphabet(name, spec.alphabet)
        self._pattern = _compile_pattern(name, spec.pattern)
        self._longest = spec.longest
        self._replacement = spec.replace
        self._tail: Tail = RunTail(self._run)

    def look(self, text: str, start: int, *, is_end: bool) -> Hit | Undecided | None:
        """Say whether a match begins at `start`, where one of `begins` stands."""
        run = self._run.match(text, start, start + self._longest)
        end = run.end() if run else start
        if end == len(text) and end - start < self._longest and not is_end:
            return Undecided(start)
        found = self._pattern.match(text[start:end])
        if found is None:
            return None
        is_cut = end - start == self._longest == found.end()
        end = start + found.end()
        return Hit(start, start, end, self._replacement, self._tail if is_cut else None)


class BlockRule(PatternRule):
    """A pattern that masks what follows it as well, until an end marker."""

    def __init__(self, name: str, spec: BlockSpec) -> None:
        super().__init__(name, spec)
        self._tail = UntilTail(spec.until)

    def look(self, text: str, start: int, *, is_end: bool) -> Hit | Undecided | None:
        """Say whether a match begins at `start`, where one of `begins` stands."""
        head = super().look(text, start, is_end=is_end)
        return head._replace(tail=self._tail) if isinstance(head, Hit) else head


class WordRule:
    """A pattern that can begin anywhere in a run of its alphabet, around a character it needs."""

    def __init__(self, name: str, spec: PatternSpec) -> None:
        self.name = name
        self._run = _compile_alphabet(name, spec.alphabet)
        self._pattern = _compile_pattern(name, spec.pattern)
        self._longest = spec.longest
        self._replacement = spec.replace
        self.needs = spec.needs

    def find(self, text: str, start: int, *, is_end: bool) -> Hit | Undecided | None:
        """Return the first match at or after `start`."""
        while (needed := text.find(self.needs, start)) >= 0:
            begin = self._run_start(text, start, needed)
            run = self._run.match(text, begin)
            end = run.end() if run else begin
            is_open = end == len(text) and not is_end
            decided = max(begin, end - self._longest) if is_open else end
            found = self._pattern.search(text[begin:end])
            if found and begin + found.start() < decided:
                hit = begin + found.start()
                window = self._pattern.match(text[hit : hit + self._longest])
                if window:
                    return Hit(hit, hit, hit + window.end(), self._replacement, None)
                start = hit + 1
                continue
            if is_open:
                return Undecided(decided)
            start = end
        tail = self.open_from(text, start)
        return Undecided(tail) if tail < len(text) and not is_end else None

    def open_from(self, text: str, start: int) -> int:
        """Return from where on more text could make a match, given that none begins earlier."""
        return self._run_start(text, start, len(text))

    def _run_start(self, text: str, floor: int, position: int) -> int:
        backwards = text[max(floor, position - self._longest) : position][::-1]
        run = self._run.match(backwards)
        return position - run.end() if run else position


_FIELD_HEAD = re.compile(r"""\\?["']?[ \t]{0,4}(?::|=>?)[ \t]{0,4}(\\?["']?)""")
_FIELD_PARTIAL = re.compile(r"""\\?["']?[ \t]{0,4}(?:(?::|=>?)[ \t]{0,4}\\?["']?)?""")
_BARE_VALUE = re.compile(r"""[^\s"'\\,;&)\]}>]*""")
_ESCAPED_VALUE = re.compile(r"""[^"'\\\n]*""")


class FieldRule:
    """The names of fields whose values are masked."""

    def __init__(self, name: str, spec: FieldSpec) -> None:
        self.name = name
        self.begins = tuple(sorted(map(lower, spec.names), key=len, reverse=True))
        self._replacement = spec.replace
        self._bare = RunTail(_BARE_VALUE)
        escaped = RunTail(_ESCAPED_VALUE)
        self._quoted: dict[str, Tail] = {
            '"': QuotedTail('"'),
            "'": QuotedTail("'"),
            '\\"': escaped,
            "\\'": escaped,
        }

    def look(self, text: str, start: int, *, is_end: bool) -> Hit | Undecided | None:
        """Say whether a match begins at `start`, where one of `begins` stands."""
        for name in self.begins:
            if lower(text[start : start + len(name)]) == name:
                found = self._look_after(text, start, start + len(name), is_end=is_end)
                if found is not None:
                    return found
        return None

    def _look_after(
        self, text: str, start: int, end: int, *, is_end: bool
    ) -> Hit | Undecided | None:
        if not is_end and _FIELD_PARTIAL.fullmatch(text, end):
            return Undecided(start)
        head = _FIELD_HEAD.match(text, end)
        if head is None:
            return None
        tail = self._quoted.get(head[1], self._bare)
        stop, _ = tail.swallow(text, head.end())
        if stop == head.end():
            return None
        return Hit(start, head.end(), head.end(), self._replacement, tail)


Rule = PatternRule | FieldRule | WordRule
"""A compiled rule."""
