"""The journal on a real disk: order, rotation, torn tails, locks and failing writes."""

import asyncio
import errno
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from support.disks import unwritable

from gateway.births import KIND, read_births
from gateway.children import fork
from gateway.domain import Failure
from gateway.journal import Journal, open_journal
from gateway.journal_folder import JournalFolder
from gateway.records import CorruptFrame, Event, Frame, Position

START = Position(0, 0)


def event(number: int, size: int = 0) -> Event:
    return Event(event_id=str(number), at_ns=number, kind="test", message="x" * size)


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with open_journal(tmp_path, lambda: "j1", lambda: 7) as opened:
        yield opened


def events_of(frames: Sequence[tuple[Position, Position, Frame]]) -> list[Event]:
    """Return the events in frames, but for the one that every journal begins with."""
    records = [frame.record for _, _, frame in frames if isinstance(frame.record, Event)]
    return [record for record in records if record.kind != KIND]


def read_all(root: Path, journal_id: str = "j1", limit: int = 4096) -> list[Event]:
    folder = JournalFolder(root)
    records: list[Event] = []
    position = START
    while True:
        frames, position = folder.read(journal_id, position, limit)
        if not frames:
            return records
        records += events_of(frames)


async def test_what_was_appended_is_read_back_in_order(journal: Journal, tmp_path: Path) -> None:
    written = [event(n) for n in range(50)]
    for record in written:
        journal.append(record)
    assert read_all(tmp_path) == written


async def test_a_frame_larger_than_the_limit_is_read_whole(
    journal: Journal, tmp_path: Path
) -> None:
    written = [event(1, size=100_000), event(2)]
    for record in written:
        journal.append(record)
    assert read_all(tmp_path, limit=1000) == written


async def test_reading_crosses_segments_and_discard_keeps_what_is_not_passed(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path, "j1", lambda: 7, segment_bytes=500)
    journal.open()
    written = [event(n) for n in range(20)]
    for record in written:
        journal.append(record)
    assert read_all(tmp_path) == written
    folder = JournalFolder(tmp_path)
    assert folder.unread_bytes("j1", START) > folder.unread_bytes("j1", Position(3, 0)) > 0
    folder.discard("j1", Position(3, 0))
    (first, _, frame), *_ = folder.read("j1", START, 4096)[0]
    assert (first, frame.sequence > 0) == (Position(3, 0), True)
    journal.close()


async def test_a_torn_tail_is_not_read(journal: Journal, tmp_path: Path) -> None:
    journal.append(event(1))
    journal.append(event(2))
    segment = tmp_path / "j1" / "00000001.segment"
    os.truncate(segment, segment.stat().st_size - 1)
    assert read_all(tmp_path) == [event(1)]


async def test_a_damaged_frame_is_never_read_as_data(journal: Journal, tmp_path: Path) -> None:
    for number in range(3):
        journal.append(event(number))
    segment = tmp_path / "j1" / "00000001.segment"
    damaged = bytearray(segment.read_bytes())
    damaged[-1] ^= 1
    segment.write_bytes(damaged)
    folder = JournalFolder(tmp_path)
    frames, position = folder.read("j1", START, 4096)
    assert events_of(frames) == [event(0), event(1)]
    with pytest.raises(CorruptFrame):
        folder.read("j1", position, 4096)


@pytest.mark.parametrize("number", [1, 2], ids=["more follow it", "it is the last"])
@pytest.mark.parametrize("at", range(12))
async def test_a_frame_with_a_damaged_length_or_number_is_no_torn_tail(
    journal: Journal, tmp_path: Path, number: int, at: int
) -> None:
    for each in range(3):
        journal.append(event(each))
    segment = tmp_path / "j1" / "00000001.segment"
    folder = JournalFolder(tmp_path)
    begin, _, _ = folder.read("j1", START, 4096)[0][1 + number]
    damaged = bytearray(segment.read_bytes())
    damaged[begin.offset + at] ^= 0x10
    segment.write_bytes(damaged)
    frames, position = folder.read("j1", START, 4096)
    assert events_of(frames) == [event(each) for each in range(number)]
    with pytest.raises(CorruptFrame):
        folder.read("j1", position, 4096)


@pytest.mark.parametrize("left", range(1, 40))
async def test_the_beginning_of_a_frame_is_a_torn_tail(
    journal: Journal, tmp_path: Path, left: int
) -> None:
    journal.append(event(1))
    segment = tmp_path / "j1" / "00000001.segment"
    whole = segment.stat().st_size
    journal.append(event(2))
    os.truncate(segment, whole + left)
    assert read_all(tmp_path) == [event(1)]


async def test_a_writer_is_dead_when_its_lock_is_free(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "j1", lambda: 7)
    journal.open()
    folder = JournalFolder(tmp_path)
    assert not folder.is_dead("j1")
    journal.close()
    assert folder.is_dead("j1")
    folder.discard_journal("j1")
    assert folder.journals() == []


async def test_a_failed_write_leaves_nothing_and_refuses(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write

    def write_half_then_fail(fd: int, data: bytes) -> int:
        if len(data) > 40:
            return real_write(fd, data[:40])
        raise OSError(errno.ENOSPC, "No space left on device")

    journal.append(event(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_half_then_fail)
        with pytest.raises(Failure, match="can't be recorded") as failure:
            journal.append(event(2, size=0))
    assert failure.value.code == "recording_unavailable"
    journal.append(event(3))
    assert read_all(tmp_path) == [event(1), event(3)]


async def test_after_a_failed_sync_nothing_is_accepted_any_more(
    journal: Journal, tmp_path: Path
) -> None:
    journal.append(event(1))
    cannot_sync = os.open("/dev/full", os.O_WRONLY)
    os.dup2(cannot_sync, fd_of(tmp_path / "j1" / "00000001.segment"))
    os.close(cannot_sync)
    with pytest.raises(Failure):
        await journal.durable()
    with pytest.raises(Failure):
        journal.append(event(2))


def fd_of(path: Path) -> int:
    """Return this process's file descriptor of an open file."""
    return next(int(fd.name) for fd in Path("/proc/self/fd").iterdir() if fd.resolve() == path)


async def test_one_sync_serves_all_who_wait(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    request_sync = journal._syncs._request

    def count() -> None:
        syncs.append(1)
        request_sync()

    monkeypatch.setattr(journal._syncs, "_request", count)

    async def one(number: int) -> None:
        journal.append(event(number))
        await journal.durable()

    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(one(number))
    assert len(syncs) == 1


async def test_a_folder_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Journal(tmp_path / "file", "j1", lambda: 7).open()


def test_a_journal_that_cannot_be_opened_leaves_nothing(tmp_path: Path) -> None:
    births = tmp_path / "births"
    births.mkdir()
    with pytest.raises(OSError, match="births"):
        Journal(tmp_path, "j1", lambda: 7).open()
    assert list(tmp_path.iterdir()) == [births]


async def test_journals_of_a_host_are_numbered_and_say_so_first(tmp_path: Path) -> None:
    for journal_id in ("j1", "j2", "j3"):
        async with open_journal(tmp_path, partial(str, journal_id), lambda: 7):
            pass
    folder = JournalFolder(tmp_path)
    firsts = [folder.read(journal, START, 4096)[0][0][2].record for journal in folder.journals()]
    assert firsts == [
        Event(
            event_id=f"{journal_id}/journal.began",
            at_ns=7,
            kind="journal.began",
            detail_json=json.dumps({"host": "j1", "number": number, "previous": previous}),
        )
        for number, journal_id, previous in ((1, "j1", None), (2, "j2", "j1"), (3, "j3", "j2"))
    ]


async def test_below_the_floor_only_what_is_owed_is_written(tmp_path: Path) -> None:
    more_than_there_is = shutil.disk_usage(tmp_path).total
    async with open_journal(
        tmp_path, lambda: "j1", lambda: 7, min_free_bytes=more_than_there_is
    ) as journal:
        with pytest.raises(Failure) as failure:
            journal.append(event(1))
        assert failure.value.code == "recording_unavailable"
        journal.owe(event(2))
        assert read_all(tmp_path) == [event(2)]


async def test_the_floor_counts_what_was_written_since_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = os.statvfs(tmp_path)
    room_bytes = 1000
    floor = free.f_bavail * free.f_frsize - room_bytes
    monkeypatch.setattr(os, "fstatvfs", lambda _: free)
    journal = Journal(tmp_path, "j1", lambda: 7, min_free_bytes=floor)
    journal.open()
    journal.append(event(1, size=room_bytes))
    with pytest.raises(Failure):
        journal.append(event(2))
    journal.measure_room()
    journal.append(event(3))
    assert [record.event_id for record in read_all(tmp_path)] == ["1", "3"]
    journal.close()


async def test_what_is_owed_is_written_before_what_comes_after_it(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        journal.owe(event(1))
        with pytest.raises(Failure):
            journal.append(event(2))
    journal.append(event(3))
    assert read_all(tmp_path) == [event(1), event(3)]


async def test_a_journal_that_cannot_sync_ends_its_process(tmp_path: Path) -> None:
    with pytest.RaisesGroup(Failure):
        async with open_journal(tmp_path, lambda: "j1", lambda: 7) as journal:
            cannot_sync = os.open("/dev/full", os.O_WRONLY)
            os.dup2(cannot_sync, fd_of(tmp_path / "j1" / "00000001.segment"))
            os.close(cannot_sync)
            journal._syncs.note_write()
            await asyncio.sleep(30)


def _live_on(ready: Callable[[], None]) -> None:
    ready()
    time.sleep(60)


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "j1", lambda: 7)
    journal.open()
    life = fork(_live_on, (), tmp_path / "log", journal.abandon)
    assert life.ready is not None
    assert life.ready.recv() == ""
    folder = JournalFolder(tmp_path)
    assert not folder.is_dead("j1")
    journal.close()
    assert folder.is_dead("j1")
    life.process.kill()


@pytest.mark.parametrize("damage", ["a flipped bit", "a length that is too long", "a lost tail"])
def test_a_segment_damaged_in_the_middle_is_named_and_nothing_after_it_is_read(
    tmp_path: Path, damage: str
) -> None:
    journal = Journal(tmp_path, "j1", lambda: 7, segment_bytes=500)
    journal.open()
    for number in range(20):
        journal.append(event(number))
    journal.close()
    segment = tmp_path / "j1" / "00000002.segment"
    data = bytearray(segment.read_bytes())
    match damage:
        case "a flipped bit":
            data[30] ^= 1
        case "a length that is too long":
            data[1] = 0xFF
        case _:
            del data[-1:]
    segment.write_bytes(data)
    folder = JournalFolder(tmp_path)
    position = START
    read: list[Event] = []
    with pytest.raises(CorruptFrame):
        while True:
            frames, position = folder.read("j1", position, 4096)
            read += events_of(frames)
    assert read == [event(number) for number in range(len(read))]
    assert position.segment in {1, 2}
    assert folder.unread_bytes("j1", position) > 0


def test_a_folder_that_became_read_only_refuses_until_it_is_writable_again(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path, "j1", lambda: 7, segment_bytes=400)
    journal.open()
    journal.append(event(1, size=350))
    with unwritable(tmp_path / "j1"):
        for _ in range(2):
            with pytest.raises(Failure):
                journal.append(event(2))
        with pytest.raises(OSError, match="not permitted"), unwritable(tmp_path):
            Journal(tmp_path, "j2", lambda: 7).open()
    journal.append(event(3))
    journal.close()
    assert read_all(tmp_path) == [event(1, size=350), event(3)]


async def test_a_number_that_nobody_saw_is_given_again(tmp_path: Path) -> None:
    async with open_journal(tmp_path, partial(str, "j1"), lambda: 7):
        pass
    (tmp_path / ".j2").mkdir()
    (tmp_path / ".j2" / "lock").touch()
    with (tmp_path / "births").open("a") as births:
        births.write("2 j2\n")
    async with open_journal(tmp_path, partial(str, "j3"), lambda: 7):
        pass
    with (tmp_path / "births").open("a") as births:
        births.write("3 j")
    async with open_journal(tmp_path, partial(str, "j4"), lambda: 7):
        pass
    assert [(b.number, b.journal_id) for b in read_births(tmp_path)] == [
        (1, "j1"),
        (2, "j3"),
        (3, "j4"),
    ]
