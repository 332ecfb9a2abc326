"""Which keys enclose a place in JSON, YAML, TOML and the like; a function of the text before it."""

import re
from typing import NamedTuple

_MOST_CHARS = 4096
"""Of a line that are read at once: a longer line is read in parts of this size."""
_MOST_KEYS = 64
"""Deeper nesting is not followed."""
_TOKEN = re.compile(
    r"""(?P<section>^\[+[A-Za-z0-9_."-]+\]+[ \t]*$)
      | (?<![A-Za-z0-9_.-])(?P<key>["']?[A-Za-z0-9_.-]{1,64}+["']?)
        [ \t]*[:=][ \t]*(?P<opens>[{\[]|$)
      | (?P<text>"(?:[^"\\]|\\.)*+")
      | (?P<open>[{\[])
      | (?P<close>[}\]])""",
    re.VERBOSE,
)
_DOTTED = re.compile(r"(?<![A-Za-z0-9_.-])[A-Za-z0-9_.-]*+\Z")
_QUOTES = "\"'"


class _Enclosing(NamedTuple):
    key: str
    column: int
    """Of the key's line in YAML; -1 for a brace."""


class Keys:
    """Follows the keys of a text, fed in any chunking."""

    def __init__(self) -> None:
        self._stack: list[_Enclosing] = []
        self._line = ""
        self._is_start = True
        """Whether what is kept of the line begins it."""

    def feed(self, text: str) -> None:
        """Take in more text."""
        self._line += text
        while True:
            size = self._line.find("\n", 0, _MOST_CHARS)
            is_over = size >= 0
            if not is_over and len(self._line) < _MOST_CHARS:
                return
            size = size if is_over else _MOST_CHARS
            _read(self._stack, self._line[:size], is_start=self._is_start, is_over=is_over)
            self._line, self._is_start = self._line[size + is_over :], is_over

    def copy(self) -> "Keys":
        """Return another that knows the same."""
        other = Keys()
        other._stack, other._line, other._is_start = [*self._stack], self._line, self._is_start
        return other

    def enclosing(self) -> tuple[str, ...]:
        """Return the keys around what follows next, outermost first, in lower case."""
        stack = [*self._stack]
        line = self._line.rstrip(_QUOTES)
        _read(stack, f"{line}.", is_start=self._is_start, is_over=False)
        dotted = _DOTTED.search(line)
        names = dotted[0].rstrip(".").split(".") if dotted and dotted[0].endswith(".") else []
        keys = ".".join(each.key for each in stack if each.key).split(".")
        return tuple(key.lower() for key in (*keys, *names) if key)


def _read(stack: list[_Enclosing], line: str, *, is_start: bool, is_over: bool) -> None:
    """Take a line, or a part of one, into account."""
    column = len(line) - len(line.lstrip(" \t-"))
    if is_start and column < len(line):
        while stack and stack[-1].column >= column:
            stack.pop()
    for token in _TOKEN.finditer(line):
        if token["section"]:
            stack[:] = [_Enclosing(token["section"].strip('[]" \t'), -1)]
        elif token["key"]:
            _open(stack, token, column, is_over=is_over)
        elif token["open"]:
            stack.append(_Enclosing("", -1))
        elif token["close"]:
            _close(stack)
    del stack[: max(0, len(stack) - _MOST_KEYS)]


def _close(stack: list[_Enclosing]) -> None:
    while stack and stack.pop().column >= 0:
        pass


def _open(stack: list[_Enclosing], token: re.Match[str], column: int, *, is_over: bool) -> None:
    if token["opens"]:
        stack.append(_Enclosing(token["key"].strip(_QUOTES), -1))
    elif is_over:
        stack.append(_Enclosing(token["key"].strip(_QUOTES), column))
