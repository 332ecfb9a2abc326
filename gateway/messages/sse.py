"""Server-sent events of a Messages stream: bytes in, events out, every byte accounted for."""

import re
from typing import Any

import msgspec

from gateway.domain import Fact

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""An event longer than this is no event of the Messages API."""

_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r){2}")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class NotEvents(Exception):
    """The stream can't be read as Messages events."""


class Event(Fact, frozen=True, kw_only=True):
    """One event with the exact bytes it came in."""

    raw: bytes
    name: str
    data: dict[str, Any] | None
    """None for comments and events without data."""

    @property
    def kind(self) -> str:
        """The event's own type; what the data says counts, the `event:` line is a label."""
        kind = self.data.get("type") if self.data else None
        return kind if isinstance(kind, str) else self.name


class EventReader:
    """Cuts a byte stream into events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes.

        Raises:
            NotEvents: a data line is not a JSON object, or an event is too long.
        """
        buffer = self._rest + chunk if self._rest else chunk
        events = []
        start = 0
        for end in _BLANK_LINE.finditer(buffer):
            events.append(parse_event(buffer[start : end.end()]))
            start = end.end()
        self._rest = buffer[start:]
        if len(self._rest) > MAX_EVENT_BYTES:
            raise NotEvents(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        return events

    def finish(self) -> bytes:
        """Return the bytes after the last whole event; blank in a stream that ended well."""
        return self._rest.strip()


def parse_event(raw: bytes) -> Event:
    """Return the event in `raw`, its closing blank line included."""
    name = ""
    data: list[bytes] = []
    for line in raw.splitlines():
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    if not data:
        return Event(raw=raw, name=name, data=None)
    try:
        return Event(raw=raw, name=name, data=_decode(b"\n".join(data)))
    except msgspec.MsgspecError as e:
        raise NotEvents("a data line is not a JSON object") from e


def encode_event(name: str, data: dict[str, Any]) -> bytes:
    """Return the bytes of an event, in the form the API writes it."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def error_event(kind: str, message: str) -> bytes:
    """Return an `error` event: how the API says that a stream broke off."""
    return encode_event("error", {"type": "error", "error": {"type": kind, "message": message}})
