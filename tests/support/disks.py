"""Real disks that are full or can't be written; skips a test where we may not make such."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[None]:
    """Mount a file system of its own at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """Let nothing be made in a folder, by root neither, which mode bits would not stop."""
    _run("chattr", "+i", str(folder))
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


@contextmanager
def filled(folder: Path, *, but_bytes: int) -> Iterator[None]:
    """Fill a file system but for some bytes, and empty it again."""
    filler = folder / ".filler"
    with filler.open("wb") as file:
        while not _fill(file.fileno(), but_bytes):
            pass
    try:
        yield
    finally:
        filler.unlink()


def _fill(fd: int, but_bytes: int) -> bool:
    """Give a file what is free; says whether another was not faster."""
    disk = os.fstatvfs(fd)
    try:
        os.posix_fallocate(fd, 0, disk.f_bavail * disk.f_frsize - but_bytes)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        return False
    return True


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as e:
        pytest.skip(f"{command[0]} is not there: {e}")
    if done.returncode != 0:
        pytest.skip(f"{command[0]} is not permitted here: {done.stderr.strip()}")
