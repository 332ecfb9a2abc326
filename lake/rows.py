"""Records to rows: what an ended exchange is, its bodies' rows, an event's row.

Pure. A row is complete for its table's required columns; what is absent is null. Numbers that
came from outside are bounded here, since one that no column can hold would stop the recorder.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.records import (
    SCHEMA_VERSION,
    Answered,
    Chunk,
    Closing,
    Decided,
    Event,
    Opening,
    Part,
    Redecided,
)

Row = dict[str, object]
"""A row by column name, as Arrow takes it."""

LARGEST: Final = 2**63 - 1


class Texts(Protocol):
    """Finds the readable text in bodies; may raise anything on bytes it can't read."""

    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        """Return the text of the last user turn among pieces of a request."""

    def response_text(self, content_type: str, body: bytes) -> str:
        """Return the text of an answer, streamed or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """All records of one ended exchange."""

    opening: Opening
    redecided: tuple[Redecided, ...] = ()
    answered: Answered | None = None
    """None when nothing was released from the Claude server."""
    chunks: tuple[Chunk, ...] = ()
    closing: Closing
    journal_id: str
    """Of the closing."""
    sequence: int
    """Of the closing, in that journal."""

    @property
    def is_content_kept(self) -> bool:
        """Whether bodies may become rows and text."""
        recording = self.opening.recording
        return recording.content == "full" and recording.protection == "plain"

    @property
    def request_parts(self) -> tuple[Part, ...]:
        """The request as recorded; empty when it is not kept."""
        return (self.opening.parts or ()) if self.is_content_kept else ()

    @property
    def new_pieces(self) -> list[bytes]:
        """What is new in the request."""
        return [part for part in self.request_parts if isinstance(part, bytes)]

    @property
    def response_body(self) -> bytes:
        """The answer as released; empty when it is not kept."""
        return b"".join(c.data for c in self.chunks) if self.is_content_kept else b""

    @property
    def response_type(self) -> str:
        """Content type of the answer; empty when it has none."""
        return content_type(self.answered)

    @property
    def decisions(self) -> list[tuple[int, Decided]]:
        """Its decisions in order, each with when it was recorded."""
        first = self.opening.decision
        later = [(r.at_ns, r.decision) for r in self.redecided]
        return ([(self.opening.at_ns, first)] if first else []) + later


def content_type(answered: Answered | None) -> str:
    """Return the content type of an answer; empty when it has none."""
    headers = answered.headers if answered else {}
    return next((v for name, v in headers.items() if name.lower() == "content-type"), "")


def content_rows(exchange: Exchange) -> list[Row]:
    """Return the rows of an exchange's new pieces; none when its content is not kept plainly."""
    response = exchange.response_body
    pieces = [
        *(("request", n, "application/json", piece) for n, piece in enumerate(exchange.new_pieces)),
        *([("response", 0, exchange.response_type or None, response)] if response else []),
    ]
    opening = exchange.opening
    return [
        {
            "piece_id": piece_id(opening.exchange_id, side, position),
            "exchange_id": opening.exchange_id,
            "side": side,
            "position": position,
            "started_at": microseconds(opening.at_ns),
            "retention_class": opening.recording.retention_class,
            "media_type": media_type,
            "size": len(piece),
            "digest": hashlib.sha256(piece).hexdigest(),
            "protection": opening.recording.protection,
            "data": piece,
            **chain(exchange.journal_id, exchange.sequence),
        }
        for side, position, media_type, piece in pieces
    ]


def event_row(event: Event, journal_id: str, sequence: int, retention_class: str) -> Row:
    """Return the row of an event."""
    return {
        "event_id": event.event_id,
        "occurred_at": microseconds(event.at_ns),
        "retention_class": retention_class,
        "kind": event.kind,
        "outcome": event.outcome or None,
        "issuer": event.issuer or None,
        "subject": event.sub or None,
        "person": event.person or None,
        "exchange_id": event.exchange_id or None,
        "session_id": event.session_id or None,
        "peer": event.peer or None,
        "reason": event.reason or None,
        "message": event.message or None,
        "count": bounded(event.count),
        "policy_revision": event.revision or None,
        "detail_json": event.detail_json,
        **chain(journal_id, sequence),
    }


def piece_id(exchange_id: str, side: str, position: int) -> str:
    """Return the id of a piece, by the exchange that brought it."""
    return f"{exchange_id}.{side}.{position}"


def chain(journal_id: str, sequence: int) -> Row:
    """Return the columns that say which record a row was made from."""
    return {"schema_version": SCHEMA_VERSION, "journal_id": journal_id, "sequence": sequence}


def microseconds(at_ns: int) -> int:
    """Return a time as Arrow takes timestamps."""
    return at_ns // 1000


def bounded(number: int) -> int:
    """Return the nearest number that a column can hold."""
    return max(-LARGEST, min(number, LARGEST))
