"""What the recorder needs from the gateway: journals to read, and one of its own to write.

Declared here, provided by the gateway's composition; this package knows no file of a journal.
"""

from collections.abc import Sequence
from typing import Protocol

from gateway.records import Closing, Event, Frame, Position


class JournalReader(Protocol):
    """Reads every journal of this host, living or dead."""

    def journals(self) -> Sequence[str]:
        """Return the ids of all journals that have a segment left, oldest first."""

    def gone(self) -> Sequence[str]:
        """Return the ids of journals that this host had and has no more, oldest first."""

    def read(
        self, journal_id: str, start: Position, limit_bytes: int
    ) -> tuple[Sequence[tuple[Position, Position, Frame]], Position]:
        """Return whole frames from `start`, each with its place, and where to go on.

        A frame comes with the position of its first byte and the one after its last.
        About `limit_bytes` at most, but always a frame when a whole one is there; none means that
        nothing new is there yet. Crosses into the next segment by itself. `Position(0, 0)` is the
        beginning of any journal.

        Raises:
            CorruptFrame: the frame at `start` is corrupt; whole frames before it are read first.
        """

    def unread_bytes(self, journal_id: str, start: Position) -> int:
        """Return how many bytes lie beyond `start`."""

    def is_dead(self, journal_id: str) -> bool:
        """Return whether its writer is gone for good: nothing is ever added to it."""

    def discard(self, journal_id: str, before: Position) -> None:
        """Delete the segments that lie wholly before a position."""

    def discard_journal(self, journal_id: str) -> None:
        """Delete a dead journal of which every frame is committed."""


class Writer(Protocol):
    """The recorder's own journal, which its reader lists too, before or at the first append."""

    def append(self, record: Closing | Event) -> None:
        """Write a record; on an error it may or may not be there."""
