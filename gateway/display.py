"""What was recorded, made safe to show: it is hostile input for whoever reads it. Pure."""

import re
from typing import Any, Final

HIDDEN: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069"
    r"\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""Characters that move a cursor, turn text round or can't be seen."""


def visible(text: Any, *, one_line: bool = False) -> str:
    """Return text with control, bidirectional and invisible characters shown instead of sent.

    Whatever was recorded is hostile: it must not move the cursor or colour the terminal.
    """
    shown = HIDDEN.sub(lambda found: escape(found[0]), str(text))
    return shown.replace("\n", "⏎").replace("\t", " ") if one_line else shown


def escape(character: str) -> str:
    """Return how a hidden character is shown."""
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def shortened(text: str, longest: int) -> str:
    """Return text of bounded length, that says what it leaves out."""
    left_out = len(text) - longest
    return text if left_out <= 0 else f"{text[:longest]}\n[… {left_out:,} more characters]"
