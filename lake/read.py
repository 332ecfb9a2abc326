"""What the console shows: sessions, their exchanges, one exchange with its bodies.

Of the tables, and of what the recorders have that is not in them yet; both look the same.
Every value goes in as a parameter. Whoever calls has asked policy who may see what.
"""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake.bodies import BrokenBody, Composition, join, request_pieces
from lake.catalog import Lake
from lake.duck import lock, open_duckdb, quoted
from lake.hot_read import HotReader
from lake.locations import Locations

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
SELECT * FROM (
    SELECT coalesce(session_id, exchange_id) AS session_id, issuer, subject,
           max_by(person, started_at) AS person,
           list_sort(list_distinct(list(request_model))) AS models,
           count(*) AS exchanges, min(started_at) AS first_at, max(started_at) AS last_at,
           histogram(ending) AS endings,
           coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
           coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens
    FROM exchanges
    WHERE started_at >= ? AND (? IS NULL OR (issuer = ? AND subject = ?))
    GROUP BY coalesce(session_id, exchange_id), issuer, subject
) WHERE ? IS NULL OR (last_at, session_id, issuer, subject) < (?, ?, ?, ?)
ORDER BY last_at DESC, session_id DESC, issuer DESC, subject DESC
LIMIT ?
"""
_EXCHANGES = f"""
SELECT {", ".join(ExchangeSummary.__struct_fields__)}
FROM exchanges
WHERE issuer = ? AND subject = ? AND coalesce(session_id, exchange_id) = ?
  AND (? IS NULL OR (started_at, exchange_id) > (?, ?))
ORDER BY started_at, exchange_id
LIMIT ?
"""  # noqa: S608 - column names of our own
_BODIES = ("request_body", "response_body")
_DETAIL = f"""
SELECT {", ".join(f for f in ExchangeDetail.__struct_fields__ if f not in _BODIES)},
       base_exchange_id, request_parts, response_pieces
FROM exchanges WHERE exchange_id = ?
"""  # noqa: S608 - column names of our own
_COMPOSITIONS = """
SELECT exchange_id, base_exchange_id, request_parts FROM exchanges
WHERE issuer = ? AND subject = ? AND started_at BETWEEN ? AND ?
  AND coalesce(session_id, exchange_id) = ?
"""
_PIECES = """
SELECT piece_id, data FROM iceberg_scan(?)
WHERE started_at BETWEEN ? AND ? AND piece_id IN (SELECT unnest(?::VARCHAR[]))
"""
_ALL = """
SELECT * FROM iceberg_scan({location}) UNION ALL BY NAME
SELECT * FROM hot ANTI JOIN (
    SELECT exchange_id FROM iceberg_scan({location}) WHERE started_at >= '{oldest}'::TIMESTAMPTZ
) USING (exchange_id)
"""
_BEGINNING = datetime.fromisoformat("0001-01-01T00:00:00+00:00")


class LakeReader:
    """Reads the tables as they are at each call; safe to use from several threads."""

    def __init__(
        self,
        lake: Lake,
        hot: HotReader | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open a database over the tables.

        Args:
            lake: The tables.
            hot: What the recorders have beside them.
            now_s: A clock that only goes forward.
        """
        self._locations = Locations(lake, now_s)
        self._hot = hot
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
        return msgspec.convert(self._select(_SESSIONS, values), list[Session])

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
        return msgspec.convert(self._select(_EXCHANGES, values), list[ExchangeSummary])

    def exchange(self, exchange_id: str) -> ExchangeDetail | None:
        """Return one exchange with its bodies; None when there is none.

        Raises:
            BrokenBody: something that its body is made of is not there.
        """
        try:
            return self._find(exchange_id)
        except BrokenBody:  # a part of it may have been committed between two looks
            return self._find(exchange_id)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    @property
    def incomplete(self) -> tuple[str, ...]:
        """What the newest read could not ask, or has not all of: recorders, `catalog`."""
        catalog = ("catalog",) if self._locations.is_stale else ()
        return (*catalog, *(self._hot.incomplete if self._hot else ()))

    def _find(self, exchange_id: str) -> ExchangeDetail | None:
        found = self._committed_exchange(exchange_id) or self._hot_exchange(exchange_id)
        # What was in neither may have been committed in between.
        return found or self._committed_exchange(exchange_id)

    def _committed_exchange(self, exchange_id: str) -> ExchangeDetail | None:
        rows = self._rows(_from(self._committed(), _DETAIL), [exchange_id])
        return self._with_bodies(rows[0], {}) if rows else None

    def _hot_exchange(self, exchange_id: str) -> ExchangeDetail | None:
        found = self._hot.exchange(exchange_id) if self._hot else None
        if found is None:
            return None
        rows = self._rows(_from("SELECT * FROM hot", _DETAIL), [exchange_id], found.row)
        return self._with_bodies(rows[0], found.pieces)

    def _with_bodies(self, row: dict[str, object], brought: Mapping[str, bytes]) -> ExchangeDetail:
        """Return an exchange with its bodies, of whose pieces some are at hand."""
        composition = msgspec.convert(row, Composition)
        responses = msgspec.convert(row.pop("response_pieces"), list[str])
        found = msgspec.convert(row, ExchangeDetail)
        compositions, pieces = self._compositions(found), dict(brought)
        compositions[found.exchange_id] = composition
        self._add_hot_lineage(composition.base_exchange_id, compositions, pieces)
        requests = request_pieces(found.exchange_id, compositions)
        wanted = [piece for piece in (*requests, *responses) if piece not in pieces]
        pieces |= self._pieces(found.started_at, wanted)
        return msgspec.structs.replace(
            found, request_body=join(pieces, requests), response_body=join(pieces, responses)
        )

    def _compositions(self, exchange: ExchangeDetail) -> dict[str, Composition]:
        day, session_id = _day(exchange.started_at), exchange.session_id or exchange.exchange_id
        values: list[object] = [exchange.issuer, exchange.subject, *day, session_id]
        rows = self._rows(_from(self._committed(), _COMPOSITIONS), values)
        return {str(r["exchange_id"]): msgspec.convert(r, Composition) for r in rows}

    def _add_hot_lineage(
        self, base: str | None, compositions: dict[str, Composition], pieces: dict[str, bytes]
    ) -> None:
        """Add what a body builds on and the tables do not have."""
        seen = set[str]()
        while base is not None and base not in seen:
            seen.add(base)
            if base not in compositions:
                found = self._hot.exchange(base) if self._hot else None
                if found is None:
                    return
                compositions[base] = found.composition
                pieces |= found.pieces
            base = compositions[base].base_exchange_id

    def _pieces(self, started_at: datetime, piece_ids: list[str]) -> dict[str, bytes]:
        if not piece_ids:
            return {}
        values = [self._locations.of("contents"), *_day(started_at), piece_ids]
        rows = self._rows(_PIECES, values)
        return {str(row["piece_id"]): msgspec.convert(row["data"], bytes) for row in rows}

    def _select(self, sql: str, values: list[object]) -> list[dict[str, object]]:
        """Return the rows of a SELECT from `exchanges`: committed ones, and hot ones beside them.

        The hot ones are read first: what has left them by then is in the tables.
        """
        hot = self._hot.read() if self._hot else None
        if hot is None or not hot.num_rows:
            return self._rows(_from(self._committed(), sql), values)
        location = quoted(self._locations.of("exchanges"))
        oldest = pc.min(hot["started_at"]).as_py()
        everything = _ALL.format(location=location, oldest=oldest.isoformat())
        return self._rows(_from(everything, sql), values, hot)

    def _committed(self) -> str:
        location = quoted(self._locations.of("exchanges"))
        return f"SELECT * FROM iceberg_scan({location})"  # noqa: S608 - a path of our own

    def _rows(
        self, sql: str, values: list[object], hot: pa.Table | None = None
    ) -> list[dict[str, object]]:
        cursor = self._connection.cursor()
        try:
            if hot is not None:
                cursor.register("hot", hot)
            cursor.execute(sql, values)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()


def _day(at: datetime) -> tuple[datetime, datetime]:
    """Return the day in UTC up to an instant: pieces are never shared over its beginning."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0), at


def _from(exchanges: str, sql: str) -> str:
    """Return a SELECT from `exchanges`, of which the first says what they are."""
    return f"WITH exchanges AS NOT MATERIALIZED ({exchanges}) {sql}"
