"""Instants: as text, and from a clock that never goes back; pure."""

from collections.abc import Callable
from datetime import UTC, datetime


def format_time(at_ns: int) -> str:
    """Return an instant as RFC 3339 in UTC, with microseconds."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC).isoformat(timespec="microseconds")


def never_back(now_ns: Callable[[], int]) -> Callable[[], int]:
    """Return a clock that stands still while the machine's, set back, is behind what it said."""
    latest_ns = 0

    def clock() -> int:
        nonlocal latest_ns
        latest_ns = max(latest_ns, now_ns())
        return latest_ns

    return clock
