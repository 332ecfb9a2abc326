"""What rules say when they look at a text, and what of it they all look at in the same way."""

import re
from typing import NamedTuple

from gateway.masking.tails import Tail
from gateway.masking.templates import Template

CONTEXT = 3
"""Characters before a text that tell whether a match at its start would stand apart."""

_ESCAPE = re.compile(r"\\[bfnrt]|%[0-9A-Fa-f]{2}")


class Hit(NamedTuple):
    """A decided match that begins at `begin`: `text[start:end]` and what `tail` swallows is masked.

    What stands between `begin` and `start` makes it a match and stays.
    """

    begin: int
    start: int
    end: int
    template: Template
    tail: Tail | None


class Undecided(NamedTuple):
    """Text from `begin` on could be a match; more text will tell."""

    begin: int


Look = Hit | Undecided | None


def lower(text: str) -> str:
    """Return `text` with ASCII letters in lower case; its length stays, unlike in `str.lower`."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def is_word(character: str) -> bool:
    """Say whether a character is an ASCII letter or digit, and no end of the text."""
    return character.isascii() and character.isalnum()


def is_apart(text: str, start: int) -> bool:
    """Say whether no letter or digit touches what begins at `start`, but one of an escape."""
    if not is_word(text[max(0, start - 1) : start]):
        return True
    cut = max(0, start - CONTEXT)
    return any(found.end() == start for found in _ESCAPE.finditer(text, cut, start))
