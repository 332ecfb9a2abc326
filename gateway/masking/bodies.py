"""Masks request bodies, for the model and for the record: their strings, and nothing else.

A body is masked piece by piece. What became of a piece is kept by its digest, so that a turn costs
what is new in it. No original is kept; bounded, the oldest goes first.
"""

from collections import Counter
from typing import Final, NamedTuple

from gateway.masking.checks import Blocked, is_opaque, unescape
from gateway.masking.leaf import Match, mask_string
from gateway.masking.rule_set import RuleSet
from gateway.masking.strings import Leaf, find_leaves, write_again
from gateway.masking.templates import Tagger
from gateway.messages.pieces import Pieces

MOST_PIECES: Final = 50_000
"""Kept by a worker; some 300 bytes each, beside what was masked."""
MOST_BYTES: Final = 32 * 1024 * 1024
"""Of masked pieces kept by a worker."""


class Way(NamedTuple):
    """By which rules a body is masked, and what for."""

    rules: RuleSet
    key: bytes
    """Of all that pieces depend on beside their bytes: rules, revision, tags, and what for."""
    tagger: Tagger | None
    place: str
    """What the record calls it: `request` or `record`."""
    keeps_thinking: bool
    """Whether signed thinking stays: the Claude server takes back what it wrote, or nothing."""


class Masked(NamedTuple):
    """A body after masking."""

    pieces: tuple[bytes, ...]
    counts: Counter[tuple[str, str]]
    """Hits by rule and place."""


class _Kept(NamedTuple):
    piece: bytes | None
    """None where nothing in it was masked."""
    hits: tuple[tuple[str, int], ...]


class Bodies:
    """The memory of one worker."""

    def __init__(self) -> None:
        self._kept: dict[tuple[bytes, str | None, bytes], _Kept] = {}
        self._bytes = 0

    def mask(self, way: Way, pieces: Pieces, digests: tuple[bytes, ...]) -> Masked:
        """Return the pieces of a body masked; they have these digests.

        Raises:
            Blocked: names of fields would become one.
        """
        names = {place: name for name, place in pieces.places.items()}
        turns = range(pieces.first_turn, pieces.first_turn + pieces.turn_count)
        masked: list[bytes] = []
        counts: Counter[tuple[str, str]] = Counter()
        for place, (piece, digest) in enumerate(zip(pieces.all, digests, strict=True)):
            name = names.get(place)
            kept = self._mask_piece(way, piece, digest, name)
            masked.append(piece if kept.piece is None else kept.piece)
            for rule, count in kept.hits:
                where = "messages" if place in turns else name or "body"
                counts[rule, f"{way.place}.{where}"] += count
        return Masked(tuple(masked), counts)

    def _mask_piece(self, way: Way, piece: bytes, digest: bytes, name: str | None) -> _Kept:
        key = (way.key, name, digest)
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = _mask_piece(way, piece, name)
            self._bytes += len(kept.piece or b"")
            while len(self._kept) > MOST_PIECES or self._bytes > MOST_BYTES:
                oldest = self._kept.pop(next(iter(self._kept)))
                self._bytes -= len(oldest.piece or b"")
        return kept


def _mask_piece(way: Way, piece: bytes, name: str | None) -> _Kept:
    text = piece.decode()
    sought = unescape(text)
    if not way.rules.may_match(sought if name is None else f'"{name}": {sought}'):
        return _Kept(None, ())
    hits: Counter[str] = Counter()

    def replace(match: Match) -> str:
        hits[match.rule] += 1
        return match.replaced(way.tagger)

    replaced: list[tuple[Leaf, str]] = []
    for leaf in find_leaves(text, name):
        field = None if leaf.is_name else leaf.name
        new = leaf.text
        if _is_looked_at(leaf, way):
            new = mask_string(way.rules, replace, leaf.text, field)
        if leaf.is_name:
            _take_name(leaf, new, f"{way.place}.body", hits)
        if new != leaf.text:
            replaced.append((leaf, new))
    return _Kept(write_again(text, replaced).encode() if replaced else None, tuple(hits.items()))


def _take_name(leaf: Leaf, new: str, where: str, hits: Counter[str]) -> None:
    """Note the name of a field; two that masking makes one would hide a value."""
    if new in leaf.holder.names:
        raise Blocked(next(iter(hits), ""), where)
    leaf.holder.names.add(new)


def _is_looked_at(leaf: Leaf, way: Way) -> bool:
    holder, name = leaf.holder, leaf.name
    if leaf.is_name:
        return True
    if holder.is_free:
        return leaf.is_string or leaf.text not in {"true", "false", "null"}
    if not leaf.is_string:
        return False
    is_signed_thought = name == "thinking" and holder.kind == "thinking" and holder.is_signed
    if is_signed_thought and way.keeps_thinking:
        return False
    return name is None or holder.is_list or not is_opaque({"type": holder.kind}, name)
