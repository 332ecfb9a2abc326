"""The recorder's bounds, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """Bounds of the recorder."""

    commit_every_s: float = 15.0
    """Longest wait of a row for its batch; a row must be in the tables within 30 s."""
    batch_bytes: int = 64 * 1024 * 1024
    """A batch this large is committed at once: it is held in memory, and again as Arrow."""
    batch_rows: int = 20_000
    read_bytes: int = 8 * 1024 * 1024
    """What one step reads of all journals together."""
    most_snapshots: int = 40
    """Live snapshots beyond which the oldest are expired: each makes every commit slower."""
    kept_snapshots: int = 20
    kept_cursors: int = 100
    """Of journals that are gone; twice as many are let gather before the older ones go."""
    event_retention_class: str = "events"
    poll_s: float = 0.25
    """Pause when there is nothing new; a row must be visible within a second."""
    longest_back_off_s: float = 30.0


class StepResult(NamedTuple):
    """What a step did."""

    records: int
    bytes: int
    committed_rows: int
    interrupted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderState:
    """How far behind the recorder is; replaced as a whole, so any thread may read it."""

    journals: int = 0
    open_exchanges: int = 0
    open_bytes: int = 0
    waiting_rows: int = 0
    """Rows read and not yet committed."""
    waiting_bytes: int = 0
    unread: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each journal that has any that were not read."""
    corrupt_journals: tuple[str, ...] = ()
    last_commit_ns: int | None = None
    failures: int = 0
    """Steps that failed since one succeeded."""
