"""How far a table has taken in each journal: pure values and their form as table properties."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from gateway.records import Position

PROPERTY_PREFIX: Final = "countersign.cursor."


class Cursor(NamedTuple):
    """How far a table has taken in one journal; only ever grows."""

    closed: Position
    """Every event and every closing before it is in the table, none after it is."""
    open: Position
    """Of the oldest opening that was not closed by then: where rebuilding starts."""


START: Final = Position(0, 0)
NOTHING: Final = Cursor(START, START)

Cursors = dict[str, Cursor]
"""By journal id."""

_decoder = msgspec.json.Decoder(Cursor)


def read_cursors(properties: Mapping[str, str]) -> Cursors:
    """Return the cursors among a table's properties; an unreadable one raises `ValueError`."""
    return {
        key.removeprefix(PROPERTY_PREFIX): _decoder.decode(value)
        for key, value in properties.items()
        if key.startswith(PROPERTY_PREFIX)
    }


def property_of(journal_id: str) -> str:
    """Return the property that holds the cursor of a journal."""
    return f"{PROPERTY_PREFIX}{journal_id}"


def write_cursors(cursors: Mapping[str, Cursor]) -> dict[str, str]:
    """Return cursors as table properties."""
    return {
        property_of(journal): msgspec.json.encode(cursor).decode()
        for journal, cursor in cursors.items()
    }


def advanced(cursors: Cursors, past: Cursors) -> Cursors:
    """Return those of `cursors` that go beyond `past`."""
    return {j: cursor for j, cursor in cursors.items() if cursor > past.get(j, NOTHING)}
