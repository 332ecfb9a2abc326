"""Mask rules, compiled.

RE2 says nothing about partial matches, so a rule declares how its matches can begin and of which
characters they consist. From that alone it is known, for text that is still arriving, whether a
match can no longer begin here, has been found, or is undecided. Only the undecided is held.
"""

import re
from collections.abc import Mapping

import re2

from gateway.masking.checksums import CHECKS, entropy
from gateway.masking.fields import FieldRule
from gateway.masking.looks import Hit, Look, Undecided, is_apart, is_word
from gateway.masking.specs import BadRule, BlockSpec, FieldSpec, MaskTable, PatternSpec, Spec
from gateway.masking.tails import RunTail, Tail, UntilTail
from gateway.masking.templates import Template

__all__ = ["BadRule", "MaskTable", "PatternRule", "Rule", "WordRule", "compile_rules"]

_CLASS = r"\[(?:[^\[\]\\]|\\[\w\\\[\]-])+\]"
_STEP = re.compile(rf"({_CLASS})(?:\{{(\d{{1,2}})\}})?")
_MOST_STEPS = 16
_PATH = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")
_QUIET = re2.Options()
_QUIET.log_errors = False


def compile_rules(table: Mapping[str, Spec]) -> "dict[str, Rule]":
    """Return the compiled rules of a table.

    Raises:
        BadRule: a pattern does not compile or a declaration is missing.
    """
    return {name: _compile(name, spec) for name, spec in table.items()}


def _compile(name: str, spec: Spec) -> "Rule":
    rule = f"mask {name}"
    try:
        template = Template(name, spec.replace)
    except ValueError as e:
        raise BadRule(rule, str(e), "replace") from e
    match spec:
        case FieldSpec():
            _check_field(rule, spec)
            return FieldRule(name, spec)
        case PatternSpec() if [bool(spec.begins), bool(spec.starts), bool(spec.needs)].count(
            True
        ) != 1:
            raise BadRule(rule, "one of `begins`, `starts` and `needs` must say how it begins")
        case PatternSpec() if spec.needs:
            return WordRule(name, Form(rule, spec, template), spec.needs)
        case PatternSpec():
            return PatternRule(name, Form(rule, spec, template), spec)
        case BlockSpec():
            return PatternRule(name, Form(rule, spec, template), spec)


def _check_field(rule: str, spec: FieldSpec) -> None:
    if bool(spec.names) == bool(spec.paths):
        raise BadRule(rule, "either `names` or `paths` must say which fields")
    if not all(map(_PATH.fullmatch, spec.paths)):
        raise BadRule(rule, "a path is names with dots between them", "paths")


class Form:
    """What the matches of a pattern look like, once it is known where they may begin."""

    def __init__(self, rule: str, spec: PatternSpec | BlockSpec, template: Template) -> None:
        self.longest = spec.longest
        self.run = _compile_alphabet(rule, spec.alphabet)
        self.apart = spec.apart if isinstance(spec, PatternSpec) else ""
        self._pattern = _compile_pattern(rule, spec.pattern)
        self._check = CHECKS.get(spec.check) if isinstance(spec, PatternSpec) else None
        self._entropy = spec.entropy if isinstance(spec, PatternSpec) else 0.0
        self._template = template
        self._tail: Tail = RunTail(self.run)
        self._block = UntilTail(spec.until) if isinstance(spec, BlockSpec) else None

    def search(self, text: str, start: int, end: int) -> int:
        """Return where the pattern first matches in `text[start:end]`, or -1."""
        found = self._pattern.search(text[start:end])
        return start + found.start() if found else -1

    def match(self, text: str, start: int, end: int) -> Hit | None:
        """Return the match that begins at `start` and ends at `end` at most, if it is valid.

        `text` goes on after `end`, or will not go on.
        """
        found = self._pattern.match(text[start:end])
        if found is None:
            return None
        first, last = found.span(self._pattern.groups)
        if first < 0:
            return None
        size = found.end()
        if self._check is not None:
            last = self._check(found[0][first:last])
            size = last = first + last if last else 0
        if not size or (self._entropy and entropy(found[0][first:last]) < self._entropy):
            return None
        if self.apart == "both" and is_word(text[start + size : start + size + 1]):
            return None
        is_cut = size == last == self.longest == end - start and self.apart != "both"
        tail = self._block or (self._tail if is_cut else None)
        return Hit(start, start + first, start + last, self._template, tail)


class PatternRule:
    """A pattern whose every match begins with one of some literals or a sequence of classes."""

    def __init__(self, name: str, form: Form, spec: PatternSpec | BlockSpec) -> None:
        self.name = name
        self.begins = spec.begins
        self.starts = tuple(
            _read_steps(f"mask {name}", start)
            for start in (spec.starts if isinstance(spec, PatternSpec) else ())
        )
        """Of each sequence: its classes."""
        self.first_characters = {word[0] for word in self.begins} | {
            chr(code) for code in range(128) for cls in self.starts if re.match(cls[0], chr(code))
        }
        self.is_apart = bool(form.apart)
        self._form = form
        self._begin = re.compile(
            "|".join(
                [
                    *map(re.escape, sorted(self.begins, key=len, reverse=True)),
                    *map("".join, self.starts),
                ]
            )
        )
        if not all(map(str.isascii, self.begins)):
            raise BadRule(f"mask {name}", "a match must begin with ASCII", "begins")

    def look(self, text: str, start: int, *, is_end: bool) -> Look:
        """Say whether a match begins at `start`."""
        begin = self._begin.match(text, start)
        if begin is None or (self.is_apart and not is_apart(text, start)):
            return None
        form = self._form
        limit = start + form.longest
        run = form.run.match(text, begin.end(), limit)
        end = run.end() if run else min(begin.end(), limit)
        if end == len(text) and not is_end and (end < limit or form.apart == "both"):
            return Undecided(start)
        return form.match(text, start, end)


class WordRule:
    """A pattern that can begin anywhere in a run of its alphabet, around a character it needs."""

    def __init__(self, name: str, form: Form, needs: str) -> None:
        self.name = name
        self.needs = needs
        self._form = form

    def find(self, text: str, start: int, *, is_end: bool) -> Hit | Undecided | None:
        """Return the first match at or after `start`."""
        form, seek = self._form, start
        while (needed := text.find(self.needs, seek)) >= 0:
            begin = self._run_start(text, start, needed)
            limit = needed + form.longest
            run = form.run.match(text, begin, limit)
            end = run.end() if run else begin
            is_open = end == len(text) and not is_end
            decided = max(begin, end - form.longest) if is_open else end
            at = form.search(text, begin, end)
            if 0 <= at < decided and at <= needed:
                hit = form.match(text, at, min(end, at + form.longest))
                if hit:
                    return hit
                start = at + 1
            elif is_open and not needed < at < decided:
                return Undecided(decided)
            else:
                seek = needed + 1 if end == limit or at > needed else end
        tail = self.open_from(text, start)
        return Undecided(tail) if tail < len(text) and not is_end else None

    def open_from(self, text: str, start: int) -> int:
        """Return from where on more text could make a match, given that none begins earlier."""
        return self._run_start(text, start, len(text))

    def _run_start(self, text: str, floor: int, position: int) -> int:
        backwards = text[max(floor, position - self._form.longest) : position][::-1]
        run = self._form.run.match(backwards)
        return position - run.end() if run else position


Rule = PatternRule | FieldRule | WordRule
"""A compiled rule."""


def _compile_pattern(rule: str, pattern: str) -> "re2._Regexp":
    compiled = compile_re2(rule, pattern)
    if compiled.groups > 1:
        raise BadRule(rule, "only one group can say what of a match is masked", "pattern")
    if compiled.match("") is not None:
        raise BadRule(rule, "the pattern matches nothing at all", "pattern")
    return compiled


def compile_re2(rule: str, pattern: str) -> "re2._Regexp":
    """Return a compiled pattern; raises `BadRule`."""
    try:
        return re2.compile(pattern, _QUIET)
    except re2.error as e:
        reason = e.args[0].decode() if e.args and isinstance(e.args[0], bytes) else str(e)
        raise BadRule(rule, f"the pattern is not RE2: {reason}", "pattern") from e


def _compile_alphabet(rule: str, alphabet: str) -> re.Pattern[str]:
    if not re.fullmatch(_CLASS, alphabet):
        raise BadRule(rule, f"the alphabet must be one character class: {alphabet}", "alphabet")
    try:
        return re.compile(alphabet + "*")
    except re.error as e:
        raise BadRule(rule, f"the alphabet is no character class: {e}", "alphabet") from e


def _read_steps(rule: str, start: str) -> tuple[str, ...]:
    """Return the classes of a sequence, one per character."""
    steps = [(step[1], int(step[2] or 1)) for step in _STEP.finditer(start)]
    classes = tuple(cls for cls, count in steps for _ in range(count))
    if _STEP.sub("", start) or not 0 < len(classes) <= _MOST_STEPS:
        raise BadRule(
            rule, f"a start is classes with counts, up to {_MOST_STEPS}: {start}", "starts"
        )
    for cls in classes:
        _compile_alphabet(rule, cls)
    return classes
