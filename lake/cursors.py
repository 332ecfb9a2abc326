"""How far a table has taken in each journal: pure values and their form as table properties."""

from typing import Final, NamedTuple

from gateway.records import Position
from lake.properties import PerJournal


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

_properties = PerJournal("countersign.cursor.", Cursor)
read_cursors, write_cursors = _properties.read, _properties.write
property_of = _properties.name


def advanced(cursors: Cursors, past: Cursors) -> Cursors:
    """Return those of `cursors` that go beyond `past`."""
    return {j: cursor for j, cursor in cursors.items() if cursor > past.get(j, NOTHING)}
