"""Directives in a prompt that steer the demo Claude: their table, and how a text is read.

A directive is `[[demo NAME]]` or `[[demo NAME=VALUE]]`; one pair of brackets may hold several, as
`[[demo tool=Bash input={"command": "ls"}]]`. A value of `input` is JSON, any other ends at a
space or a bracket. Knows nothing of HTTP or of the Messages API.
"""

import json
import re
from collections.abc import Callable, Mapping

import msgspec

from gateway.demo.specimens import KINDS


class SteeringError(Exception):
    """A directive that cannot be followed as it is written; the text says why."""


class Steering(msgspec.Struct, frozen=True, kw_only=True):
    """What the directives of one prompt ask for."""

    slow_s: float = 0.0
    """Seconds to wait before the first byte."""
    pace_ms: float = 0.0
    """Milliseconds between the deltas of a stream."""
    fail: int | None = None
    """Status of the error to answer with."""
    break_after: int | None = None
    """Events of a stream before the connection is reset; a plain answer is reset in its body."""
    clean_break_after: int | None = None
    """Events of a stream before it ends as if it were whole."""
    stream_error: bool = False
    """Whether an error event ends the stream half-way."""
    garbage: bool = False
    """Whether the stream holds a malformed line, or the plain body is not JSON."""
    thinking: bool = False
    """Whether a thinking block comes first, if the request has thinking on."""
    thinking_secret: str | None = None
    """Kind of the secret in the thinking block."""
    tool: str | None = None
    """Name of the tool to use."""
    input: dict[str, object] = {}
    """Input of that tool."""
    tool_secret: str | None = None
    """Kind of the secret in the tool's input."""
    escaped: bool = False
    """Whether the tool's input is streamed with all of its characters escaped."""
    result_secret: str | None = None
    """Kind of the secret in what a tool of the server found."""
    citation_secret: str | None = None
    """Kind of the secret in what the text cites."""
    secrets: tuple[str, ...] = ()
    """Kinds of the secrets in the text, in order."""
    split: int = 8
    """Characters in a delta."""
    words: bool = False
    """Whether a delta is a word instead."""
    length: int | None = None
    """Characters of the answer's text."""


class _Directive(msgspec.Struct, frozen=True):
    """One row of the table: the field that it sets and how its value is read."""

    field: str
    form: str
    help: str
    read: Callable[[object], object]


def _number(low: float, high: float) -> Callable[[object], object]:
    def read(value: object) -> object:
        number = float(str(value))
        if not low <= number <= high:
            raise ValueError(f"a number from {low:g} to {high:g} is needed")
        return number

    return read


def _whole(low: int, high: int) -> Callable[[object], object]:
    def read(value: object) -> object:
        text = str(value)
        if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
            raise ValueError(f"a whole number from {low} to {high} is needed")
        return int(text)

    return read


def _flag(value: object) -> object:
    if value is not None:
        raise ValueError("it takes no value")
    return True


def _kind(default: str | None = None) -> Callable[[object], object]:
    def read(value: object) -> object:
        kind = default if value is None else value
        if kind not in KINDS:
            raise ValueError(f"one of {', '.join(KINDS)} is needed")
        return kind

    return read


def _name(value: object) -> object:
    if not value or not isinstance(value, str):
        raise ValueError("a tool's name is needed")
    return value


def _object(value: object) -> object:
    match value:
        case dict():
            return value
        case _:
            raise ValueError("a JSON object is needed")


_ROWS = (
    _Directive("slow_s", "slow=SECONDS", "wait before the first byte", _number(0, 900)),
    _Directive("pace_ms", "pace=MS", "wait between the deltas of a stream", _number(0, 60_000)),
    _Directive("fail", "fail=STATUS", "answer with an error of this status", _whole(400, 599)),
    _Directive(
        "break_after",
        "break=N",
        "reset the connection after N events; a plain answer is reset in mid-body",
        _whole(0, 1_000_000),
    ),
    _Directive(
        "clean_break_after",
        "clean-break=N",
        "end the stream after N events, without message_stop (streams only)",
        _whole(0, 1_000_000),
    ),
    _Directive("stream_error", "stream-error", "an error event half-way (streams only)", _flag),
    _Directive("garbage", "garbage", "a malformed line in the stream, or a body not JSON", _flag),
    _Directive("thinking", "thinking", "think first, if the request has thinking on", _flag),
    _Directive(
        "thinking_secret",
        "thinking-secret[=KIND]",
        "think first, and of a secret (default aws)",
        _kind("aws"),
    ),
    _Directive("tool", "tool=NAME", "use this tool", _name),
    _Directive(
        "input",
        "input={JSON}",
        "the input of the tool; <secret=KIND> in it is the secret itself",
        _object,
    ),
    _Directive(
        "tool_secret",
        "tool-secret[=KIND]",
        "use a tool, with a secret in its input (default github)",
        _kind("github"),
    ),
    _Directive("escaped", "escaped", "stream the tool's input all in escapes", _flag),
    _Directive(
        "result_secret",
        "result-secret[=KIND]",
        "a tool of the server finds a secret (default aws)",
        _kind("aws"),
    ),
    _Directive(
        "citation_secret",
        "citation-secret[=KIND]",
        "cite a secret (default aws)",
        _kind("aws"),
    ),
    _Directive("secrets", "secret=KIND", f"give a secret away: {', '.join(KINDS)}", _kind()),
    _Directive("split", "split=N", "characters in a delta (default 8)", _whole(1, 1_000_000)),
    _Directive("words", "words", "one word in a delta", _flag),
    _Directive("length", "length=N", "an answer of N characters", _whole(1, 1_000_000)),
)
_TABLE: Mapping[str, _Directive] = {re.split(r"[=\[]", row.form)[0]: row for row in _ROWS}

DIRECTIVES: Mapping[str, str] = {row.form: row.help for row in _ROWS}
"""Every directive with what it does, for a command to print."""

_OPEN = re.compile(r"\[\[demo\s+")
_CLOSE = re.compile(r"\s*\]\]")
_ITEM = re.compile(r"\s*([a-z-]+)(=?)")
_VALUE = re.compile(r"[^\s\]]*")
_JSON = json.JSONDecoder()


def steer(text: str) -> tuple[Steering, str]:
    """Read the directives in a text; return them and the text without them.

    Raises:
        SteeringError: A directive is unknown or its value is out of range.
    """
    if "[[demo" not in text:
        return _UNSTEERED, text
    fields: dict[str, object] = {}
    kept, at = [], 0
    while opened := _OPEN.search(text, at):
        kept.append(text[at : opened.start()])
        at = _read_items(text, opened.end(), fields)
    kept.append(text[at:])
    return msgspec.convert(fields, Steering), "".join(kept)


def _read_items(text: str, at: int, fields: dict[str, object]) -> int:
    while not (closed := _CLOSE.match(text, at)):
        item = _ITEM.match(text, at)
        if item is None:
            raise SteeringError("a demo directive is not of the form [[demo NAME=VALUE]]")
        value, at = _read_value(text, item.end()) if item[2] else (None, item.end())
        _set_field(fields, item[1], value)
    return closed.end()


def _read_value(text: str, at: int) -> tuple[object, int]:
    if text.startswith("{", at):
        try:
            value, end = _JSON.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            raise SteeringError("the JSON in a demo directive cannot be read") from error
        return value, end
    word = _VALUE.match(text, at)
    return (word[0], word.end()) if word else ("", at)


def _set_field(fields: dict[str, object], name: str, value: object) -> None:
    row = _TABLE.get(name)
    if row is None:
        raise SteeringError(f"unknown demo directive {name}; known: {', '.join(_TABLE)}")
    try:
        read = row.read(value)
    except ValueError as error:
        raise SteeringError(f"demo directive {name}: {error}") from error
    if row.field == "secrets":
        earlier = fields.get("secrets", ())
        read = (*earlier, read) if isinstance(earlier, tuple) else (read,)
    fields[row.field] = read


_UNSTEERED = Steering()
