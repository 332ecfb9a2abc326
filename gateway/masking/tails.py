"""What swallows the rest of a match that began before its end was seen."""

import re
from typing import Protocol


class Tail(Protocol):
    """Swallows the part of a match whose end was not seen yet."""

    def swallow(self, text: str, start: int, *, is_end: bool) -> tuple[int, bool]:
        """Return where swallowing stopped and whether the match ended there.

        At the end of the text it ends in any case.
        """


class RunTail:
    """Swallows characters of an alphabet."""

    def __init__(self, run: re.Pattern[str]) -> None:
        self._run = run

    def swallow(self, text: str, start: int, *, is_end: bool) -> tuple[int, bool]:
        """Say where swallowing stopped and whether the match ended there."""
        found = self._run.match(text, start)
        end = found.end() if found else start
        return end, is_end or end < len(text)


class UntilTail:
    """Swallows everything up to and with a literal, as long as it looks like a key's body.

    A head in prose has no body: where `_GAP` characters pass without a long run of base64, the
    match has ended with the last one. A body keeps its runs however its lines are indented,
    quoted or numbered.
    """

    _GAP = 160
    _RUN = re.compile(r"[A-Za-z0-9+/=]{16,}")

    def __init__(self, literal: str) -> None:
        self._literal = literal
        self._kept = max(len(literal), 16)

    def swallow(self, text: str, start: int, *, is_end: bool) -> tuple[int, bool]:
        """Say where swallowing stopped and whether the match ended there."""
        while True:
            reach = start + self._GAP
            body = self._RUN.search(text, start, reach + 16)
            if body and body.start() >= reach:
                body = None
            marker = text.find(self._literal, start, reach + len(self._literal))
            if marker >= 0 and not (body and body.start() < marker):
                return marker + len(self._literal), True
            if body is None:
                break
            whole = self._RUN.match(text, body.start())
            end = whole.end() if whole else body.end()
            if end == len(text) and not is_end:
                return max(start, end - self._kept), False  # it may go on, or be the marker's
            start = end
        if is_end:
            return len(text), True
        return start, len(text) >= reach + self._kept


class QuotedTail:
    """Swallows up to an unescaped closing quote, which stays, or the end of the line."""

    def __init__(self, quote: str) -> None:
        self._inside = re.compile(rf"(?:[^{quote}\\\n]|\\[^\n])*")

    def swallow(self, text: str, start: int, *, is_end: bool) -> tuple[int, bool]:
        """Say where swallowing stopped and whether the match ended there."""
        found = self._inside.match(text, start)
        end = found.end() if found else start
        if is_end and text[end:] == "\\":
            return len(text), True
        return end, is_end or (end < len(text) and text[end:] != "\\")
