"""The births of a host's journals, numbered, so that a journal that is missing is missed.

One file beside the journals has a line for each: number and journal id. A journal's first record
says the same, so the record itself tells which others there must be.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.records import Event

KIND = "journal.began"

_LINE = re.compile(r"^(\d+) (\S+)\n", re.MULTILINE)


class Birth(NamedTuple):
    """That a journal began."""

    host: str
    """The first journal of its host."""
    number: int
    """Among that host's; from 1."""
    journal_id: str


@contextmanager
def registered(root: Path, journal_id: str, at_ns: int) -> Iterator[Event]:
    """Yield the first record of a new journal under `root`; its number is taken at the end.

    Raises:
        OSError: the file can't be written.
    """
    with os.fdopen(os.open(root / "births", os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().splitlines(keepends=True)
        if lines and (not lines[-1].endswith("\n") or _is_stillborn(root, _read(lines[-1])[0])):
            lines.pop()
        births = _read("".join(lines))
        number = births[-1].number + 1 if births else 1
        detail = {
            "host": births[0].journal_id if births else journal_id,
            "number": number,
            "previous": births[-1].journal_id if births else None,
        }
        yield Event(
            event_id=f"{journal_id}/{KIND}", at_ns=at_ns, kind=KIND, detail_json=json.dumps(detail)
        )
        file.truncate(len("".join(lines)))
        file.seek(0, os.SEEK_END)
        file.write(f"{number} {journal_id}\n")
        file.flush()
        os.fsync(file.fileno())


def _is_stillborn(root: Path, birth: Birth) -> bool:
    """Return whether a journal took its number and its process ended before anyone could see it."""
    hidden = root / f".{birth.journal_id}"
    try:
        with (hidden / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    shutil.rmtree(hidden, ignore_errors=True)
    return True


def read_births(root: Path) -> list[Birth]:
    """Return the journals that began under `root`, in order."""
    try:
        return _read((root / "births").read_text())
    except FileNotFoundError:
        return []


def _read(text: str) -> list[Birth]:
    lines = _LINE.findall(text)
    return [Birth(lines[0][1], int(number), journal_id) for number, journal_id in lines]
