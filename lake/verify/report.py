"""What a verification says: what it covered, and every finding by name."""

from collections.abc import Callable
from typing import Final

import msgspec

MOST_FINDINGS: Final = 10_000
"""Kept one by one; beyond, they are counted."""

Progress = Callable[[str, int, int], None]
"""Told what is being checked, how much of it is done and how much there is."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was recorded."""

    kind: str
    """`edited`, `missing`, `added`, `duplicate`, `gap`, `reordered`, `forged`, `truncated`,
    `corrupt`, `unsigned` or `unreadable`."""
    where: str
    """What it concerns: a table and a row, a proof, a journal."""
    message: str


class Coverage(msgspec.Struct, kw_only=True):
    """What was checked."""

    proofs: int = 0
    records: int = 0
    """Of journals, that proofs count."""
    rows: int = 0
    unsigned_rows: int = 0
    """Of these, committed just now: the recorder signs them next."""
    pieces: int = 0
    journals: int = 0
    """That proofs seal."""
    live_journals: int = 0
    """Of this host, read from disk."""
    live_records: int = 0
    """In these; not sealed, so only their checksums and numbers could be checked."""
    witnessed: int = 0
    """Roots that a witness has."""
    left_out: list[str] = []
    """Metadata files of a copy that are part of no table."""
    keys: list[str] = []
    """Ids of the keys whose signatures were found and valid."""
    first_at: int | None = None
    """When the first proof was sealed: microseconds since the epoch."""
    last_at: int | None = None


class Report(msgspec.Struct, kw_only=True):
    """The outcome of a verification."""

    coverage: Coverage = msgspec.field(default_factory=Coverage)
    findings: list[Finding] = []
    finding_count: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether all that was checked is as it was recorded."""
        return self.finding_count == 0

    def find(self, kind: str, where: str, message: str) -> None:
        """Add a finding."""
        self.finding_count += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(kind=kind, where=where, message=message))
