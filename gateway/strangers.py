"""Callers that could not be identified: counted by reason, peer and minute, never one record each.

So that an unauthenticated flood can't fill the journal.
"""

from collections import Counter
from collections.abc import Callable

from gateway.ports import Journal
from gateway.records import Event

MAX_KEYS = 1000
"""Distinct (reason, peer) pairs kept between two flushes; what comes beyond is counted together."""
_MANY = "many"


class Strangers:
    """Counts refusals of callers without identity and turns the counts into events."""

    def __init__(
        self, journal: Journal, now_ns: Callable[[], int], new_id: Callable[[], str]
    ) -> None:
        self._journal = journal
        self._now_ns = now_ns
        self._new_id = new_id
        self._counts: Counter[tuple[str, str]] = Counter()

    def note(self, reason: str, peer: str) -> None:
        """Count one refusal."""
        key = (reason, peer)
        if key not in self._counts and len(self._counts) >= MAX_KEYS:
            key = (reason, _MANY)
        self._counts[key] += 1

    def flush(self) -> None:
        """Write what was counted since the last flush; raises `Failure` and keeps the counts."""
        for key in list(self._counts):
            reason, peer = key
            self._journal.append(
                Event(
                    event_id=self._new_id(),
                    at_ns=self._now_ns(),
                    kind="access.refused",
                    outcome="deny",
                    peer=peer,
                    reason=reason,
                    count=self._counts[key],
                )
            )
            del self._counts[key]
