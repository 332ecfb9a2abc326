"""The SELECTs of the console's reads, from `exchanges`, and the conditions in them. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Final

from lake.filters import Condition
from lake.shown import ExchangeDetail, ExchangeKey, ExchangeSummary, Hit, Owner, SessionKey

LARGEST_PAGE: Final = 500
SNIPPET_CHARS: Final = 240
BEFORE_FOUND_CHARS: Final = 80

SESSIONS = """
SELECT * FROM (
    SELECT coalesce(session_id, exchange_id) AS session_id, issuer, subject,
           max_by(person, started_at) AS person,
           list_sort(list_distinct(list(request_model))) AS models,
           count(*) AS exchanges, min(started_at) AS first_at, max(started_at) AS last_at,
           histogram(ending) AS endings,
           coalesce(sum(input_tokens), 0)::BIGINT AS input_tokens,
           coalesce(sum(output_tokens), 0)::BIGINT AS output_tokens
    FROM exchanges WHERE {condition}
    GROUP BY coalesce(session_id, exchange_id), issuer, subject
) WHERE {after}
ORDER BY last_at DESC, session_id DESC, issuer DESC, subject DESC
LIMIT ?
"""
KEYS = """
SELECT started_at, exchange_id FROM exchanges
WHERE {condition} AND {after}
ORDER BY started_at {order}, exchange_id {order}
LIMIT ?
"""
"""The keys of a page, before its rows: else the text of all rows is read to show a few."""
EXCHANGES = f"""
SELECT {", ".join(ExchangeSummary.__struct_fields__)}
FROM exchanges WHERE {{condition}}
ORDER BY started_at, exchange_id
"""  # noqa: S608 - column names of our own
_MADE = ("session_id", "found_in", "snippet")
HITS = f"""
SELECT * EXCLUDE (shown, start) FROM (
    SELECT {", ".join(f for f in Hit.__struct_fields__ if f not in _MADE)},
           coalesce(session_id, exchange_id) AS session_id,
           CASE WHEN contains(lower(prompt_text), asked.text) THEN 'prompt'
                WHEN contains(lower(response_text), asked.text) THEN 'answer' END AS found_in,
           CASE found_in WHEN 'answer' THEN response_text ELSE prompt_text END AS shown,
           coalesce(strpos(lower(shown), asked.text), 1) - {BEFORE_FOUND_CHARS} AS start,
           substr(shown, greatest(1, start), {SNIPPET_CHARS}) AS snippet
    FROM exchanges CROSS JOIN (SELECT lower(?) AS text) AS asked
    WHERE {{condition}}
)
ORDER BY started_at DESC, exchange_id DESC
"""  # noqa: S608 - column names of our own
_BODIES = ("request_body", "response_body")
DETAIL = f"""
SELECT {", ".join(f for f in ExchangeDetail.__struct_fields__ if f not in _BODIES)},
       base_exchange_id, request_parts, response_pieces
FROM exchanges WHERE exchange_id = ?
"""  # noqa: S608 - column names of our own
COMPOSITIONS = """
SELECT exchange_id, base_exchange_id, request_parts FROM exchanges
WHERE issuer = ? AND subject = ? AND started_at BETWEEN ? AND ?
  AND coalesce(session_id, exchange_id) = ?
"""
PIECES = """
SELECT piece_id, data FROM iceberg_scan(?)
WHERE started_at BETWEEN ? AND ? AND piece_id IN (SELECT unnest(?::VARCHAR[]))
"""
ALL = """
SELECT * FROM iceberg_scan({location}) UNION ALL BY NAME
SELECT * FROM hot ANTI JOIN (
    SELECT exchange_id FROM iceberg_scan({location}) WHERE started_at >= '{oldest}'::TIMESTAMPTZ
) USING (exchange_id)
"""


def day_of(at: datetime) -> tuple[datetime, datetime]:
    """Return first and last instant of a day in UTC, beyond which pieces are never shared.

    The whole day: a base was recorded earlier, but may have arrived later.
    """
    first = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return first, first + timedelta(days=1, microseconds=-1)


def beyond_key(order: str, key: SessionKey | ExchangeKey | None) -> Condition:
    """Return the condition for rows that come after a key, in an order that its fields give."""
    if key is None:
        return Condition("true", [])
    first, marks = key._fields[0], ", ".join("?" * len(key))
    sql = f"{first} {order}= ? AND ({', '.join(key._fields)}) {order} ({marks})"
    return Condition(sql, [key[0], *key])


def of_session(owner: Owner, session_id: str) -> Condition:
    """Return the condition for the exchanges of a session."""
    sql = "issuer = ? AND subject = ? AND coalesce(session_id, exchange_id) = ?"
    return Condition(sql, [*owner, session_id])


def one_of(keys: list[ExchangeKey]) -> Condition:
    """Return the condition for rows with these keys, by which whole files are left out."""
    marks = ", ".join("?" * len(keys))
    times, ids = [key.started_at for key in keys], [key.exchange_id for key in keys]
    return Condition(f"started_at IN ({marks}) AND exchange_id IN ({marks})", [*times, *ids])


def page_of(limit: int) -> int:
    """Return how many rows a page has at most."""
    return min(limit, LARGEST_PAGE)


def selected_from(exchanges: str, sql: str) -> str:
    """Return a SELECT from `exchanges`, of which the first says what they are."""
    return f"WITH exchanges AS NOT MATERIALIZED ({exchanges}) {sql}"
