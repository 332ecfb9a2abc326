"""Mask rules as the bundle writes them, in `data.gateway.masks`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from gateway.domain import Strict


class BadRule(Exception):
    """A rule of the tables that can't be used; it says which and why."""

    def __init__(self, rule: str, why: str, field: str = "") -> None:
        super().__init__(f"{rule}: {why}")
        self.rule = rule
        """As the tables name it: `mask NAME` or `signal NAME`."""
        self.field = field
        """What of the rule is wrong, if it is one field."""


_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
_Texts = Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1)]
_Longest = Annotated[int, msgspec.Meta(ge=1, le=8192)]


class PatternSpec(Strict, frozen=True, kw_only=True, tag_field="kind", tag="pattern"):
    """Values of a known form, such as keys and tokens."""

    title: str
    pattern: _Text
    """RE2. With a group, only what the group holds is masked."""
    begins: tuple[_Text, ...] = ()
    """What every match begins with: literals, of ASCII."""
    starts: tuple[_Text, ...] = ()
    """Or: character classes with counts, such as `[A-Z]{2}[0-9]{2}`."""
    needs: Annotated[str, msgspec.Meta(max_length=1)] = ""
    """Or, for a match that may begin anywhere in a word: a character that it contains."""
    alphabet: _Text
    """The characters of a match, after what it begins with."""
    longest: _Longest
    """Characters; what an unlimited match has beyond them is swallowed."""
    apart: Literal["", "before", "both"] = ""
    """Where no letter or digit may touch a match."""
    check: Literal["", "luhn", "iban"] = ""
    """The checksum that a match must pass."""
    entropy: Annotated[float, msgspec.Meta(ge=0, le=8)] = 0.0
    """Least bits per character of the masked value: lets placeholders and words pass."""
    replace: _Text
    """What takes its place: `{rule}` and `{tag}` are filled in."""


class BlockSpec(Strict, frozen=True, kw_only=True, tag_field="kind", tag="block"):
    """A head, and all that follows until an end marker."""

    title: str
    pattern: _Text
    begins: _Texts
    alphabet: _Text
    longest: _Longest
    until: _Text
    replace: _Text


class FieldSpec(Strict, frozen=True, kw_only=True, tag_field="kind", tag="field"):
    """The value of a named field, as it stands in code, JSON, YAML, dotenv, a query or a header."""

    title: str
    names: tuple[_Text, ...] = ()
    """In any case, also as the end of a longer name."""
    paths: tuple[_Text, ...] = ()
    """Or: names with those they stand below, `database.password`, at any depth; in any case."""
    value: Literal["word", "line"] = "word"
    """How far a value without quotes goes."""
    replace: _Text


Spec = PatternSpec | BlockSpec | FieldSpec
MaskTable = dict[str, Spec]


def read_masks(table: Mapping[str, Any]) -> MaskTable:
    """Return the rules of a table as plain JSON values have it.

    Raises:
        BadRule: one is not of the declared form.
    """
    masks: MaskTable = {}
    for name, rule in table.items():
        try:
            masks[name] = msgspec.convert(rule, Spec)
        except msgspec.ValidationError as e:
            raise BadRule(f"mask {name}", str(e), _field_of(str(e))) from e
    return masks


def _field_of(error: str) -> str:
    """Return the field that msgspec says is wrong: "... - at `$.longest`"."""
    _, _, path = error.partition("`$.")
    return path.partition("`")[0].partition("[")[0]
