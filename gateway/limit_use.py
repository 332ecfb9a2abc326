"""How much of each limit is in use, as the state database says; for operators."""

from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from gateway.domain import Fact
from gateway.leases import Counter, in_use
from gateway.state import LIMITS, open_state

MOST = 20
"""Limits that are told: those of which the largest share is in use."""


class LimitUse(Fact, frozen=True, kw_only=True):
    """A limit of which something is in use."""

    key: str
    unit: str
    limit: int
    """As the last call's decision sized it."""
    window_s: int
    used: int
    """Leased or spent."""


def read_use(url: str, now_ns: int) -> tuple[LimitUse, ...] | None:
    """Return the limits in use, the fullest first; None where the database can't be read."""
    parsed = sa.make_url(url)
    if parsed.drivername.startswith("sqlite") and not Path(parsed.database or "").is_file():
        return None  # opening it would make it
    engine = open_state(url)
    query = sa.select(LIMITS).where(LIMITS.c.expires_at > now_ns)
    try:
        with engine.connect() as connection:
            found = [_read(row, now_ns) for row in connection.execute(query)]
    except (SQLAlchemyError, msgspec.MsgspecError):
        return None
    finally:
        engine.dispose()
    found = [use for use in found if use.used]
    return tuple(sorted(found, key=lambda use: -use.used / max(1, use.limit))[:MOST])


def _read(row: "sa.Row[tuple[object, ...]]", now_ns: int) -> LimitUse:
    counter = msgspec.json.decode(row.counter, type=Counter)
    return LimitUse(
        key=row.key,
        unit=row.unit,
        limit=row.size,
        window_s=row.window_s,
        used=in_use(counter, row.window_s, now_ns),
    )
