"""The births of a host's journals, numbered, so that a journal that is missing is missed.

One file beside the journals has a line for each: number and journal id. A journal's first record
says the same, so the record itself tells which others there must be.
"""

import fcntl
import json
import os
import re
from pathlib import Path

from gateway.records import Event

KIND = "journal.began"

_LINE = re.compile(r"^(\d+) (\S+)$", re.MULTILINE)


def register(root: Path, journal_id: str, at_ns: int) -> Event:
    """Give a journal under `root` the next number, and return its first record.

    The host is named by its first journal.

    Raises:
        OSError: the file can't be written.
    """
    with os.fdopen(os.open(root / "births", os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        births = _LINE.findall(file.read())
        number = int(births[-1][0]) + 1 if births else 1
        file.write(f"{number} {journal_id}\n")
        file.flush()
        os.fsync(file.fileno())
    detail = {
        "host": births[0][1] if births else journal_id,
        "number": number,
        "previous": births[-1][1] if births else None,
    }
    return Event(
        event_id=f"{journal_id}/{KIND}",
        at_ns=at_ns,
        kind=KIND,
        detail_json=json.dumps(detail),
    )
