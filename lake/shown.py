"""What is shown of the tables: sessions, exchanges in a list, one exchange with its bodies.

Everything in them that came from outside may be hostile. Knows no query.
"""

from datetime import datetime
from typing import Literal, NamedTuple

import msgspec


class Owner(NamedTuple):
    """Whose sessions: the caller as the issuer names them."""

    issuer: str
    subject: str


class SessionKey(NamedTuple):
    """Where a page of sessions ended, newest first."""

    last_at: datetime
    session_id: str
    issuer: str
    subject: str


class ExchangeKey(NamedTuple):
    """Where a page of exchanges ended."""

    started_at: datetime
    exchange_id: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The exchanges of one conversation of one caller, summed up: those that a filter lets in."""

    session_id: str
    """The exchange's own id where the client named no session."""
    issuer: str
    subject: str
    person: str | None
    models: list[str]
    exchanges: int
    first_at: datetime
    last_at: datetime
    endings: dict[str, int]
    input_tokens: int
    output_tokens: int

    @property
    def key(self) -> SessionKey:
        """Where the page after this session begins."""
        return SessionKey(self.last_at, self.session_id, self.issuer, self.subject)


class ExchangeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange in a list."""

    exchange_id: str
    session_id: str | None
    issuer: str
    subject: str
    person: str | None
    started_at: datetime
    ended_at: datetime | None
    request_model: str | None
    response_model: str | None
    outcome: str
    reasons: list[str]
    ending: str
    status: int | None
    stop_reason: str | None
    error_code: str | None
    tool_calls: list[str]
    input_tokens: int | None
    output_tokens: int | None
    time_to_first_byte_ms: float | None
    duration_ms: float
    retention_class: str
    prompt_text: str | None
    response_text: str | None

    @property
    def key(self) -> ExchangeKey:
        """Where the page after this exchange begins."""
        return ExchangeKey(self.started_at, self.exchange_id)


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange that a search found."""

    exchange_id: str
    session_id: str
    """The exchange's own id where the client named no session."""
    issuer: str
    subject: str
    person: str | None
    started_at: datetime
    request_model: str | None
    outcome: str
    reasons: list[str]
    ending: str
    status: int | None
    tool_calls: list[str]
    found_in: Literal["prompt", "answer"] | None
    """Where the text was found; None when none was asked for."""
    snippet: str | None
    """What stands around the text; without one, how the prompt begins."""

    @property
    def key(self) -> ExchangeKey:
        """Where the page after this exchange begins."""
        return ExchangeKey(self.started_at, self.exchange_id)


class Mask(msgspec.Struct, frozen=True, kw_only=True):
    """A masking rule that matched; never the value."""

    rule: str
    place: str
    count: int


class ChunkOffset(msgspec.Struct, frozen=True, kw_only=True):
    """Where a chunk of the answer ended, and when after the start."""

    end_byte: int
    at_ms: float


class ExchangeDetail(ExchangeSummary, frozen=True, kw_only=True):
    """An exchange with all there is to show of it."""

    route: str
    method: str
    path: str
    query: str | None
    peer: str | None
    user_agent: str | None
    groups: list[str]
    reason_messages: list[str]
    policy_revision: str | None
    decisions_json: str
    endpoint: str | None
    approval_id: str | None
    approvers: list[str]
    error_message: str | None
    recording_content: str
    recording_reasons: list[str]
    masks_applied: list[Mask]
    request_headers: dict[str, str]
    response_headers: dict[str, str] | None
    chunk_offsets: list[ChunkOffset]
    request_bytes: int
    released_bytes: int
    upstream_request_id: str | None
    journal_id: str
    sequence: int
    request_body: bytes | None = None
    """As recorded; None when content is not kept."""
    response_body: bytes | None = None
    """As released; None when content is not kept."""
