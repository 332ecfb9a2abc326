"""What was recorded never reaches a terminal as anything but text."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from gateway.display import visible


@given(text=st.text())
def test_nothing_that_moves_a_cursor_survives(text: str) -> None:
    for character in visible(text, one_line=True):
        assert unicodedata.category(character) != "Cc"
        assert unicodedata.bidirectional(character) not in {"LRO", "RLO", "LRE", "RLE", "PDF"}


def test_control_characters_are_shown() -> None:
    assert visible("a\x1b[31m\u202eb\nc") == "a\\x1b[31m\\u202eb\nc"
    assert visible("a\nb\tc", one_line=True) == "a⏎b c"
