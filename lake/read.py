"""What the console shows: sessions, searches, one exchange with its bodies.

Of the tables, and of what the recorders have that is not in them yet; both look the same.
Every value goes in as a parameter. Whoever calls has asked policy who may see what.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lake.bodies import BrokenBody, Composition, join, request_pieces
from lake.catalog import Lake
from lake.duck import lock, open_duckdb, quoted
from lake.filters import Condition, Filter, condition_of
from lake.hot_read import HotReader
from lake.locations import Locations
from lake.selects import (
    ALL,
    COMPOSITIONS,
    DETAIL,
    EXCHANGES,
    HITS,
    KEYS,
    PIECES,
    SESSIONS,
    beyond_key,
    day_of,
    of_session,
    one_of,
    page_of,
    selected_from,
)
from lake.shown import (
    ExchangeDetail,
    ExchangeKey,
    ExchangeSummary,
    Hit,
    Owner,
    Session,
    SessionKey,
)

ANYTHING: Final = Filter()


class _Exchanges(NamedTuple):
    """What a query takes its exchanges from, as of one moment."""

    sql: str
    hot: pa.Table | None


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
        wanted: Filter = ANYTHING,
        after: SessionKey | None = None,
        limit: int = 50,
    ) -> list[Session]:
        """Return a page of sessions, the newest first, each with what of it is wanted.

        Args:
            owner: Whose; everyone's when None.
            wanted: Only such exchanges count.
            after: Key of the last session of the page before.
            limit: Sessions at most.
        """
        condition = condition_of(wanted, owner)
        beyond = beyond_key("<", after)
        sql = SESSIONS.format(condition=condition.sql, after=beyond.sql)
        values = [*condition.values, *beyond.values, page_of(limit)]
        return msgspec.convert(self._select(self._all(), sql, values), list[Session])

    def search(
        self,
        owner: Owner | None = None,
        *,
        wanted: Filter = ANYTHING,
        after: ExchangeKey | None = None,
        limit: int = 50,
    ) -> list[Hit]:
        """Return a page of the exchanges that are wanted, the newest first."""
        everything = self._all()
        keys = self._keys(everything, condition_of(wanted, owner), "DESC", after, limit)
        condition = one_of(keys)
        sql, values = HITS.format(condition=condition.sql), [wanted.text, *condition.values]
        rows = self._select(everything, sql, values) if keys else []
        return msgspec.convert(rows, list[Hit])

    def exchanges(
        self,
        owner: Owner,
        session_id: str,
        *,
        after: ExchangeKey | None = None,
        limit: int = 100,
    ) -> list[ExchangeSummary]:
        """Return a page of the exchanges of one session, the oldest first."""
        everything = self._all()
        keys = self._keys(everything, of_session(owner, session_id), "ASC", after, limit)
        condition = one_of(keys)
        sql = EXCHANGES.format(condition=condition.sql)
        rows = self._select(everything, sql, condition.values) if keys else []
        return msgspec.convert(rows, list[ExchangeSummary])

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

    def _keys(
        self,
        exchanges: _Exchanges,
        condition: Condition,
        order: str,
        after: ExchangeKey | None,
        limit: int,
    ) -> list[ExchangeKey]:
        beyond = beyond_key("<" if order == "DESC" else ">", after)
        sql = KEYS.format(condition=condition.sql, after=beyond.sql, order=order)
        values = [*condition.values, *beyond.values, page_of(limit)]
        rows = self._select(exchanges, sql, values)
        return [msgspec.convert(tuple(row.values()), ExchangeKey) for row in rows]

    def _find(self, exchange_id: str) -> ExchangeDetail | None:
        found = self._committed_exchange(exchange_id) or self._hot_exchange(exchange_id)
        # What was in neither may have been committed in between.
        return found or self._committed_exchange(exchange_id)

    def _committed_exchange(self, exchange_id: str) -> ExchangeDetail | None:
        rows = self._rows(selected_from(self._committed(), DETAIL), [exchange_id])
        return self._with_bodies(rows[0], {}) if rows else None

    def _hot_exchange(self, exchange_id: str) -> ExchangeDetail | None:
        found = self._hot.exchange(exchange_id) if self._hot else None
        if found is None:
            return None
        rows = self._rows(selected_from("SELECT * FROM hot", DETAIL), [exchange_id], found.row)
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
        day, session_id = day_of(exchange.started_at), exchange.session_id or exchange.exchange_id
        values: list[object] = [exchange.issuer, exchange.subject, *day, session_id]
        rows = self._rows(selected_from(self._committed(), COMPOSITIONS), values)
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
        values = [self._locations.of("contents"), *day_of(started_at), piece_ids]
        rows = self._rows(PIECES, values)
        return {str(row["piece_id"]): msgspec.convert(row["data"], bytes) for row in rows}

    def _all(self) -> _Exchanges:
        """Return committed exchanges with the hot ones beside them.

        The hot ones are read first: what has left them by then is in the tables.
        """
        hot = self._hot.read() if self._hot else None
        if hot is None or not hot.num_rows:
            return _Exchanges(self._committed(), None)
        location = quoted(self._locations.of("exchanges"))
        oldest = pc.min(hot["started_at"]).as_py()
        return _Exchanges(ALL.format(location=location, oldest=oldest.isoformat()), hot)

    def _select(
        self, exchanges: _Exchanges, sql: str, values: list[object]
    ) -> list[dict[str, object]]:
        """Return the rows of a SELECT from `exchanges`."""
        return self._rows(selected_from(exchanges.sql, sql), values, exchanges.hot)

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
