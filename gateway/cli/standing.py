"""How a deployment is: what its processes publish, its journals, its disk, its policy; and judged.

Reads only; what is wrong is a sentence that says what to do.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from gateway.cli.policy import bundle_status
from gateway.cli.terminal import Complaint, settings_in_force
from gateway.domain import Fact
from gateway.journal_folder import JournalFolder
from gateway.limit_use import LimitUse, read_use
from gateway.published import (
    STALE_S,
    ProcessesReport,
    processes_file,
    read_published,
    recorder_file,
)
from gateway.recorder_report import RecorderReport
from gateway.records import Position

STUCK_S = 60.0
"""Longer than the recorder waits between two tries, and than a large batch takes."""

_START = Position(0, 0)


class JournalStanding(Fact, frozen=True, kw_only=True):
    """One journal on this host."""

    journal_id: str
    is_written: bool
    """Whether its writer lives."""
    kept_bytes: int
    """On disk; what was committed is deleted by whole segments."""
    unread_bytes: int
    is_corrupt: bool


class PolicyStanding(Fact, frozen=True, kw_only=True):
    """What OPA says."""

    revision: str = ""
    """The active one; empty where there is none, or OPA is away."""
    error: str = ""


class Standing(Fact, frozen=True, kw_only=True):
    """A deployment at one moment."""

    at_ns: int
    folder: str
    processes: ProcessesReport | None
    recorder: RecorderReport | None
    journals: tuple[JournalStanding, ...]
    free_bytes: int
    floor_bytes: int
    policy: PolicyStanding
    limits: tuple[LimitUse, ...] | None = ()
    """Of which something is in use; None where the state database can't be read."""


def look(folder: Path, now_ns: int) -> Standing:
    """Look at the deployment in a folder.

    Raises:
        Complaint: none has run there, or it can't be read.
    """
    settings = settings_in_force(folder)
    recorder = read_published(recorder_file(folder), RecorderReport)
    try:
        disk = os.statvfs(settings.journal_folder)
        journals = tuple(_journals(settings.journal_folder, recorder))
    except OSError as e:
        raise Complaint(f"{settings.journal_folder} can't be read: {e.strerror}") from e
    return Standing(
        at_ns=now_ns,
        folder=str(settings.folder),
        processes=read_published(processes_file(folder), ProcessesReport),
        recorder=recorder,
        journals=journals,
        free_bytes=disk.f_bavail * disk.f_frsize,
        floor_bytes=settings.min_free_bytes,
        policy=_policy(folder),
        limits=read_use(settings.state_url, now_ns),
    )


def _journals(root: Path, recorder: RecorderReport | None) -> Iterator[JournalStanding]:
    folder = JournalFolder(root)
    for journal_id in folder.journals():
        try:
            kept_bytes = folder.unread_bytes(journal_id, _START)
        except FileNotFoundError:  # committed and let go just now
            continue
        unread = recorder.state.unread.get(journal_id, 0) if recorder else kept_bytes
        yield JournalStanding(
            journal_id=journal_id,
            is_written=not folder.is_dead(journal_id),
            kept_bytes=kept_bytes,
            unread_bytes=unread,
            is_corrupt=recorder is not None and journal_id in recorder.state.corrupt_journals,
        )


def _policy(folder: Path) -> PolicyStanding:
    try:
        bundle = bundle_status(folder)
    except Complaint as e:
        return PolicyStanding(error=str(e))
    error = (
        f"the newest bundle was not activated: {bundle['message']}" if bundle.get("code") else ""
    )
    return PolicyStanding(revision=bundle.get("active_revision", ""), error=error)


# --- what is wrong --------------------------------------------------------------------------------


def find_problems(standing: Standing) -> list[str]:
    """Return what is wrong, each with what to do."""
    processes = standing.processes
    if processes is None or _age_s(standing, processes.at_ns) > STALE_S:
        return [
            f"no `countersign up` runs in {standing.folder}: start it",
            *_journal_problems(standing),
        ]
    return [
        *_process_problems(standing, processes),
        *_recorder_problems(standing),
        *_journal_problems(standing),
        *_policy_problems(standing),
        *_state_problems(standing),
    ]


def _process_problems(standing: Standing, processes: ProcessesReport) -> Iterator[str]:
    for process in processes.processes:
        if process.state != "running":
            yield (
                f"{process.name} is {process.state}, after {process.restarts} restarts (its last "
                f"end: {process.last_end}): read {standing.folder}/log/{process.name}.log"
            )


def _recorder_problems(standing: Standing) -> Iterator[str]:
    recorder, log = standing.recorder, f"{standing.folder}/log/recorder.log"
    if recorder is None or _age_s(standing, recorder.at_ns) > STALE_S:
        yield f"the recorder says nothing of itself: read {log}; records wait in the journals"
    elif recorder.state.failures:
        yield (
            f"the recorder failed {recorder.state.failures} times in a row: see in {log} what it "
            "lacks; records wait in the journals"
        )
    elif _age_s(standing, recorder.renewed_ns) > STUCK_S:
        yield f"the recorder has hung for {_age_s(standing, recorder.renewed_ns):.0f} s: read {log}"


def _journal_problems(standing: Standing) -> Iterator[str]:
    if standing.free_bytes < standing.floor_bytes:
        yield (
            f"{standing.free_bytes // 2**20} MB are free under {standing.folder}/journal, less "
            f"than journal.min_free_mb ({standing.floor_bytes // 2**20}), so calls are refused: "
            "make room"
        )
    for journal in standing.journals:
        if journal.is_corrupt:
            yield (
                f"journal {journal.journal_id} is damaged, and what follows is in no table: copy "
                f"{standing.folder}/journal/{journal.journal_id} away"
                + (", and end its process, to begin a new one" if journal.is_written else "")
            )


def _policy_problems(standing: Standing) -> Iterator[str]:
    policy, log = standing.policy, f"{standing.folder}/log"
    if policy.error:
        yield f"{policy.error}: read {log}/relay.log and {log}/opa.log"
    elif not policy.revision:
        yield f"OPA has no active policy, so calls are refused: read {log}/relay.log"


def _state_problems(standing: Standing) -> Iterator[str]:
    if standing.limits is None:
        yield (
            "the state database can't be read, so limited and held calls are refused: see that "
            "the one that state.url names is there"
        )


def _age_s(standing: Standing, at_ns: int) -> float:
    """Return how old something is; a clock that was set back makes nothing young."""
    return abs(standing.at_ns - at_ns) / 1e9
