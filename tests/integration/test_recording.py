"""The recorder over real journals and tables: damage, clocks, a second recorder, slow writers."""

import errno
import fcntl
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from evasions.calls import encode, fetch_records, prompt, request, send, token_for
from support.deployment import running
from support.records import START_NS, opening

from gateway.config import Settings
from gateway.domain import Failure
from gateway.journal import Journal
from gateway.journal_folder import JournalFolder
from gateway.recording import record_for_ever
from gateway.records import Event
from lake.catalog import Lake, open_lake
from lake.recorder import Recorder
from lake.recorder_state import RecorderSettings
from lake.signing import Signer
from lake.witness import Witnesses

SECOND = 10**9
STOPPED_S = 4.0
"""Much longer than the recorder takes to look at every journal."""


class NoTexts:
    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        return ""

    def response_text(self, content_type: str, body: bytes) -> str:
        return ""


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_lake(f"sqlite:///{tmp_path}/catalog.db", tmp_path / "warehouse")
    yield opened
    opened.close()


def write_events(journal: Journal, count: int) -> list[str]:
    """Write events named after their journal; returns their ids."""
    names = [f"{journal.journal_id}/{number:02}" for number in range(count)]
    for name in names:
        journal.append(Event(event_id=name, at_ns=SECOND, kind="test"))
    return names


def open_new(root: Path, journal_id: str) -> Journal:
    journal = Journal(root, journal_id, lambda: SECOND, segment_bytes=500)
    journal.open()
    return journal


def recorder(lake: Lake, root: Path, own: Journal) -> Recorder:
    signer = Signer(root.with_name("keys"))
    settings = RecorderSettings(commit_every_s=5.0)
    return Recorder(lake, JournalFolder(root), own, NoTexts(), signer, Witnesses([]), settings)


def committed(lake: Lake) -> list[str]:
    found = lake.load("events").scan("kind = 'test'", selected_fields=("event_id",)).to_arrow()
    return sorted(map(str, found.column(0).to_pylist()))


def test_a_journal_damaged_in_the_middle_is_named_and_the_others_go_on(
    tmp_path: Path, lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "journal"
    bad, good, own = (open_new(root, name) for name in ("bad", "good", "own"))
    in_bad, in_good = write_events(bad, 30), write_events(good, 30)
    bad.close()
    segments = sorted((root / "bad").glob("*.segment"))
    damaged = segments[len(segments) // 2]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    recorders = [recorder(lake, root, own) for _ in range(2)]  # as if the first had died
    for subject in recorders:
        for number in range(40):
            subject.step(number * SECOND, flush=True)
        assert subject.state.corrupt_journals == ("bad",)
        rows = committed(lake)
        of_bad = [row for row in rows if row.startswith("bad/")]
        assert [row for row in rows if row.startswith("good/")] == in_good
        assert of_bad == in_bad[: len(of_bad)]
        assert 0 < len(of_bad) < len(in_bad)
    assert caplog.text.count("journal_corrupt journal=bad") == 2
    kept = sorted((root / "bad").glob("*.segment"))
    assert kept == segments[segments.index(damaged) :]
    in_good += write_events(good, 1)
    recorders[-1].step(100 * SECOND, flush=True)
    assert len([row for row in committed(lake) if row.startswith("good/")]) == len(in_good)


@pytest.mark.parametrize("back_s", [3, 3600])
def test_a_clock_set_back_stops_no_commit(tmp_path: Path, lake: Lake, back_s: int) -> None:
    root = tmp_path / "journal"
    writer, own = open_new(root, "writer"), open_new(root, "own")
    subject = recorder(lake, root, own)
    now_s = 10_000
    written = write_events(writer, 3)
    subject.step(now_s * SECOND)
    assert committed(lake) == []
    for passed_s in range(10):
        subject.step((now_s - back_s + passed_s) * SECOND)
    assert committed(lake) == written
    assert subject.state.failures == 0


def test_a_second_recorder_says_in_one_line_why_it_ends(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path, demo=True)
    settings.journal_folder.mkdir()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with (settings.journal_folder / "recorder.lock").open("wb") as first:
            fcntl.flock(first, fcntl.LOCK_EX)
            with pytest.raises(Failure) as failure:
                record_for_ever(settings, lambda: None, str, time.time_ns)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert str(failure.value) == (
        f"another recorder commits the journals in {tmp_path}/journal: one is enough"
    )


def test_a_recorder_whose_own_journal_broke_ends_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(folder=tmp_path, demo=True)
    settings.journal_folder.mkdir()
    lost = open_new(settings.journal_folder, "lost")
    lost.append(opening("x1"))
    lost.close()
    names, ticks = iter(("recorder-1", "recorder-2")), iter(range(START_NS, START_NS * 2, SECOND))

    def now_ns() -> int:
        """Every step asks; the second life ends when the row must be there."""
        now = next(ticks)
        if now == START_NS + 16 * SECOND:
            signal.raise_signal(signal.SIGTERM)
        return now

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    def break_disk() -> None:
        monkeypatch.setattr("gateway.journal.os.write", refuse)
        monkeypatch.setattr("gateway.journal.os.ftruncate", refuse)

    def live(ready: Callable[[], None]) -> None:
        record_for_ever(settings, ready, lambda _: next(names), now_ns)

    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("gateway.recording.spare_the_collector", lambda: None)
    try:
        with pytest.raises(Failure, match="journal recorder-1 can't be written any more"):
            live(break_disk)
        monkeypatch.undo()
        monkeypatch.setattr("gateway.recording.spare_the_collector", lambda: None)
        live(lambda: None)
    finally:
        signal.signal(signal.SIGTERM, handler)
    with closing(open_lake(settings.catalog_url, Path(settings.warehouse))) as lake:
        fields = ("exchange_id", "ending", "journal_id")
        rows = lake.load("exchanges").scan(selected_fields=fields).to_arrow().to_pylist()
    assert rows == [{"exchange_id": "x1", "ending": "interrupted", "journal_id": "recorder-2"}]


def test_a_worker_that_is_slow_and_not_dead_ends_its_exchanges_itself(tmp_path: Path) -> None:
    one_worker = {"COUNTERSIGN_PROXY__WORKERS": "1"}
    with running(tmp_path / "var", environment=one_worker) as deployment:
        worker = psutil.Process(deployment.processes["proxy-1"].pid)

        def stand_still() -> None:
            worker.suspend()
            threading.Timer(STOPPED_S, worker.resume).start()

        body = encode(prompt("[[demo length=100 pace=40]]", stream=True))
        call = request(body, token=token_for(deployment), agent="slow/one")
        began = time.monotonic()
        reply = send(deployment, call, soon=stand_still)
        took_s = time.monotonic() - began
        records = fetch_records(deployment, ["slow/one"], "ending", "released_bytes")
        interrupted = deployment.sql("select 1 from exchanges where ending = 'interrupted'")
        restarts = {process.restarts for process in deployment.processes.values()}
    assert (reply.is_whole, b"message_stop" in reply.raw, took_s > STOPPED_S) == (True, True, True)
    assert records == {"slow/one": {"ending": "delivered", "released_bytes": len(reply.body)}}
    assert (interrupted, restarts) == ([], {0})
