"""What the hot index answers, as it goes over the wire to consoles."""

import msgspec

from lake.rows import Row


class HotPage(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that changed since the page before, or the first if that was of another epoch."""

    epoch: str
    """Another one as soon as any row was removed: what was read under the old one is void."""
    changed: int
    """Where the next page begins."""
    has_more: bool
    """Whether the next page has something already."""
    is_whole: bool
    """False when a first page left older rows out."""
    rows: list[Row]


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
