"""What processes of a deployment say of themselves: a small JSON file each, written whole."""

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.domain import Fact

PUBLISH_EVERY_S = 1.0
STALE_S = 10.0
"""A file this old was left by a process that is gone or stands still."""

_Report = TypeVar("_Report")


class ProcessReport(Fact, frozen=True, kw_only=True):
    """One child of the supervisor."""

    name: str
    pid: int
    state: str
    """`running`, `starting`, or `waiting` for its next start."""
    restarts: int
    started_ns: int
    """When its present or last life began; nanoseconds since the epoch, as every `_ns`."""
    last_end: str
    """How its last life ended; empty during the first."""


class ProcessesReport(Fact, frozen=True, kw_only=True):
    """All processes of a deployment, by their supervisor."""

    at_ns: int
    pid: int
    """Of the supervisor."""
    processes: tuple[ProcessReport, ...]


def processes_file(folder: Path) -> Path:
    """Where the supervisor publishes."""
    return folder / "run" / "processes.json"


def recorder_file(folder: Path) -> Path:
    """Where the recorder publishes."""
    return folder / "run" / "recorder.json"


def publish(path: Path, report: object) -> None:
    """Replace what was published; a reader sees the old or the new one, whole.

    Raises:
        OSError: it can't be written; what was published before stays, and grows old.
    """
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(msgspec.json.encode(report))
    os.replace(beside, path)  # noqa: PTH105 - the function whose promise is meant


def read_published(path: Path, kind: type[_Report]) -> _Report | None:
    """Return what was published last; None where nothing is, or nothing that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None
