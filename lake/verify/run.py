"""A whole verification, step by step."""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from lake.signing import PublicKeys
from lake.verify.journals import Host, ahead_of_proofs, check_journals
from lake.verify.proofs import Proofs
from lake.verify.report import Progress, Report
from lake.verify.rows import check_rows
from lake.verify.tables import UNREADABLE, Tables
from lake.verify.witness import check_witness


def verify(
    tables: Tables,
    keys: PublicKeys,
    progress: Progress,
    *,
    since: int = 0,
    host: Host | None = None,
    witness: Iterable[bytes] = (),
) -> Report:
    """Check everything that is given.

    Args:
        tables: The tables, as of one moment.
        keys: The public keys that are trusted.
        progress: Told how far each step is.
        since: Only what `lake.verify.since` says: microseconds since the epoch; 0 for everything.
        host: The journals of this host, read before the tables were opened; None for a copy.
        witness: Lines that a witness was told.
    """
    report = Report()
    report.coverage.left_out = list(tables.left_out)
    host_name = host.births[0].host if host and host.births else ""
    proofs = Proofs(tables, keys, report, since)
    steps: dict[str, Callable[[], None]] = {
        "proofs": lambda: proofs.check(progress),
        "rows": lambda: check_rows(
            tables,
            report,
            proofs.since,
            host.live if host else ahead_of_proofs(tables),
            host_name,
            progress,
        ),
        "witness": lambda: check_witness(tables, witness, report),
        "journals": lambda: check_journals(
            tables, host or Host(), proofs.ends, report, is_whole=since == 0
        ),
    }
    with _without_collector():
        for name, step in steps.items():
            try:
                step()
            except UNREADABLE as e:
                report.find("unreadable", name, str(e).partition("\n")[0][:300])
    return report


@contextmanager
def _without_collector() -> Iterator[None]:
    """Look for no reference cycles: rows have none, and looking takes as long as all the rest."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
