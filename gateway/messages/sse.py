"""Server-sent events of a Messages stream: bytes in, events out, every byte accounted for.

What two readers could read differently is refused: JSON that names a field twice, a byte order
mark. So whoever looks at the data of an event has seen all that any reader of it can see.
"""

import json
import re
from typing import Any

import msgspec

from gateway.domain import NOT_JSON, Fact

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""An event longer than this is no event of the Messages API."""

_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r){2}")
_LONGEST_BLANK_LINE = 4
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NAMES = {
    name.encode(): name
    for name in (
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    )
}
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Unreadable(Exception):
    """An answer that can't be read, or could be read in two ways."""


class NotEvents(Unreadable):
    """The stream can't be read as Messages events."""


class Event(Fact, frozen=True, kw_only=True):
    """One event with the exact bytes it came in."""

    raw: bytes
    name: str
    kind: str
    """The event's own type; what the data says counts, the `event:` line is a label."""
    data: dict[str, Any] | None
    """None for comments and events without data."""
    around: str = ""
    """All else that stands in it, but for a name of the API's: comments, ids, unknown lines."""


class EventReader:
    """Cuts a byte stream into events."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes.

        Raises:
            NotEvents: a data line is not a JSON object, or an event is too long.
        """
        rest = self._rest
        searched = max(len(rest) - _LONGEST_BLANK_LINE + 1, 0)
        rest += chunk
        events = []
        start = 0
        for end in _find_ends(rest, searched):
            events.append(parse_event(bytes(rest[start:end])))
            start = end
        del rest[:start]
        if len(rest) > MAX_EVENT_BYTES:
            raise NotEvents(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        return events

    def finish(self) -> bytes:
        """Return the bytes after the last whole event; blank in a stream that ended well."""
        return bytes(self._rest.strip())


def _find_ends(buffer: bytearray, start: int) -> list[int]:
    """Return where blank lines end."""
    if buffer.find(b"\r", start) >= 0:
        return [blank.end() for blank in _BLANK_LINE.finditer(buffer, start)]
    ends = []
    while (start := buffer.find(b"\n\n", start) + 2) >= 2:
        ends.append(start)
    return ends


def parse_event(raw: bytes) -> Event:
    """Return the event in `raw`, its closing blank line included.

    Raises:
        NotEvents: a data line is not a JSON object.
    """
    match raw.splitlines():
        case [head, body, b""] if head.startswith(b"event: ") and body.startswith(b"data: "):
            name = _NAMES.get(head[7:])
            if name is not None:
                return _event(raw, name, body[6:])
        case _:
            pass
    return _parse_lines(raw)


def _parse_lines(raw: bytes) -> Event:
    """Return an event of any form."""
    if raw.startswith(_BYTE_ORDER_MARK):
        raise NotEvents("an event begins with a byte order mark")
    name = b""
    data: list[bytes] = []
    around: list[bytes] = []
    for line in raw.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
            continue
        if field == b"event":
            name = value
        if field != b"event" or value not in _NAMES:
            around.append(line)
    return _event(
        raw,
        name.decode("utf-8", "replace"),
        b"\n".join(data) if data else None,
        b"\n".join(around).decode("utf-8", "replace").strip("\n"),
    )


def _event(raw: bytes, name: str, body: bytes | None, around: str = "") -> Event:
    if body is None:
        return Event(raw=raw, name=name, kind=name, data=None, around=around)
    try:
        data = read_json(body)
    except Unreadable as e:
        raise NotEvents(f"in an event, {e}") from e
    if not isinstance(data, dict):
        raise NotEvents("the data of an event is no JSON object")
    kind = data.get("type")
    if not isinstance(kind, str):
        kind = name
    return Event(raw=raw, name=name, kind=kind, data=data, around=around)


# --- JSON that reads the same to everyone -------------------------------------------------------


def read_json(body: bytes) -> Any:
    """Return the JSON value that `body` holds.

    Raises:
        Unreadable: it is not JSON, nests too deep, or names a field of an object twice.
    """
    try:
        value = _decode(body)
        # A field that was dropped takes quotes with it, an escaped quote hides one.
        if b"\\u0022" in body or body.count(b'"') != _encode(value).count(b'"'):
            json.loads(body, object_pairs_hook=_refuse_twice)
    except (*NOT_JSON, ValueError) as e:  # ValueError: a number of thousands of digits
        raise Unreadable("it is not JSON") from e
    return value


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise Unreadable("it names a field twice")


def encode_event(name: str, data: dict[str, Any]) -> bytes:
    """Return the bytes of an event, in the form the API writes it."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def error_event(kind: str, message: str) -> bytes:
    """Return an `error` event: how the API says that a stream broke off."""
    return encode_event("error", {"type": "error", "error": {"type": kind, "message": message}})
