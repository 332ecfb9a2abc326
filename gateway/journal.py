"""The journal: append-only segments on local disk, written before what they describe is delivered.

Every process that emits records has a journal of its own, a folder `<id>/` with numbered segments
and a lock that is held as long as the process lives. A restarted process begins a new journal.
Frames are defined in `gateway.records`.
"""

import asyncio
import fcntl
import logging
import os
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.births import registered
from gateway.domain import Failure
from gateway.group_sync import GroupSync, SyncFailed
from gateway.records import Record, encode_frame
from gateway.unrecorded import UNAVAILABLE

SEGMENT_BYTES = 64 * 1024 * 1024
MAX_OWED = 10_000
"""Closings kept in memory while the disk takes none."""
SYNC_EVERY_S = 1.0
"""The longest that a relaxed record waits for the disk."""

_log = logging.getLogger(__name__)


def _unavailable(e: Exception) -> Failure:
    _log.error("journal_write_failed error=%r", e)
    return _below_floor()


def _below_floor() -> Failure:
    return Failure(UNAVAILABLE, "The exchange can't be recorded now, so it was not carried out.")


class Journal:
    """The journal of one process. `append` survives the process, `durable` survives the machine."""

    def __init__(
        self,
        root: Path,
        journal_id: str,
        now_ns: Callable[[], int],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        min_free_bytes: int = 0,
    ) -> None:
        self.journal_id = journal_id
        self._now_ns = now_ns
        self._folder = root / journal_id
        self._segment_bytes = segment_bytes
        self._min_free_bytes = min_free_bytes
        """The floor: what is free below it is the reserve, for what is owed; 0 means no floor."""
        self._room_bytes = SEGMENT_BYTES
        """Free above the floor, as last looked at, less what was written since."""
        self._segment = 0
        self._sequence = 0
        self._fd = -1
        self._lock_fd = -1
        self._segment_size = 0
        self._syncs = GroupSync(lambda: self._fd)
        self._broken: Exception | None = None
        self._owed: deque[Record] = deque(maxlen=MAX_OWED)

    def open(self) -> None:
        """Make the folder, take its lock and begin the first segment.

        All under a hidden name first: a reader must never see a journal whose lock is not held.

        Raises:
            OSError: the folder can't be written.
        """
        final = self._folder
        self._folder = final.with_name(f".{final.name}")
        self._folder.mkdir(mode=0o700, parents=True)
        try:
            self._lock_fd = os.open(self._folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin_segment()
            with registered(final.parent, self.journal_id, self._now_ns()) as birth:
                self.append(birth)
                os.fdatasync(self._fd)  # before its number is taken: no journal without a birth
            self._folder = self._folder.rename(final)
        except (OSError, Failure):
            shutil.rmtree(self._folder, ignore_errors=True)  # else each try would leave one
            raise
        _sync_folder(final.parent)
        self.measure_room()

    def measure_room(self) -> None:
        """Look at how much is free; asked about once a second, since each record is counted."""
        if not self._min_free_bytes:
            return
        try:
            disk = os.fstatvfs(self._fd)
            room_bytes = disk.f_bavail * disk.f_frsize - self._min_free_bytes
        except OSError as e:
            _log.error("journal_room_unknown journal=%s error=%r", self.journal_id, e)
            room_bytes = 0
        if (room_bytes > 0) != (self._room_bytes > 0):
            _log.warning(
                "journal_room journal=%s above_floor_bytes=%d", self.journal_id, room_bytes
            )
        self._room_bytes = room_bytes

    def append(self, *records: Record) -> None:
        """Write records; when this returns, a crash of the process can't lose them.

        Raises:
            Failure: `recording_unavailable`; nothing of the records will ever be read.
        """
        if self._owed:
            self.pay()  # first, since what is owed came first
        if self._owed or (self._min_free_bytes and self._room_bytes <= 0):
            raise _below_floor()
        self._append(records)

    def _append(self, records: Sequence[Record]) -> None:
        """Write records, into the reserve if need be."""
        self._require_whole()
        try:
            frames = b"".join(
                encode_frame(self._sequence + n, record) for n, record in enumerate(records)
            )
            if self._segment_size and self._segment_size + len(frames) > self._segment_bytes:
                self._begin_segment()
            self._write(frames)
        except (OSError, OverflowError, ValueError) as e:
            raise _unavailable(e) from e
        self._segment_size += len(frames)
        self._room_bytes -= len(frames)
        self._sequence += len(records)
        self._syncs.note_write()

    def owe(self, record: Record) -> None:
        """Write a record into the reserve; one that can't be written is kept until that works.

        What is still owed when the process ends, the recorder writes as `interrupted`.
        """
        self._owed.append(record)
        self.pay()

    def pay(self) -> None:
        """Write what is owed; what still can't be written stays owed."""
        while self._owed:
            try:
                self._append((self._owed[0],))
            except Failure:
                return
            self._owed.popleft()

    async def durable(self) -> None:
        """Wait until all that was appended so far is on disk; calls at one time share one sync.

        Raises:
            Failure: `recording_unavailable`, from now on for every record.
        """
        self._require_whole()
        try:
            await self._syncs.wait()
        except SyncFailed as e:
            raise _unavailable(e) from e

    def sync(self) -> None:
        """Wait for the disk, without an event loop; what it refuses stays for the next time."""
        try:
            os.fdatasync(self._fd)
        except OSError as e:
            _log.error("journal_sync_failed journal=%s error=%r", self.journal_id, e)

    def abandon(self) -> None:
        """Close the files and do nothing else.

        For a forked child: with its copies open, the lock would outlive the writer.
        """
        for fd in (self._fd, self._lock_fd):
            os.close(fd)
        self._fd = self._lock_fd = -1

    def close(self) -> None:
        """Write what is owed, sync what is left and give the lock back."""
        self.pay()
        self._broken = self._broken or OSError("the journal is closed")
        self._syncs.close()
        self.sync()
        self.abandon()

    @property
    def broken_by(self) -> Exception | None:
        """Why what was appended may not be what is on disk: nothing is taken any more."""
        return self._broken or self._syncs.error

    def _require_whole(self) -> None:
        if self.broken_by is not None:
            raise _unavailable(self.broken_by)

    def _begin_segment(self) -> None:
        """Begin the next segment; the finished one is synced whole first."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        path = self._folder / f"{self._segment + 1:08}.segment"
        fd = os.open(path, flags, 0o600)
        if self._fd >= 0:
            try:
                os.fdatasync(self._fd)
            except OSError as e:
                self._broken = e
                os.close(fd)
                path.unlink()
                raise
            os.close(self._fd)
        self._fd, self._segment, self._segment_size = fd, self._segment + 1, 0
        _sync_folder(self._folder)

    def _write(self, frames: bytes) -> None:
        """Write frames whole; what a failed write leaves is cut off again, else all is over."""
        try:
            written = os.write(self._fd, frames)
            while written < len(frames):
                written += os.write(self._fd, frames[written:])
        except OSError:
            try:
                os.ftruncate(self._fd, self._segment_size)
                os.lseek(self._fd, self._segment_size, os.SEEK_SET)
            except OSError as e:
                self._broken = e
            raise


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@asynccontextmanager
async def open_journal(
    root: Path, new_id: Callable[[], str], now_ns: Callable[[], int], *, min_free_bytes: int = 0
) -> AsyncIterator[Journal]:
    """Open a new journal under `root`; it is synced at least every `SYNC_EVERY_S`.

    A journal whose sync failed takes nothing any more: that ends the block with the `Failure`, so
    that the process is started again with a new one.
    """
    journal = Journal(root, new_id(), now_ns, min_free_bytes=min_free_bytes)
    journal.open()

    async def keep_syncing() -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY_S)
            journal.measure_room()
            journal.pay()
            await journal.durable()

    try:
        async with asyncio.TaskGroup() as tasks:
            syncing = tasks.create_task(keep_syncing())
            try:
                yield journal
            finally:
                syncing.cancel()
    finally:
        journal.close()
