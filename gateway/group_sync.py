"""Syncs of a file, in groups: all who wait at one time share one. Knows no record.

The kernel does them, queued: no thread of ours competes for the event loop.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from caio import linux_aio
from caio.abstract import AbstractOperation


class SyncFailed(Exception):
    """A sync failed: what it covered may be lost, and no later sync would say so."""


class GroupSync:
    """The syncs of one file that is only ever appended to."""

    def __init__(self, file: Callable[[], int]) -> None:
        self._file = file
        """The descriptor, as it is when a sync begins; what came before it is on disk."""
        self._written = 0
        self._synced = 0
        self._is_syncing = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._kernel: linux_aio.Context | None = None
        self.error: SyncFailed | None = None
        """Set once and for ever."""

    def note_write(self) -> None:
        """Count a write that a later `wait` must cover."""
        self._written += 1

    async def wait(self) -> None:
        """Wait until all that was written so far is on disk; raises `SyncFailed`."""
        if self.error is not None:
            raise SyncFailed(*self.error.args)
        if self._synced >= self._written:
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((self._written, done))
        if not self._is_syncing:
            self._is_syncing = True
            loop.call_soon(self._request)
        await done

    def close(self) -> None:
        """Let go of the kernel's queue."""
        if self._kernel is not None:
            asyncio.get_running_loop().remove_reader(self._kernel.fileno)
            self._kernel = None

    def _request(self) -> None:
        """Ask the kernel for one sync on behalf of all who wait, at the end of a loop's turn."""
        covered = self._written
        sync = linux_aio.Operation.fdsync(self._file())
        sync.set_callback(lambda _: self._note(covered, _error_of(sync)))
        try:
            if self._kernel is None:
                self._kernel = linux_aio.Context(max_requests=1)
                loop = asyncio.get_running_loop()
                loop.add_reader(self._kernel.fileno, self._kernel_told, self._kernel)
            self._kernel.submit(sync)
        except (OSError, ValueError, RuntimeError, SystemError) as e:
            self._note(covered, e)

    def _kernel_told(self, kernel: linux_aio.Context) -> None:
        with suppress(BlockingIOError):
            kernel.poll()
        while kernel.process_events():
            pass

    def _note(self, covered: int, error: Exception | None) -> None:
        self._is_syncing = False
        if error is None:
            self._synced = max(self._synced, covered)
        elif self.error is None:
            self.error = SyncFailed(repr(error))
        waiting, self._waiting = self._waiting, []
        for target, done in waiting:
            if done.done():
                continue
            if self.error is not None:
                done.set_exception(SyncFailed(*self.error.args))
            elif target <= self._synced:
                done.set_result(None)
            else:
                self._waiting.append((target, done))
        if self._waiting:
            self._is_syncing = True
            self._request()


def _error_of(sync: AbstractOperation) -> Exception | None:
    """Return what went wrong with a sync that is over."""
    try:
        sync.get_value()
    except SystemError as e:  # as which the library raises what the disk said
        return e
    return None
