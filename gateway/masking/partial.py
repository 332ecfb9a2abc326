"""Masks JSON that arrives in fragments: each string for itself, all else byte for byte.

What is released is the beginning of JSON that parses: a value is replaced inside its quotes, a
number by a string. Names can't be replaced. Strings are cut between their escapes only.
"""

import re
from typing import Final

import msgspec

from gateway.masking.leaf import Decide, LeafMasker, Match, Named, mask_string, named_by
from gateway.masking.rule_set import RuleSet

_OUTSIDE = re.compile(r'[\s{}\[\]:,]+|"|[^\s"{}\[\]:,]+')
_UNIT = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|\\u[0-9a-fA-F]{4}|\\[^u]",
    re.DOTALL,
)
"""An escape, or two that are one character."""
_CUT_UNIT = re.compile(
    r"\\(?:u(?:[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?|[0-9a-fA-F]{0,3}))?\Z"
)
_PLAIN = re.compile(r'[^"\\]+')
_SCALAR = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")
_LONGEST_UNIT: Final = 12
_SHORT = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class NotJson(Exception):
    """What arrived is no JSON, so nothing in it can be replaced."""


class NameHit(Exception):
    """A rule matched in the name of a field."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class _Holder:
    """An object or a list that is open."""

    __slots__ = ("is_object", "name", "wants_name")

    def __init__(self, name: str | None, *, is_object: bool) -> None:
        self.is_object = is_object
        self.name = name
        """Of the field whose value comes next, or in whose value the list is."""
        self.wants_name = is_object


class JsonMasker:
    """Masks one JSON value, fed in any chunking. The result depends on the value alone."""

    def __init__(self, rules: RuleSet, decide: Decide) -> None:
        self._rules = rules
        self._decide = decide
        self._holders = [_Holder(None, is_object=False)]
        self._rest = ""
        self._string: _Name | _Whole | _Parts | None = None
        """The string that is open."""

    @property
    def is_holding(self) -> bool:
        """Whether something was fed that is neither out nor masked yet."""
        return bool(self._rest) or (self._string is not None and self._string.is_holding)

    def feed(self, fragment: str) -> str:
        """Take in more of the JSON and return what can be released.

        Raises:
            NotJson: it is none.
            NameHit: a rule matched in the name of a field.
        """
        text, self._rest = self._rest + fragment, ""
        released: list[str] = []
        at = 0
        while at < len(text):
            if self._string is not None:
                at, is_over = self._feed_string(self._string, text, at, released)
                if not is_over:
                    break
                continue
            token = _OUTSIDE.match(text, at)
            if token is None or (token.end() == len(text) and _is_scalar(token[0])):
                break  # it may go on
            at = token.end()
            released.append(self._take(token[0]))
        self._rest = text[at:]
        return "".join(released)

    def finish(self) -> str:
        """Return what was held, now that no more will come, were it cut or whole.

        Raises:
            NotJson, NameHit: as before.
        """
        rest, self._rest = self._rest, ""
        if self._string is not None:
            return self._string.feed([], is_end=True) + rest
        return self._take(rest) if rest else ""

    # --- outside of strings -----------------------------------------------------------------------

    def _take(self, found: str) -> str:
        if found == '"':
            return self._open_string()
        if _is_scalar(found):
            return self._mask_scalar(found)
        for sign in found:
            self._step(sign)
        return found

    def _step(self, sign: str) -> None:
        holders = self._holders
        holder = holders[-1]
        match sign:
            case "{":
                holders.append(_Holder(None, is_object=True))
            case "[":
                holders.append(_Holder(holder.name, is_object=False))
            case "}" | "]":
                if len(holders) == 1:
                    raise NotJson
                holders.pop()
            case ",":
                holder.wants_name = holder.is_object
            case ":":
                holder.wants_name = False
            case _:
                pass

    def _mask_scalar(self, token: str) -> str:
        """Mask a number; it becomes a string, if at all."""
        if not _SCALAR.fullmatch(token):
            raise NotJson
        if token in {"true", "false", "null"}:
            return token
        masked = mask_string(self._rules, self._decide, token, self._holders[-1].name)
        return token if masked == token else f'"{_escape(masked)}"'

    # --- strings ----------------------------------------------------------------------------------

    def _open_string(self) -> str:
        holder = self._holders[-1]
        if holder.wants_name:
            self._string = _Name(self._rules)
        elif holder.name is not None and (named := named_by(self._rules, holder.name)):
            self._string = _Whole(named, self._decide)
        else:
            self._string = _Parts(LeafMasker(self._rules, self._decide, holder.name))
        return '"'

    def _feed_string(
        self, string: "_Name | _Whole | _Parts", text: str, at: int, released: list[str]
    ) -> tuple[int, bool]:
        """Feed the open string up to its end; return up to where, and whether that was it."""
        at, units = _read_units(text, at)
        is_over = text.startswith('"', at)
        released.append(string.feed(units, is_end=is_over))
        if not is_over:
            return at, False
        if isinstance(string, _Name):
            self._holders[-1].name = string.text
        self._string = None
        released.append('"')
        return at + 1, True


def _read_units(text: str, at: int) -> tuple[int, list[str]]:
    """Return up to where the characters of a string are whole, and each as it is written."""
    units: list[str] = []
    while at < len(text) and text[at] != '"':
        plain = _PLAIN.match(text, at)
        if plain:
            units += plain[0]
            at = plain.end()
            continue
        if len(text) - at < _LONGEST_UNIT and _CUT_UNIT.match(text, at):
            break
        unit = _UNIT.match(text, at)
        if unit is None:
            raise NotJson
        units.append(unit[0])
        at = unit.end()
    return at, units


class _Name:
    """The name of a field: held until it is whole."""

    is_holding = True

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._units: list[str] = []
        self.text = ""

    def feed(self, units: list[str], *, is_end: bool) -> str:
        self._units += units
        if not is_end:
            return ""
        self.text = "".join(map(_decode, self._units))
        mask_string(self._rules, _refuse_name, self.text)
        return "".join(self._units)


class _Whole:
    """A value that is masked whole, because of its name: held until it is whole."""

    is_holding = True

    def __init__(self, named: Named, decide: Decide) -> None:
        self._named = named
        self._decide = decide
        self._units: list[str] = []

    def feed(self, units: list[str], *, is_end: bool) -> str:
        self._units += units
        if not is_end:
            return ""
        value = "".join(map(_decode, self._units))
        masked = self._named.mask(value, self._decide)
        return "".join(self._units) if masked is None else _escape(masked)


class _Parts:
    """Any other value: only what could be the start of a match is held."""

    def __init__(self, masker: LeafMasker) -> None:
        self._masker = masker
        self._units: list[str] = []
        """What is held, as it was written, by character."""

    @property
    def is_holding(self) -> bool:
        return bool(self._units)

    def feed(self, units: list[str], *, is_end: bool) -> str:
        self._units += units
        released: list[str] = []
        at = 0
        text = "".join(map(_decode, units))
        for length, new in self._masker.feed(text, is_end=is_end):
            released += self._units[at : at + length] if new is None else [_escape(new)]
            at += length
        del self._units[:at]
        return "".join(released)


def _is_scalar(token: str) -> bool:
    return token[0] not in '"{}[]:, \t\n\r'


def _refuse_name(match: Match) -> str:
    raise NameHit(match.rule)


def _decode(unit: str) -> str:
    """Return the one character that is written so."""
    if unit[0] != "\\":
        return unit
    if unit[1] != "u":
        return _SHORT.get(unit[1], unit[1])
    high = int(unit[2:6], 16)
    if len(unit) == _LONGEST_UNIT:
        return chr(0x10000 + ((high - 0xD800) << 10) + int(unit[8:12], 16) - 0xDC00)
    return "\ufffd" if 0xD800 <= high <= 0xDFFF else chr(high)


def _escape(text: str) -> str:
    """Return a text as it stands inside the quotes of JSON."""
    return msgspec.json.encode(text)[1:-1].decode()
