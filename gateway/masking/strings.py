"""Finds the strings in a slice of a request body, and writes it again with some of them replaced.

A slice begins and ends between values, so that each string in it is whole; what else it begins or
ends with does not matter. All but the replaced strings stays byte for byte.
"""

import re
from collections.abc import Iterable

import msgspec

_TOKEN = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}\[\]]|[^\s"{}\[\],:]+', re.DOTALL)
_FREE_FORM = frozenset({"input", "input_schema"})
"""Fields whose structure is no part of the API."""

_decode = msgspec.json.Decoder(str).decode


class Holder:
    """An object or a list of a slice; the slice itself, too."""

    __slots__ = ("is_free", "is_list", "is_signed", "kind", "name", "names")

    def __init__(self, name: str | None, *, is_list: bool, is_free: bool) -> None:
        self.is_list = is_list
        self.name = name
        """Of the field whose value comes next; of a list, of the field that it is the value of."""
        self.is_free = is_free
        """Whether its structure is no part of the API, but something that was written."""
        self.kind = ""
        """Its `type`, wherever in it that stands."""
        self.is_signed = False
        self.names: set[str] = set()


class Leaf:
    """A string or a number, or the name of a field."""

    __slots__ = ("end", "holder", "is_name", "is_string", "name", "start", "text")

    def __init__(self, found: "re.Match[str]", holder: Holder) -> None:
        self.is_string = found[1] is not None
        self.is_name = found[2] is not None
        self.start = found.start()
        self.end = found.end(1) if self.is_string else found.end()
        self.text: str = _decode(found[1]) if self.is_string else found[0]
        """Decoded."""
        self.holder = holder
        self.name = holder.name
        """Of the field that it is the value of."""


def find_leaves(text: str, name: str | None) -> list[Leaf]:
    """Return the leaves of a slice, in order; `name` is that of the field whose value it is."""
    leaves: list[Leaf] = []
    holders = [Holder(name, is_list=False, is_free=False)]
    for found in _TOKEN.finditer(text):
        holder = holders[-1]
        match found[0]:
            case "{" | "[" as sign:
                is_free = holder.is_free or holder.name in _FREE_FORM
                inner = holder.name if sign == "[" else None
                holders.append(Holder(inner, is_list=sign == "[", is_free=is_free))
            case "}" | "]":
                if len(holders) > 1:
                    holders.pop()
            case _:
                leaf = Leaf(found, holder)
                leaves.append(leaf)
                _note(leaf, holder)
    return leaves


def _note(leaf: Leaf, holder: Holder) -> None:
    """Note what a leaf says of the object it is in."""
    if leaf.is_name:
        holder.name = leaf.text
    elif leaf.name == "type" and leaf.is_string:
        holder.kind = leaf.text
    elif leaf.name == "signature" and leaf.text:
        holder.is_signed = True


def write_again(text: str, replaced: Iterable[tuple[Leaf, str]]) -> str:
    """Return a slice with some of its leaves replaced by strings; these are given in order."""
    parts: list[str] = []
    at = 0
    for leaf, new in replaced:
        parts += (text[at : leaf.start], msgspec.json.encode(new).decode())
        at = leaf.end
    return "".join((*parts, text[at:]))
