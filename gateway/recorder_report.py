"""What the recorder says of itself, each second, to other processes of its host."""

from pathlib import Path

import msgspec

from gateway.domain import Fact
from gateway.published import read_published
from lake.cursors import Cursors
from lake.recorder_state import RecorderState


class RecorderReport(Fact, frozen=True, kw_only=True):
    """The recorder's state, as it publishes it."""

    at_ns: int
    renewed_ns: int
    """When the state was new: a recorder that hangs in a step publishes an old one."""
    state: RecorderState
    committed: Cursors = msgspec.field(default_factory=dict)
    """How far the tables are, by journal."""


class LastWord:
    """The newest report, read again when it is another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp_ns = 0
        self._report = RecorderReport(at_ns=0, renewed_ns=0, state=RecorderState())

    def read(self) -> RecorderReport:
        """Return the newest report that could be read; one of nothing before the first."""
        try:
            stamp_ns = self._path.stat().st_mtime_ns
        except OSError:
            return self._report
        if stamp_ns != self._stamp_ns:
            self._report = read_published(self._path, RecorderReport) or self._report
            self._stamp_ns = stamp_ns
        return self._report
