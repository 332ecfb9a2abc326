"""All journals of this host, as the recorder reads them; written by `gateway.journal`."""

import fcntl
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from gateway.births import read_births
from gateway.records import (
    CorruptFrame,
    Frame,
    Position,
    decode_frames,
)

MAX_FRAME_READ_BYTES = 128 * 1024 * 1024
"""Read at once for a frame that is larger than a step's limit."""


class JournalFolder:
    """All journals of this host, as the recorder reads them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def journals(self) -> Sequence[str]:
        """Return the ids of all journals, oldest first (ids are ordered by time)."""
        if not self._root.is_dir():
            return ()
        folders = (path for path in self._root.iterdir() if not path.name.startswith("."))
        return sorted(path.name for path in folders if (path / "lock").exists())

    def gone(self) -> Sequence[str]:
        """Return the ids of journals that began here and were let go of, oldest first."""
        present = set(self.journals())
        births = (birth.journal_id for birth in read_births(self._root))
        return [journal_id for journal_id in births if journal_id not in present]

    def read(
        self, journal_id: str, start: Position, limit_bytes: int
    ) -> tuple[Sequence[tuple[Position, Position, Frame]], Position]:
        """Return whole frames from `start` on, each with its place and the place after it.

        The second value is where to go on. A torn tail is not read: its writer is either still
        writing it or gone.

        Raises:
            CorruptFrame: a frame is not what was written, or torn before the journal's end.
        """
        try:  # most often there is more where reading stopped
            frames = self._read_segment(journal_id, start, limit_bytes) if start.segment else []
        except FileNotFoundError:
            frames = []
        if frames:
            return frames, frames[-1][1]
        position = start
        segments = self._segments(journal_id)
        for segment in segments:
            if segment < position.segment:
                continue
            if segment > position.segment:
                position = Position(segment, 0)
            frames = self._read_segment(journal_id, position, limit_bytes)
            if frames:
                return frames, frames[-1][1]
            if segment != segments[-1] and self._size(journal_id, segment) > position.offset:
                raise CorruptFrame(position.offset, "torn, and yet the journal goes on after it")
        return (), position

    def unread_bytes(self, journal_id: str, start: Position) -> int:
        """Return how many bytes lie beyond `start`."""
        sizes = {n: self._size(journal_id, n) for n in self._segments(journal_id)}
        beyond = sum(size for number, size in sizes.items() if number >= start.segment)
        return beyond - (start.offset if start.segment in sizes else 0)

    def is_dead(self, journal_id: str) -> bool:
        """Say whether the writer is gone: nobody holds the journal's lock."""
        try:
            fd = os.open(self._root / journal_id / "lock", os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(fd)

    def discard(self, journal_id: str, before: Position) -> None:
        """Delete the segments that lie wholly before `before`."""
        for segment in self._segments(journal_id):
            if segment < before.segment:
                self._path(journal_id, segment).unlink(missing_ok=True)

    def discard_journal(self, journal_id: str) -> None:
        """Delete a journal whose writer is dead and whose every frame is committed."""
        shutil.rmtree(self._root / journal_id, ignore_errors=True)

    def _read_segment(
        self, journal_id: str, start: Position, limit_bytes: int
    ) -> list[tuple[Position, Position, Frame]]:
        with self._path(journal_id, start.segment).open("rb") as file:
            file.seek(start.offset)
            data = file.read(limit_bytes)
            frames = _place(start, data)
            if not frames and len(data) == limit_bytes:
                # One frame larger than the limit: read it whole.
                frames = _place(start, data + file.read(MAX_FRAME_READ_BYTES))[:1]
        return frames

    def _segments(self, journal_id: str) -> list[int]:
        return sorted(int(path.stem) for path in (self._root / journal_id).glob("*.segment"))

    def _size(self, journal_id: str, segment: int) -> int:
        return self._path(journal_id, segment).stat().st_size

    def _path(self, journal_id: str, segment: int) -> Path:
        return self._root / journal_id / f"{segment:08}.segment"


def _place(start: Position, data: bytes) -> list[tuple[Position, Position, Frame]]:
    """Return the whole frames of `data`; a corrupt one raises only when it is the first."""
    placed: list[tuple[Position, Position, Frame]] = []
    try:
        for frame in decode_frames(data, start.offset):
            begin, end = Position(start.segment, frame.offset), Position(start.segment, frame.end)
            placed.append((begin, end, frame))
    except CorruptFrame:
        if not placed:
            raise
    return placed
