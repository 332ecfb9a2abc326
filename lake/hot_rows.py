"""The rows of exchanges that the tables do not have yet: as they are so far, texts bounded.

Made by the same function as the rows of the tables, so that both agree. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from gateway.domain import Ending
from gateway.records import Answered, Chunk, Closing, Frame, Opening, Redecided
from lake.exchange_rows import exchange_row
from lake.rows import Exchange, Row, Texts, content_type

RUNNING: Final = "running"
"""What `ending` says of an exchange whose closing was not read yet."""
TEXT_CHARS: Final = 64 * 1024
"""Of each text, in a list; the whole is read from the journal for who asks for the exchange."""
UNLISTED: Final = frozenset(
    {
        "decision_input",
        "decision_result",
        "decisions_json",
        "chunk_offsets",
        "request_parts",
        "content_digests",
        "response_pieces",
    }
)
"""Columns that no list shows and that grow with the exchange: null in a hot row of a list."""


class PartTexts(Texts, Protocol):
    """Finds the readable text in bodies also part by part."""

    def text_part(self, content_type: str, part: bytes, *, is_first: bool) -> str | None:
        """Return what a part of an answer adds to its text; None if it must be read whole."""


@dataclass(slots=True)
class Pieces:
    """The records of one exchange, as far as they were read."""

    opening: Opening | None = None
    redecided: list[Redecided] = field(default_factory=list)
    answered: Answered | None = None
    chunks: list[Chunk] = field(default_factory=list)
    closing: Closing | None = None
    sequence: int = 0
    """Of the closing, or of the opening as long as there is none."""

    journal: str = ""
    """Of the record that `sequence` numbers."""

    def add(self, journal: str, frame: Frame) -> None:
        """Take in a frame."""
        match frame.record:
            case Opening() as opening:
                self.opening = opening
                if self.closing is None:
                    self._place(journal, frame)
            case Redecided() as redecided:
                self.redecided.append(redecided)
            case Answered() as answered:
                self.answered = answered
            case Chunk() as chunk:
                self.chunks.append(chunk)
            case Closing() as closing:
                self.closing = closing
                self._place(journal, frame)
            case _:
                pass

    def _place(self, journal: str, frame: Frame) -> None:
        self.journal, self.sequence = journal, frame.sequence


class Progress(NamedTuple):
    """What of an exchange changes with each chunk."""

    started_ns: int
    last_ns: int
    first_byte_ns: int | None
    status: int | None
    released_bytes: int
    response_type: str
    text_kind: str
    """`parts` while its text can be gathered, `whole` if it is read at the end, `none`."""
    text_chars: int
    is_closed: bool = False


def exchange_so_far(pieces: Pieces) -> Exchange | None:
    """Return an exchange as it is so far; None without an opening."""
    opening = pieces.opening
    if opening is None:
        return None
    return Exchange(
        opening=opening,
        redecided=tuple(pieces.redecided),
        answered=pieces.answered,
        chunks=tuple(pieces.chunks),
        closing=pieces.closing or _no_closing(pieces, opening),
        journal_id=pieces.journal,
        sequence=pieces.sequence,
    )


def row_so_far(
    exchange: Exchange, contents: Sequence[Row], texts: Texts, *, is_running: bool
) -> Row:
    """Return the row of an exchange, of which a running one has no end."""
    row = exchange_row(exchange, contents, texts)
    return row | {"ending": RUNNING, "ended_at": None} if is_running else row


def listed(row: Row) -> Row:
    """Return what a list shows of a row."""
    shown = {name: value for name, value in row.items() if name not in UNLISTED}
    for name in ("prompt_text", "response_text"):
        shown[name] = bounded_text(shown[name])
    return shown


def bounded_text(text: object) -> str | None:
    """Return the beginning of a text."""
    return text[:TEXT_CHARS] if isinstance(text, str) else None


def progress_of(exchange: Exchange, text: str | None) -> Progress:
    """Return how far an exchange is, of whose answer that is the text; None: not yet readable."""
    closing = exchange.closing
    kind = "whole" if text is None else "parts"
    return Progress(
        started_ns=exchange.opening.at_ns,
        last_ns=closing.at_ns,
        first_byte_ns=closing.first_byte_ns,
        status=closing.status or None,
        released_bytes=closing.released_bytes,
        response_type=exchange.response_type,
        text_kind=kind if exchange.is_content_kept else "none",
        text_chars=len(text or ""),
    )


def progressed(progress: Progress, further: Pieces) -> Progress:
    """Return how far an exchange is with further records of it."""
    chunks, answered = further.chunks, further.answered
    is_first = progress.first_byte_ns is None and bool(chunks)
    return progress._replace(
        last_ns=max(progress.last_ns, _last_ns(further)),
        first_byte_ns=chunks[0].at_ns if is_first else progress.first_byte_ns,
        status=answered.status if answered else progress.status,
        released_bytes=progress.released_bytes + sum(chunk.size for chunk in chunks),
        response_type=content_type(answered) if answered else progress.response_type,
    )


def row_at(row: Row, progress: Progress, text: str) -> Row:
    """Return the row of a running exchange with how far it is; of any other as it is."""
    if progress.is_closed:
        return row
    first_ns, start_ns = progress.first_byte_ns, progress.started_ns
    has_text = progress.text_kind == "parts" and first_ns is not None
    return row | {
        "status": progress.status,
        "released_bytes": progress.released_bytes,
        "time_to_first_byte_ms": None if first_ns is None else (first_ns - start_ns) / 1e6,
        "duration_ms": (progress.last_ns - start_ns) / 1e6,
        "response_text": text.strip("\n") if has_text else None,
    }


def _no_closing(pieces: Pieces, opening: Opening) -> Closing:
    """Return what stands in for the closing of a running exchange: its facts so far."""
    return Closing(
        exchange_id=opening.exchange_id,
        at_ns=max(opening.at_ns, _last_ns(pieces)),
        ending=Ending.INTERRUPTED,
        status=pieces.answered.status if pieces.answered else 0,
        first_byte_ns=pieces.chunks[0].at_ns if pieces.chunks else None,
        released_bytes=sum(chunk.size for chunk in pieces.chunks),
    )


def _last_ns(pieces: Pieces) -> int:
    answered = (pieces.answered,) if pieces.answered else ()
    return max((r.at_ns for r in (*pieces.redecided, *answered, *pieces.chunks[-1:])), default=0)
