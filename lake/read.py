"""What the console shows of the tables: sessions, their exchanges, one exchange with its bodies.

Every value goes in as a parameter. Whoever calls has asked policy who may see what.
"""

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from lake.bodies import Composition, join, request_pieces
from lake.catalog import Lake
from lake.duck import lock, open_duckdb

LARGEST_PAGE = 500


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
    """Where a page of exchanges ended, oldest first."""

    started_at: datetime
    exchange_id: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The exchanges of one conversation of one caller, summed up."""

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


_SESSIONS = """
WITH seen AS (
    SELECT coalesce(session_id, exchange_id) AS conversation, *
    FROM iceberg_scan(?)
    WHERE started_at >= ? AND (? IS NULL OR (issuer = ? AND subject = ?))
), summed AS (
    SELECT conversation AS session_id, issuer, subject,
           max_by(person, started_at) AS person,
           list_sort(list_distinct(list(request_model))) AS models,
           count(*) AS exchanges, min(started_at) AS first_at, max(started_at) AS last_at,
           histogram(ending) AS endings,
           coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
           coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens
    FROM seen GROUP BY conversation, issuer, subject
)
SELECT * FROM summed
WHERE ? IS NULL OR (last_at, session_id, issuer, subject) < (?, ?, ?, ?)
ORDER BY last_at DESC, session_id DESC, issuer DESC, subject DESC
LIMIT ?
"""
_EXCHANGES = f"""
SELECT {", ".join(ExchangeSummary.__struct_fields__)}
FROM iceberg_scan(?)
WHERE issuer = ? AND subject = ? AND coalesce(session_id, exchange_id) = ?
  AND (? IS NULL OR (started_at, exchange_id) > (?, ?))
ORDER BY started_at, exchange_id
LIMIT ?
"""  # noqa: S608 - column names of our own
_BODIES = ("request_body", "response_body")
_DETAIL = f"""
SELECT {", ".join(f for f in ExchangeDetail.__struct_fields__ if f not in _BODIES)},
       response_pieces
FROM iceberg_scan(?) WHERE exchange_id = ?
"""  # noqa: S608 - column names of our own
_COMPOSITIONS = """
SELECT exchange_id, base_exchange_id, request_parts FROM iceberg_scan(?)
WHERE issuer = ? AND subject = ? AND started_at BETWEEN ? AND ?
  AND coalesce(session_id, exchange_id) = ?
"""
_PIECES = """
SELECT piece_id, data FROM iceberg_scan(?)
WHERE started_at BETWEEN ? AND ? AND piece_id IN (SELECT unnest(?::VARCHAR[]))
"""
_BEGINNING = datetime.fromisoformat("0001-01-01T00:00:00+00:00")


class LakeReader:
    """Reads the tables as they are at each call; safe to use from several threads."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._connection = open_duckdb(lake.warehouse)
        lock(self._connection)

    def sessions(
        self,
        owner: Owner | None = None,
        *,
        since: datetime = _BEGINNING,
        after: SessionKey | None = None,
        limit: int = 50,
    ) -> list[Session]:
        """Return a page of sessions, the newest first.

        Args:
            owner: Whose; everyone's when None.
            since: Only exchanges started then or later count; it also bounds what is read.
            after: Key of the last session of the page before.
            limit: Sessions at most.
        """
        mine, key = owner or (None, None), after or (None, None, None, None)
        values = [since, mine[0], *mine, key[0], *key, min(limit, LARGEST_PAGE)]
        return msgspec.convert(self._rows("exchanges", _SESSIONS, values), list[Session])

    def exchanges(
        self,
        owner: Owner,
        session_id: str,
        *,
        after: ExchangeKey | None = None,
        limit: int = 100,
    ) -> list[ExchangeSummary]:
        """Return a page of the exchanges of one session, the oldest first."""
        key = after or (None, None)
        values = [*owner, session_id, key[0], *key, min(limit, LARGEST_PAGE)]
        return msgspec.convert(self._rows("exchanges", _EXCHANGES, values), list[ExchangeSummary])

    def exchange(self, exchange_id: str) -> ExchangeDetail | None:
        """Return one exchange with its bodies; None when there is none."""
        rows = self._rows("exchanges", _DETAIL, [exchange_id])
        if not rows:
            return None
        row = rows[0]
        responses = msgspec.convert(row.pop("response_pieces"), list[str])
        found = msgspec.convert(row, ExchangeDetail)
        requests = self._request_pieces(found)
        pieces = self._pieces(found.started_at, [*requests, *responses])
        return msgspec.structs.replace(
            found, request_body=join(pieces, requests), response_body=join(pieces, responses)
        )

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _request_pieces(self, exchange: ExchangeDetail) -> list[str]:
        day, session_id = _day(exchange.started_at), exchange.session_id or exchange.exchange_id
        values: list[object] = [exchange.issuer, exchange.subject, *day, session_id]
        rows = self._rows("exchanges", _COMPOSITIONS, values)
        compositions = {str(r["exchange_id"]): msgspec.convert(r, Composition) for r in rows}
        return request_pieces(exchange.exchange_id, compositions)

    def _pieces(self, started_at: datetime, piece_ids: list[str]) -> dict[str, bytes]:
        if not piece_ids:
            return {}
        rows = self._rows("contents", _PIECES, [*_day(started_at), piece_ids])
        return {str(row["piece_id"]): msgspec.convert(row["data"], bytes) for row in rows}

    def _rows(self, table: str, sql: str, values: list[object]) -> list[dict[str, object]]:
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, [self._lake.metadata_location(table), *values])
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()


def _day(at: datetime) -> tuple[datetime, datetime]:
    """Return the day in UTC up to an instant: pieces are never shared over its beginning."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0), at
