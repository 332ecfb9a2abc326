"""The births of a host's journals, numbered, so that a journal that is missing is missed.

One file beside the journals has a line for each: number and journal id. A journal's first record
says the same, so the record itself tells which others there must be.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.records import Event

KIND = "journal.began"

_LINE = re.compile(r"^(\d+) (\S+)$", re.MULTILINE)


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
        births = _read(file.read())
        number = births[-1].number + 1 if births else 1
        detail = {
            "host": births[0].journal_id if births else journal_id,
            "number": number,
            "previous": births[-1].journal_id if births else None,
        }
        yield Event(
            event_id=f"{journal_id}/{KIND}", at_ns=at_ns, kind=KIND, detail_json=json.dumps(detail)
        )
        file.write(f"{number} {journal_id}\n")
        file.flush()
        os.fsync(file.fileno())


def read_births(root: Path) -> list[Birth]:
    """Return the journals that began under `root`, in order."""
    try:
        return _read((root / "births").read_text())
    except FileNotFoundError:
        return []


def _read(text: str) -> list[Birth]:
    lines = _LINE.findall(text)
    return [Birth(lines[0][1], int(number), journal_id) for number, journal_id in lines]
