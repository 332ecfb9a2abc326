"""Gives the Claude server its own thinking back: opens the seals in a request."""

from gateway.masking.seals import MARK, BadSeal, SessionSeals, Thought
from gateway.masking.strings import Leaf, find_leaves, write_again

_MARKED = f'"{MARK}'.encode()


def is_sealed(piece: bytes) -> bool:
    """Say whether a piece of a request may hold a seal."""
    return _MARKED in piece


def open_thoughts(piece: bytes, seals: SessionSeals | None) -> bytes:
    """Return a piece of a request with its sealed thinking blocks as they once were.

    Raises:
        BadSeal: one can't be opened for this session.
    """
    if not is_sealed(piece):
        return piece
    text = piece.decode()
    leaves = [
        leaf
        for leaf in find_leaves(text, None)
        if leaf.name in {"thinking", "signature"}
        and leaf.holder.kind == "thinking"
        and leaf.is_string
        and not (leaf.is_name or leaf.holder.is_free)
    ]
    opened = {
        leaf.holder: _open(seals, leaf.text)
        for leaf in leaves
        if leaf.name == "signature" and leaf.text.startswith(MARK)
    }

    def original(leaf: Leaf) -> str:
        thought = opened[leaf.holder]
        return thought.thinking if leaf.name == "thinking" else thought.signature

    replaced = [(leaf, original(leaf)) for leaf in leaves if leaf.holder in opened]
    return write_again(text, replaced).encode()


def _open(seals: SessionSeals | None, token: str) -> Thought:
    if seals is None:
        raise BadSeal
    return seals.open(token)
