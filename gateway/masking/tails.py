"""What swallows the rest of a match that was replaced before its end was seen."""

import re
from typing import Protocol


class Tail(Protocol):
    """Swallows the part of a match whose end was not seen yet."""

    def swallow(self, text: str, start: int) -> tuple[int, bool]:
        """Return where swallowing stopped and whether the match ended there."""


class RunTail:
    """Swallows characters of an alphabet."""

    def __init__(self, run: re.Pattern[str]) -> None:
        self._run = run

    def swallow(self, text: str, start: int) -> tuple[int, bool]:
        """Say where swallowing stopped and whether the match ended there."""
        found = self._run.match(text, start)
        end = found.end() if found else start
        return end, end < len(text)


class UntilTail:
    """Swallows everything up to and with a literal."""

    def __init__(self, literal: str) -> None:
        self._literal = literal

    def swallow(self, text: str, start: int) -> tuple[int, bool]:
        """Say where swallowing stopped and whether the match ended there."""
        found = text.find(self._literal, start)
        if found >= 0:
            return found + len(self._literal), True
        return max(start, len(text) - len(self._literal) + 1), False


class QuotedTail:
    """Swallows up to an unescaped closing quote, which stays, or the end of the line."""

    def __init__(self, quote: str) -> None:
        self._inside = re.compile(rf"(?:[^{quote}\\\n]|\\[^\n])*")

    def swallow(self, text: str, start: int) -> tuple[int, bool]:
        """Say where swallowing stopped and whether the match ended there."""
        found = self._inside.match(text, start)
        end = found.end() if found else start
        return end, end < len(text) and text[end:] != "\\"
