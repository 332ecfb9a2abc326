"""A session as JSON, complete: every column, bodies as recorded and, where they can be, read."""

import json
from typing import Any

import msgspec

from gateway.console.exports.writing import Head
from gateway.display import HIDDEN
from gateway.messages.sse import Unreadable, read_json
from lake.shown import ExchangeDetail


class JsonWriter:
    """Writes one object; hidden characters are escaped, which changes no value."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._count = 0

    def begin(self) -> str:
        """Return the head and where the list begins."""
        head = msgspec.json.encode({"format": "countersign.session.v1", "export": self._head})
        return _escaped(head)[:-1] + ',"exchanges":[\n'

    def exchange(self, found: ExchangeDetail) -> str:
        """Return an element of the list."""
        columns = msgspec.to_builtins(found)
        read = {
            "request": _read(found.request_body),
            "response": _read(found.response_body),
        }
        self._count += 1
        comma = ",\n" if self._count > 1 else ""
        return comma + _escaped(msgspec.json.encode(columns | read))

    def end(self) -> str:
        """Return the end, which counts what came before."""
        return f'\n],"count":{self._count}}}\n'


def _read(body: bytes | None) -> Any:
    """Return what a body says: the JSON that it is, else its text."""
    if body is None:
        return None
    try:
        read_json(body)
    except Unreadable:
        return body.decode("utf-8", "replace")
    return msgspec.Raw(body)


def _escaped(encoded: bytes) -> str:
    return HIDDEN.sub(lambda found: json.dumps(found[0])[1:-1], encoded.decode())
