"""Cursors as values and as table properties."""

import pytest

from gateway.records import Position
from lake.cursors import Cursor, advanced, read_cursors, write_cursors

NEAR = Cursor(closed=Position(1, 50), open=Position(0, 7))
FAR = Cursor(closed=Position(2, 0), open=Position(1, 3))


def test_cursors_are_what_was_written_among_other_properties() -> None:
    written = write_cursors({"a": NEAR, "b": FAR})
    assert written["countersign.cursor.a"] == "[[1,50],[0,7]]"
    assert read_cursors(written | {"owner": "x"}) == {"a": NEAR, "b": FAR}


def test_an_unreadable_cursor_is_an_error_and_not_a_beginning() -> None:
    with pytest.raises(ValueError, match="array"):
        read_cursors({"countersign.cursor.a": "{"})


def test_only_what_goes_beyond_is_advanced() -> None:
    assert advanced({"a": NEAR, "b": FAR, "c": NEAR}, {"a": FAR, "b": NEAR}) == {
        "b": FAR,
        "c": NEAR,
    }
