"""Exchanges that could not be recorded: counted while that lasts, one event when it is over."""

from collections.abc import Callable

import msgspec

from gateway.clock import format_time
from gateway.ports import Journal
from gateway.records import Event

UNAVAILABLE = "recording_unavailable"
"""Code of the failure."""


class Unrecorded:
    """Counts what a failing journal refused or cut, and tells it once the journal works again."""

    def __init__(
        self, journal: Journal, now_ns: Callable[[], int], new_id: Callable[[], str]
    ) -> None:
        self._journal = journal
        self._now_ns = now_ns
        self._new_id = new_id
        self._since_ns = 0
        self._last_ns = 0
        self._refused = 0
        self._cut = 0

    def note(self, *, is_open: bool) -> None:
        """Count one exchange: cut, if its opening was recorded; else refused, and of no record.

        One that its caller left before it could be recorded counts as refused.
        """
        self._last_ns = self._now_ns()
        if not self._refused + self._cut:
            self._since_ns = self._last_ns
        if is_open:
            self._cut += 1
        else:
            self._refused += 1

    def flush(self) -> None:
        """Write the event of a failure that is over; raises `Failure` while it lasts."""
        count = self._refused + self._cut
        if not count:
            return
        first, last = format_time(self._since_ns), format_time(self._last_ns)
        detail = {"from": first, "to": last, "refused": self._refused, "cut": self._cut}
        self._journal.append(
            Event(
                event_id=self._new_id(),
                at_ns=self._now_ns(),
                kind="recording.failed",
                reason=UNAVAILABLE,
                message=(
                    f"Between {first} and {last} the journal could not be written: "
                    f"{self._refused} exchanges were refused, {self._cut} were cut."
                ),
                count=count,
                detail_json=msgspec.json.encode(detail).decode(),
            )
        )
        self._refused = self._cut = 0
