"""The catalog is away for a while: nothing lost, memory bounded, all of it seen meanwhile."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hot import serving
from support.records import Texts, answered, chunk, closing, opening, stream

from gateway.console.recorders import RecorderClient
from gateway.journal import Journal
from gateway.journal_folder import JournalFolder
from gateway.serving import listen
from lake.catalog import Lake, open_lake
from lake.hot import HotIndex
from lake.hot_read import HotReader
from lake.read import LakeReader
from lake.recorder import Recorder
from lake.recorder_state import RecorderSettings
from lake.shown import Owner
from lake.signing import Signer
from lake.witness import Witnesses

BATCH_BYTES = 100_000
READ_BYTES = 50_000
ADA = Owner("https://id", "ada")


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_lake(f"sqlite:///{tmp_path}/catalog.db?timeout=0.2", tmp_path / "warehouse")
    yield opened
    opened.close()


class Host:
    """A recorder that runs, its hot index, and a writer."""

    def __init__(self, root: Path, lake: Lake) -> None:
        folder = root / "journal"
        self.writer, own = (Journal(folder, name, time.time_ns) for name in ("proxy", "recorder"))
        self.writer.open()
        own.open()
        bounds = RecorderSettings(
            commit_every_s=0.2,
            batch_bytes=BATCH_BYTES,
            read_bytes=READ_BYTES,
            poll_s=0.01,
            longest_back_off_s=0.1,
        )
        reader = JournalFolder(folder)
        self.recorder = Recorder(
            lake, reader, own, Texts(), Signer(root / "keys"), Witnesses([]), bounds
        )
        self.stop = threading.Event()
        self.thread = threading.Thread(
            target=self.recorder.run, args=(self.stop, time.time_ns), daemon=True
        )
        self.most_waiting_bytes = 0
        self.listener = listen("127.0.0.1", 0)
        self.client = RecorderClient(f"http://127.0.0.1:{self.listener.getsockname()[1]}", "token")
        self.file, self.journals = root / "hot" / "index.db", reader

    def open_index(self) -> HotIndex:
        return HotIndex(self.file, self.journals, Texts(), self.recorder.committed)

    def running(self) -> Iterator["Host"]:
        self.thread.start()
        with serving(self.open_index, self.listener, "token", lambda: self.recorder.state):
            yield self
            self.stop.set()
            self.thread.join()
        self.listener.close()

    def hot_ids(self) -> list[str]:
        return sorted(str(row["exchange_id"]) for row in self.client.page("", 0).rows)

    def watch(self) -> None:
        waiting = self.recorder.state.waiting_bytes
        self.most_waiting_bytes = max(self.most_waiting_bytes, waiting)

    def write(self, name: str) -> None:
        body = chunk(name, b"x" * 8_000)
        self.writer.append(opening(name), answered(name), body, closing(name))
        self.watch()


@pytest.fixture
def host(tmp_path: Path, lake: Lake) -> Iterator[Host]:
    yield from Host(tmp_path, lake).running()


def test_a_locked_catalog_loses_nothing_and_what_is_not_committed_is_seen_meanwhile(
    tmp_path: Path, lake: Lake, host: Host
) -> None:
    reader = LakeReader(
        lake, HotReader([host.client], lake.arrow_schema("exchanges"), time.monotonic)
    )
    host.write("before")
    until = time.monotonic() + 20
    while lake.load("exchanges").current_snapshot() is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert [e.exchange_id for e in reader.exchanges(ADA, "before")] == ["before"]

    locked = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    names = [f"x{number:03}" for number in range(40)]
    for name in names:
        host.write(name)
    host.writer.append(*stream("running"))
    until = time.monotonic() + 20
    while host.recorder.state.failures < 3:
        assert time.monotonic() < until
        host.watch()
        time.sleep(0.01)
    until = time.monotonic() + 5
    while "running" not in host.hot_ids():
        assert time.monotonic() < until
        time.sleep(0.05)
    shown = {session.session_id: session.endings for session in reader.sessions(ADA, limit=500)}
    expected = {name: {"delivered": 1} for name in ("before", *names)}
    assert shown == {**expected, "running": {"running": 1}}
    assert reader.incomplete == ("catalog",)
    hot = reader.exchange("x020")
    assert hot is not None
    assert hot.response_body == b"x" * 8_000
    assert host.most_waiting_bytes <= BATCH_BYTES + READ_BYTES

    locked.execute("ROLLBACK")
    locked.close()
    until = time.monotonic() + 30
    while len(host.hot_ids()) > 1:
        assert time.monotonic() < until
        host.watch()
        time.sleep(0.05)
    assert host.most_waiting_bytes <= BATCH_BYTES + READ_BYTES
    ids = lake.load("exchanges").scan(selected_fields=("exchange_id",)).to_arrow()
    assert sorted(map(str, ids["exchange_id"].to_pylist())) == sorted(["before", *names])
    assert host.hot_ids() == ["running"]
    reader.close()
