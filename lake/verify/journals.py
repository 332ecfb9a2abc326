"""Journals: none missing by the numbers of their births, and those on disk without damage.

What is on disk and not yet sealed has checksums and numbers only.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from gateway.records import CorruptFrame, Position
from lake.chains import Link, read_links
from lake.cursors import NOTHING, read_cursors
from lake.intake import COMMIT_ORDER, LAST_TABLE
from lake.journal_events import DAMAGED, ENDED, Damage, End
from lake.sources import JournalReader
from lake.verify.report import Progress, Report
from lake.verify.tables import Tables

BORN: Final = "journal.began"
_READ_BYTES: Final = 8 * 1024 * 1024
_T = TypeVar("_T")


class Birth(NamedTuple):
    """That a journal began, as its first record or the host's own list says."""

    host: str
    number: int
    journal_id: str


class OnDisk(msgspec.Struct, kw_only=True):
    """A journal as it was found on disk."""

    first: int | None = None
    """Sequence of its first record; None when it holds none."""
    following: int = 0
    """Sequence after its last."""
    records: int = 0
    gaps: list[tuple[int, int]] = []
    """First and last sequence of what lacks."""
    corrupt: str = ""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """This host's journals; taken before the tables are opened, which must know the rest."""

    births: tuple[Birth, ...] = ()
    journals: Mapping[str, OnDisk] = {}
    live: frozenset[str] = frozenset()
    """Journals that were on disk at any time since: their newest rows may not be signed yet."""


def read_host(births: Sequence[Birth], reader: JournalReader, progress: Progress) -> Host:
    """Read every journal on disk to its end."""
    journals = {}
    names = reader.journals()
    for number, journal_id in enumerate(names, start=1):
        journals[journal_id] = _read(reader, journal_id)
        progress("journals", number, len(names))
    return Host(births=tuple(births), journals=journals, live=frozenset(journals))


def ahead_of_proofs(tables: Tables) -> frozenset[str]:
    """Return the journals of which a table has what no proof covers yet, by the tables' cursors.

    So it is in a copy that was taken during a commit, whose proofs come last.
    """
    sealed = read_cursors(tables.properties(LAST_TABLE))
    rows = tables.run("SELECT DISTINCT journal_id FROM proofs").fetchall()
    forgotten = {str(journal_id) for (journal_id,) in rows} - sealed.keys()
    return frozenset(
        journal_id
        for name in COMMIT_ORDER[:-1]
        for journal_id, cursor in read_cursors(tables.properties(name)).items()
        if journal_id not in forgotten and cursor.closed > sealed.get(journal_id, NOTHING).closed
    )


def check_journals(
    tables: Tables, host: Host, ends: Mapping[str, Link], report: Report, *, is_whole: bool
) -> None:
    """Check journals against each other and against where their proofs end.

    Args:
        tables: The tables.
        host: This host's journals.
        ends: By journal, where its proofs end.
        report: Takes what is found.
        is_whole: Whether `ends` has all journals, so that one which is not there is missing.
    """
    for journal_id, found in host.journals.items():
        # Of a part of the proofs, a journal without one may have been sealed before.
        end = ends.get(journal_id, Link()).next_sequence if is_whole else found.first or 0
        _check_on_disk(journal_id, found, end, report)
    report.coverage.live_journals = len(host.journals)
    report.coverage.live_records = sum(found.records for found in host.journals.values())
    if is_whole:
        _check_births(_recorded_births(tables, report), host, ends, report)
        _check_damaged(tables, host, ends, report)
        _check_ended(tables, ends, report)


def _read(reader: JournalReader, journal_id: str) -> OnDisk:
    found, position = OnDisk(), Position(0, 0)
    try:
        while True:
            frames, position = reader.read(journal_id, position, _READ_BYTES)
            if not frames:
                return found
            for _, _, frame in frames:
                if found.first is None:
                    found.first = found.following = frame.sequence
                if frame.sequence != found.following:
                    found.gaps.append((found.following, frame.sequence - 1))
                found.following = frame.sequence + 1
            found.records += len(frames)
    except FileNotFoundError:  # recorded and let go of while it was read
        return found
    except CorruptFrame as e:
        found.corrupt = f"segment {position.segment}: {e}"
        return found


def _check_on_disk(journal_id: str, found: OnDisk, end: int, report: Report) -> None:
    where = f"journal {journal_id} on disk"
    if found.corrupt:
        report.find("corrupt", where, found.corrupt)
    if found.first is not None and found.first > end:
        report.find("gap", where, f"records {end}-{found.first - 1} are neither there nor recorded")
    for first, last in found.gaps:
        report.find("gap", where, f"records {first}-{last} are not there")


def _check_damaged(tables: Tables, host: Host, ends: Mapping[str, Link], report: Report) -> None:
    """Name each journal that a recorder could not read on; one that it did read since is whole."""
    for damage in _noted(tables, DAMAGED, Damage, report):
        is_read = ends.get(damage.journal_id, Link()).next_sequence > damage.next_sequence
        if not (is_read or host.journals.get(damage.journal_id, OnDisk()).corrupt):
            report.find(
                "corrupt",
                f"journal {damage.journal_id}",
                f"its record {damage.next_sequence} and what followed could not be read",
            )


def _check_ended(tables: Tables, ends: Mapping[str, Link], report: Report) -> None:
    """Compare ends with what was noted of journals when they were let go of."""
    links = read_links(tables.properties("proofs"))
    for end in _noted(tables, ENDED, End, report):
        found = ends.get(end.journal_id, Link())
        is_named = end.journal_id in links and links[end.journal_id].root != found.root
        if found.root != end.root and not is_named:
            report.find(
                "truncated",
                f"journal {end.journal_id}",
                f"its proofs end at record {found.next_sequence - 1}, "
                f"but it ended with {end.next_sequence - 1}",
            )


def _noted(tables: Tables, kind: str, form: type[_T], report: Report) -> list[_T]:
    """Return what recorders noted about journals, each once."""
    rows = tables.run("SELECT DISTINCT detail_json FROM events WHERE kind = ?", [kind])
    noted = []
    for (detail_json,) in sorted(rows.fetchall()):
        try:
            noted.append(msgspec.json.decode(detail_json, type=form))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            report.find("edited", f"an event {kind}", "it can't be read")
    return noted


def _recorded_births(tables: Tables, report: Report) -> list[Birth]:
    births = []
    rows = tables.run("SELECT journal_id, detail_json FROM events WHERE kind = ?", [BORN])
    for journal_id, detail_json in rows.fetchall():
        try:
            detail = json.loads(detail_json)
            births.append(Birth(str(detail["host"]), int(detail["number"]), str(journal_id)))
        except (ValueError, TypeError, KeyError):
            report.find("edited", f"journal {journal_id}", "its first record can't be read")
    return births


def _check_births(
    recorded: Sequence[Birth], host: Host, ends: Mapping[str, Link], report: Report
) -> None:
    numbers: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for birth in (*recorded, *host.births):
        numbers[birth.host][birth.number].add(birth.journal_id)
    for name, journals in sorted(numbers.items()):
        for number in range(1, max(journals) + 1):
            _check_number(f"journal {number} of host {name}", journals.get(number, set()), report)
    for journal_id in sorted(ends.keys() - {birth.journal_id for birth in recorded}):
        report.find("missing", f"journal {journal_id}", "its first record is not there")
    for birth in host.births:
        if birth.journal_id not in ends and birth.journal_id not in host.journals:
            report.find(
                "missing",
                f"journal {birth.journal_id}",
                "it began on this host, and neither it nor a proof of it is there",
            )


def _check_number(where: str, journals: set[str], report: Report) -> None:
    if not journals:
        report.find("missing", where, "no such journal is there")
    elif len(journals) > 1:
        report.find("duplicate", where, f"several have that number: {', '.join(sorted(journals))}")
