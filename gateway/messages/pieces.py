"""A request body cut into pieces; joined again they are the body, byte for byte.

A conversation is sent again with each turn, a little longer. It is cut at each message and around
large top-level values, so that most pieces of a turn are those of the turn before. The cuts decide
only how much is found again: pieces are slices, so any cut is a right one.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from gateway.domain import NOT_JSON, Fact

LARGE_BYTES: Final = 1024
"""A top-level value from here on is a piece of its own."""
MOST_MESSAGES: Final = 10_000
"""A longer conversation is not cut at its messages: listing them would be the larger part."""

_LOOK_BYTES: Final = 64
"""By so many bytes a value is looked for, before it is compared whole."""

_T = TypeVar("_T")

_decode_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Pieces(Fact, frozen=True, kw_only=True):
    """The pieces of a body, in order."""

    all: tuple[bytes, ...]
    first_turn: int = 0
    turn_count: int = 0
    places: dict[str, int] = msgspec.field(default_factory=dict)
    """Of large top-level values, by their names: which piece holds one and nothing else."""

    def turns_of(self, values: tuple[_T, ...]) -> tuple[_T, ...]:
        """Return, of one value per piece, those of pieces that hold a message each."""
        return values[self.first_turn : self.first_turn + self.turn_count]


def cut(body: bytes) -> Pieces:
    """Cut a body that is a JSON object; anything else stays whole."""
    turns: list[int] = []
    starts: dict[str, int] = {}
    edges = {0, len(body)}
    try:
        top = _decode_top(body)
        for name, (start, end) in zip(top, _place(top.values(), body, 0), strict=True):
            if name == "messages":
                turns = _turn_edges(body, start, top[name])
                edges.update(turns)
            elif end - start >= LARGE_BYTES:
                starts[name] = start
                edges.update((start, end))
    except (*NOT_JSON, _NotFound):
        return Pieces(all=(body,))
    ordered = sorted(edges)
    return Pieces(
        all=tuple(body[a:b] for a, b in itertools.pairwise(ordered)),
        first_turn=ordered.index(turns[0]) if turns else 0,
        turn_count=max(0, len(turns) - 1),
        places={name: ordered.index(start) for name, start in starts.items()},
    )


class _NotFound(Exception):
    pass


def _turn_edges(body: bytes, start: int, raw: msgspec.Raw) -> list[int]:
    """Return where the first message starts and where each ends; nothing for no list of any."""
    if not body.startswith(b"[", start):
        return []
    messages = _decode_list(raw)
    if not 0 < len(messages) <= MOST_MESSAGES:
        return []
    places = list(_place(messages, body, start + 1))
    return [places[0][0], *(end for _, end in places)]


def _place(values: Iterable[msgspec.Raw], body: bytes, position: int) -> Iterator[tuple[int, int]]:
    """Yield for each value a start and an end between which its bytes stand, in order."""
    for raw in values:
        sought = bytes(raw)
        head = sought[:_LOOK_BYTES]
        position = body.find(head, position)
        while position >= 0 and not body.startswith(sought, position):
            position = body.find(head, position + 1)
        if position < 0:
            raise _NotFound
        yield position, position + len(sought)
        position += len(sought)
