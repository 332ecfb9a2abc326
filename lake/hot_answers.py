"""What the hot index answers, as it goes over the wire to consoles."""

import msgspec

from lake.rows import Row


class HotPage(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that changed since the page before, or the first if that was of another epoch."""

    epoch: str
    """Another one once the index was rebuilt: what was read under the old one is void."""
    is_first: bool
    """Whether it begins anew: it replaces all that was read before."""
    changed: int
    """Where the next page begins."""
    has_more: bool
    """Whether the next page has something already."""
    is_whole: bool
    """False when a first page left older rows out."""
    rows: list[Row]
    removed: list[str]
    """Ids of exchanges that the tables have by now."""
    removed_until: int
    """Up to which change these are told."""


class HotExchange(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange, whole, as far as it is."""

    row: Row
    pieces: dict[str, bytes]
    """What it brought of its bodies, by piece id; the row says what else they are made of."""


class HotState(msgspec.Struct, frozen=True, kw_only=True):
    """What the index holds."""

    exchanges: int
    running: int
    corrupt_journals: tuple[str, ...]
