"""Request bodies from pieces: an exchange keeps pieces of an earlier one, and so on.

Pure. Sharing never crosses a session, a day, a retention class or a protection, so what is needed
for one body lies in one session's rows of one day.
"""

from collections.abc import Mapping, Sequence

import msgspec


class Part(msgspec.Struct, frozen=True):
    """An element of the column `request_parts`."""

    piece_id: str
    """Empty for pieces kept from the base."""
    start: int
    count: int


class Composition(msgspec.Struct, frozen=True):
    """How the request body of an exchange is made up."""

    base_exchange_id: str | None
    request_parts: list[Part]


class BrokenBody(Exception):
    """A body can't be put together: something that it is made of is not there."""


def request_pieces(exchange_id: str, compositions: Mapping[str, Composition]) -> list[str]:
    """Return the ids of all pieces of a request body, in order.

    Args:
        exchange_id: Whose body.
        compositions: By exchange id; of all exchanges that it builds on, and any others.

    Raises:
        BrokenBody: an exchange is missing, keeps what its base does not have, or is its own base.
    """
    lineage: list[Composition] = []
    following: str | None = exchange_id
    while following is not None:
        if following not in compositions or len(lineage) == len(compositions):
            raise BrokenBody(f"the body builds on exchange {following}, which is not there")
        lineage.append(compositions[following])
        following = lineage[-1].base_exchange_id
    pieces: list[str] = []
    while lineage:
        pieces = _compose(lineage.pop().request_parts, pieces)
    return pieces


def _compose(parts: Sequence[Part], base: Sequence[str]) -> list[str]:
    pieces: list[str] = []
    for part in parts:
        if part.piece_id:
            pieces.append(part.piece_id)
            continue
        if not 0 <= part.start <= part.start + part.count <= len(base):
            raise BrokenBody("the body keeps pieces that its base does not have")
        pieces += base[part.start : part.start + part.count]
    return pieces


def join(pieces: Mapping[str, bytes], piece_ids: Sequence[str]) -> bytes | None:
    """Join pieces in order; None for none.

    Raises:
        BrokenBody: one is missing; a body with a hole would mislead.
    """
    try:
        return b"".join(pieces[piece] for piece in piece_ids) if piece_ids else None
    except KeyError as e:
        raise BrokenBody(f"the piece {e.args[0]} is not there") from e
