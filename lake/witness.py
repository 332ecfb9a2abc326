"""Witnesses: told the newest root of each journal, so that whole tables can't be put back unseen.

A root covers all roots before it, so only the newest of a journal has to get through; what a
witness can't take now is told it later, and nothing waits for it.
"""

import logging
import os
import urllib.request
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from typing import Final, Protocol

import msgspec

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0


class Testimony(msgspec.Struct, frozen=True, kw_only=True):
    """What a witness is told: one line of JSON."""

    journal_id: str
    last_sequence: int
    root: str
    key_id: str
    signature: str
    """Hexadecimal."""
    sealed_at: int
    """Microseconds since the epoch."""


class Witness(Protocol):
    """Keeps lines that this host can't change afterwards."""

    def tell(self, lines: bytes) -> None:
        """Keep lines; raises `OSError` if it can't."""


class FileWitness:
    """A file, best on another machine's disk or one that only appends."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tell(self, lines: bytes) -> None:
        """Append lines and sync."""
        fd = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        with os.fdopen(fd, "ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


class HttpWitness:
    """A server that takes lines by POST and answers 2xx when it has them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def tell(self, lines: bytes) -> None:
        """Post lines; anything but 2xx raises `OSError`."""
        request = urllib.request.Request(  # noqa: S310 - the configured witness, http or https
            self._url, data=lines, headers={"content-type": "application/x-ndjson"}
        )
        with self._opener.open(request, timeout=TIMEOUT_S):
            pass


class Witnesses:
    """All witnesses, each with what it was not yet told."""

    def __init__(self, witnesses: Iterable[Witness]) -> None:
        self._untold: list[tuple[Witness, dict[str, Testimony]]] = [(w, {}) for w in witnesses]

    def tell(self, news: Iterable[Testimony]) -> None:
        """Tell every witness, also what it could not be told before."""
        news = list(news)
        for witness, untold in self._untold:
            untold.update((each.journal_id, each) for each in news)
            if not untold:
                continue
            try:
                lines = b"".join(msgspec.json.encode(each) + b"\n" for each in untold.values())
                witness.tell(lines)
            except (OSError, HTTPException) as e:
                logger.warning("witness_not_told witness=%s error=%r", type(witness).__name__, e)
            else:
                untold.clear()
