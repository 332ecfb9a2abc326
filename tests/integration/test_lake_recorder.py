"""The recorder over list-backed journals: against tables in memory, and against real Iceberg."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event as StopEvent
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from support import records

from gateway.domain import Content, Ending, ExchangeId
from gateway.records import (
    Answered,
    Chunk,
    Closing,
    CorruptFrame,
    Event,
    Frame,
    Opening,
    Position,
    Record,
)
from lake.catalog import Lake, open_lake
from lake.recorder import CursorMovedError, Recorder
from lake.recorder_state import RecorderSettings, StepResult
from lake.witness import Witnesses

SECOND = 10**9
FRAME_BYTES = 100
FRAMES_PER_SEGMENT = 3


class ListJournals:
    """Journals as lists of frames, and the recorder's own among them."""

    def __init__(self) -> None:
        self.frames: dict[str, list[tuple[Position, Position, Frame]]] = {}
        self.next_sequence: Counter[str] = Counter()
        self.dead: set[str] = set()
        self.corrupt: set[str] = set()
        self.own = "recorder-0"
        self.fail_append = False
        self.hidden: set[str] = set()
        self.is_discarding = True

    def add(self, journal: str, record: Record) -> None:
        sequence = self.next_sequence[journal]
        self.next_sequence[journal] += 1
        segment, index = divmod(sequence, FRAMES_PER_SEGMENT)
        offset = index * FRAME_BYTES
        frame = Frame(sequence=sequence, offset=offset, end=offset + FRAME_BYTES, record=record)
        place = (Position(segment, offset), Position(segment, offset + FRAME_BYTES), frame)
        self.frames.setdefault(journal, []).append(place)

    def append(self, record: Closing | Event) -> None:
        self.add(self.own, record)
        if self.fail_append:
            self.fail_append = False
            raise OSError("the disk is full")

    def restart_recorder(self) -> None:
        self.dead.add(self.own)
        self.own = f"recorder-{int(self.own.split('-')[1]) + 1}"

    def journals(self) -> Sequence[str]:
        return sorted(self.frames.keys() - self.hidden)

    def gone(self) -> Sequence[str]:
        return sorted(self.next_sequence.keys() - self.frames.keys())

    def read(
        self, journal_id: str, start: Position, limit_bytes: int
    ) -> tuple[Sequence[tuple[Position, Position, Frame]], Position]:
        if journal_id in self.corrupt:
            raise CorruptFrame(start.offset, "checksum mismatch")
        after = [each for each in self.frames[journal_id] if each[0] >= start]
        read = after[: max(1, limit_bytes // FRAME_BYTES)]
        return read, read[-1][1] if read else start

    def unread_bytes(self, journal_id: str, start: Position) -> int:
        return FRAME_BYTES * sum(each[0] >= start for each in self.frames[journal_id])

    def is_dead(self, journal_id: str) -> bool:
        return journal_id in self.dead

    def discard(self, journal_id: str, before: Position) -> None:
        kept = [e for e in self.frames[journal_id] if e[0].segment >= before.segment]
        self.frames[journal_id] = kept

    def discard_journal(self, journal_id: str) -> None:
        assert journal_id in self.dead
        if self.is_discarding:
            del self.frames[journal_id]


class PlainTexts:
    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        return b"".join(pieces).decode()

    def response_text(self, content_type: str, body: bytes) -> str:
        return body.decode()


class PlainSigner:
    def sign(self, root: str) -> tuple[str, bytes]:
        return "key", root.encode()


class FaultError(Exception):
    pass


class MemoryLake(Lake):
    """Tables in memory; the n-th commit from now fails, before or after it took effect."""

    def __init__(self) -> None:
        super().__init__(cast("object", None), Path())  # type: ignore[arg-type]  # no catalog
        self.ids: dict[str, list[str]] = {
            "contents": [],
            "events": [],
            "exchanges": [],
            "proofs": [],
        }
        self.properties: dict[str, dict[str, str]] = {name: {} for name in self.ids}
        self.sizes: dict[str, int] = {}
        """Of pieces, by their ids."""
        self.fault: tuple[int, str] | None = None

    def load(self, name: str) -> Table:
        table = SimpleNamespace(name=name, properties=dict(self.properties[name]), snapshots=list)
        return cast("Table", table)

    def commit(self, table: Table, rows: pa.Table | None, properties: Mapping[str, str]) -> None:
        fails = self._count_down()
        if fails == "before":
            raise FaultError
        name = str(table.name)
        if rows is not None:
            self.ids[name] += map(str, rows.column(rows.schema.names[0]).to_pylist())
            if name == "contents":
                self.sizes |= {row["piece_id"]: row["size"] for row in rows.to_pylist()}
        self.properties[name] |= properties
        if fails == "after":
            raise FaultError

    def forget(self, table: Table, properties: Iterable[str]) -> None:
        for name in properties:
            del self.properties[str(table.name)][name]

    def _count_down(self) -> str:
        if self.fault is None:
            return ""
        left, when = self.fault
        self.fault = (left - 1, when) if left else None
        return when if not left else ""


class FaultyLake(Lake):
    """Real tables of which one commit fails, before or after it took effect."""

    def __init__(self, lake: Lake, table: str, when: str) -> None:
        self.__dict__.update(lake.__dict__)
        self.fault: tuple[str, str] | None = (table, when)

    def commit(self, table: Table, rows: pa.Table | None, properties: Mapping[str, str]) -> None:
        when = ""
        if self.fault and table.name()[-1] == self.fault[0]:
            when, self.fault = self.fault[1], None
        if when == "before":
            raise CommitFailedException("another was faster")
        super().commit(table, rows, properties)
        if when == "after":
            raise ConnectionError("the answer was lost")


def opening(exchange_id: str, at_ns: int = SECOND, content: Content = "full") -> Opening:
    return records.opening(exchange_id, content, at_ns=at_ns, parts=(b"hello",))


def closing(exchange_id: str, at_ns: int = 2 * SECOND) -> Closing:
    return Closing(
        exchange_id=ExchangeId(exchange_id), at_ns=at_ns, ending=Ending.DELIVERED, status=200
    )


def chunk(exchange_id: str) -> Chunk:
    return Chunk(exchange_id=ExchangeId(exchange_id), at_ns=SECOND + 5, data=b"hi", size=2)


def event(event_id: str) -> Event:
    return Event(event_id=event_id, at_ns=SECOND, kind="records.read")


def exchange(exchange_id: str) -> list[Record]:
    answered = Answered(
        exchange_id=ExchangeId(exchange_id),
        at_ns=SECOND + 1,
        status=200,
        headers={"Content-Type": "text/event-stream"},
        upstream_request_id="req_1",
    )
    return [opening(exchange_id), answered, chunk(exchange_id), closing(exchange_id)]


def recorder(lake: Lake, journals: ListJournals, **bounds: float) -> Recorder:
    chosen = RecorderSettings(
        commit_every_s=bounds.get("commit_every_s", 5.0),
        read_bytes=int(bounds.get("read_bytes", 10**6)),
        most_snapshots=int(bounds.get("most_snapshots", 40)),
        kept_snapshots=int(bounds.get("kept_snapshots", 20)),
        kept_cursors=int(bounds.get("kept_cursors", 100)),
        poll_s=0.001,
        longest_back_off_s=0.002,
    )
    return Recorder(lake, journals, journals, PlainTexts(), PlainSigner(), Witnesses([]), chosen)


def drain(subject: Recorder, now_ns: int = 100 * SECOND) -> None:
    """Step until a few steps in a row found nothing to do."""
    quiet = 0
    while quiet < 3:
        result = subject.step(now_ns, flush=True)
        quiet = quiet + 1 if result == StepResult(0, 0, 0, 0) else 0


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_lake(f"sqlite:///{tmp_path}/catalog.db", tmp_path / "warehouse")
    yield opened
    opened.close()


def ids(lake: Lake, table: str) -> list[str]:
    column = {"exchanges": "exchange_id", "contents": "piece_id", "events": "event_id"}[table]
    found = lake.load(table).scan(selected_fields=(column,)).to_arrow().column(0).to_pylist()
    return sorted(map(str, found))


# --- against real Iceberg -----------------------------------------------------------------------


@pytest.mark.parametrize("table", ["contents", "events", "exchanges"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_failed_commit_of_any_table_loses_and_doubles_nothing(
    lake: Lake, table: str, when: str, is_restarted: bool
) -> None:
    journals = ListJournals()
    for record in [*exchange("a"), event("e"), *exchange("b"), opening("c")]:
        journals.add("proxy", record)
    subject = recorder(FaultyLake(lake, table, when), journals)
    with pytest.raises((CommitFailedException, ConnectionError)):
        subject.step(SECOND, flush=True)
    journals.add("proxy", closing("c"))
    drain(recorder(lake, journals) if is_restarted else subject)
    assert ids(lake, "exchanges") == ["a", "b", "c"]
    assert ids(lake, "events") == ["e"]
    assert ids(lake, "contents") == [
        "a.request.0",
        "a.response.0",
        "b.request.0",
        "b.response.0",
        "c.request.0",
    ]


def test_a_dead_writers_exchange_becomes_an_interrupted_row(lake: Lake) -> None:
    journals = ListJournals()
    for record in exchange("a")[:-1]:
        journals.add("proxy", record)
    journals.dead.add("proxy")
    drain(recorder(lake, journals), 9 * SECOND)
    fields = ("exchange_id", "ending", "status", "released_bytes", "journal_id", "response_text")
    rows = lake.load("exchanges").scan(selected_fields=fields).to_arrow().to_pylist()
    assert rows == [
        {
            "exchange_id": "a",
            "ending": "interrupted",
            "status": 200,
            "released_bytes": 2,
            "journal_id": "recorder-0",
            "response_text": "hi",
        }
    ]
    assert journals.journals() == ["recorder-0"]


def test_snapshots_stay_few_and_cursors_survive_their_expiry(lake: Lake) -> None:
    journals = ListJournals()
    for number in range(5):
        journals.add("proxy", opening(f"x{number}", content="metadata"))
        journals.add("proxy", closing(f"x{number}"))
        drain(recorder(lake, journals, most_snapshots=3, kept_snapshots=2))
    assert len(lake.load("exchanges").snapshots()) == 3
    assert lake.load("contents").snapshots() == []
    assert ids(lake, "exchanges") == ["x0", "x1", "x2", "x3", "x4"]


def test_nothing_is_committed_while_nothing_has_ended(lake: Lake) -> None:
    journals = ListJournals()
    journals.add("proxy", opening("a"))
    drain(recorder(lake, journals))
    assert lake.load("exchanges").snapshots() == []
    assert "countersign.cursor.proxy" not in lake.load("exchanges").properties


def test_another_host_commits_to_the_same_tables(lake: Lake) -> None:
    here, there = ListJournals(), ListJournals()
    there.own = "recorder-9"
    ours, theirs = recorder(lake, here), recorder(lake, there)
    for number in range(3):
        for record in exchange(f"a{number}"):
            here.add("proxy-1", record)
        for record in exchange(f"b{number}"):
            there.add("proxy-2", record)
        ours.step(SECOND, flush=True)
        theirs.step(SECOND, flush=True)
    assert ids(lake, "exchanges") == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_a_second_recorder_of_the_same_journals_is_noticed(lake: Lake) -> None:
    journals = ListJournals()
    first, second = recorder(lake, journals), recorder(lake, journals)
    for record in exchange("a"):
        journals.add("proxy", record)
    first.step(SECOND)
    second.step(SECOND, flush=True)
    with pytest.raises(CursorMovedError):
        first.step(SECOND, flush=True)
    drain(first)
    assert ids(lake, "exchanges") == ["a"]


# --- against tables in memory -------------------------------------------------------------------


def test_a_segment_goes_only_when_every_table_is_past_it() -> None:
    journals, lake = ListJournals(), MemoryLake()
    for record in [opening("long"), *exchange("a"), *exchange("b")]:
        journals.add("proxy", record)
    subject = recorder(lake, journals)
    lake.fault = (1, "before")
    with pytest.raises(FaultError):
        subject.step(SECOND, flush=True)
    assert len(journals.frames["proxy"]) == 9
    drain(subject)
    assert len(journals.frames["proxy"]) == 9, "the oldest opening is still open"
    journals.add("proxy", closing("long"))
    drain(subject)
    assert [each[2].sequence for each in journals.frames["proxy"]] == [9]


def test_a_batch_waits_for_its_time() -> None:
    journals, lake = ListJournals(), MemoryLake()
    for record in exchange("a"):
        journals.add("proxy", record)
    subject = recorder(lake, journals, commit_every_s=5.0)
    waited = [subject.step(at * SECOND).committed_rows for at in (10, 14, 15, 16)]
    assert waited == [0, 0, 3, 0]


def test_a_closing_whose_append_failed_is_written_again_but_counts_once() -> None:
    journals, lake = ListJournals(), MemoryLake()
    journals.add("proxy", opening("a"))
    journals.dead.add("proxy")
    journals.fail_append = True
    subject = recorder(lake, journals)
    subject.step(SECOND)
    assert subject.step(SECOND).interrupted == 0
    drain(subject)
    assert lake.ids["exchanges"] == ["a"]


def test_a_corrupt_journal_is_left_alone_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    journals, lake = ListJournals(), MemoryLake()
    journals.add("good", opening("a"))
    journals.add("good", closing("a"))
    journals.add("bad", opening("b"))
    journals.corrupt.add("bad")
    journals.dead |= {"good", "bad"}
    subject = recorder(lake, journals)
    drain(subject)
    assert lake.ids["exchanges"] == ["a"]
    assert journals.journals() == ["bad", journals.own]
    assert subject.state.corrupt_journals == ("bad",)
    assert caplog.text.count("journal_corrupt journal=bad") == 1


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_a_dead_writers_damaged_journal_still_holds_becomes_interrupted_rows(
    lake: Lake, is_restarted: bool
) -> None:
    journals = ListJournals()
    for record in [*exchange("a"), *exchange("b")[:-1]]:
        journals.add("proxy", record)
    subject = recorder(lake, journals)
    subject.step(SECOND)
    journals.corrupt.add("proxy")
    subject.step(SECOND)
    assert subject.step(SECOND).interrupted == 0, "its writer may still write"
    journals.dead.add("proxy")
    drain(subject, 9 * SECOND)
    if is_restarted:
        drain(recorder(lake, journals), 9 * SECOND)
    fields = ("exchange_id", "ending", "status", "error_code", "response_text")
    rows = lake.load("exchanges").scan("exchange_id = 'b'", selected_fields=fields).to_arrow()
    assert rows.to_pylist() == [
        {
            "exchange_id": "b",
            "ending": "interrupted",
            "status": 200,
            "error_code": "gateway.journal_damaged",
            "response_text": "hi",
        }
    ]
    assert ids(lake, "exchanges") == ["a", "b"]
    assert "proxy" in journals.journals(), "what can't be read is kept"
    notes = lake.load("events").scan(selected_fields=("kind", "detail_json")).to_arrow()
    noted = {"journal_id": "proxy", "segment": 2, "offset": 100, "next_sequence": 7}
    assert [(row["kind"], json.loads(row["detail_json"])) for row in notes.to_pylist()] == [
        ("journal.damaged", noted)
    ] * (2 if is_restarted else 1)


def test_that_a_journal_is_damaged_is_noted_once_there_is_room() -> None:
    journals, lake = ListJournals(), MemoryLake()
    journals.add("bad", opening("b"))
    journals.corrupt.add("bad")
    journals.fail_append = True
    subject = recorder(lake, journals)
    for _ in range(3):
        subject.step(SECOND)
    noted = [f.record for _, _, f in journals.frames["recorder-0"]]
    assert [r.kind for r in noted if isinstance(r, Event)] == ["journal.damaged"] * 2


def test_the_loop_outlives_failures_and_commits_at_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    journals, lake, stop = ListJournals(), MemoryLake(), StopEvent()
    for record in exchange("a"):
        journals.add("proxy", record)
    lake.fault = (0, "after")
    ticks = iter(range(10, 1000, 10))

    def now_ns() -> int:
        tick = next(ticks)
        if tick == 60:
            stop.set()
        return tick * SECOND

    subject = recorder(lake, journals)
    subject.run(stop, now_ns)
    assert lake.ids["exchanges"] == ["a"]
    assert "step_failed failures=1" in caplog.text
    assert subject.state.failures == 0
    assert subject.state.last_commit_ns is not None


@pytest.mark.parametrize("is_restarted", [False, True])
def test_an_interrupted_exchange_half_committed_is_completed(is_restarted: bool) -> None:
    journals, lake = ListJournals(), MemoryLake()
    journals.add("w", opening("a"))
    journals.dead.add("w")
    subject = recorder(lake, journals)
    subject.step(SECOND)
    assert subject.step(SECOND).interrupted == 1
    lake.fault = (1, "before")
    with pytest.raises(FaultError):
        subject.step(SECOND, flush=True)
    if is_restarted:
        journals.restart_recorder()
        subject = recorder(lake, journals)
    drain(subject)
    assert lake.ids["contents"] == ["a.request.0"]
    assert lake.ids["exchanges"] == ["a"]
    assert max(lake.ids["proofs"]) == "w"


def test_a_table_that_is_ahead_stays_ahead() -> None:
    journals, lake = ListJournals(), MemoryLake()
    for record in exchange("a"):
        journals.add("w0", record)
    lake.fault = (1, "before")
    with pytest.raises(FaultError):
        recorder(lake, journals).step(SECOND, flush=True)
    journals.add("w1", opening("b"))
    journals.add("w1", closing("b"))
    slow = recorder(lake, journals, read_bytes=FRAME_BYTES)
    slow.step(SECOND, flush=True)
    assert slow.step(SECOND, flush=True).committed_rows == 2
    drain(recorder(lake, journals))
    assert sorted(lake.ids["contents"]) == ["a.request.0", "a.response.0", "b.request.0"]
    assert sorted(lake.ids["exchanges"]) == ["a", "b"]


class History:
    """Random life of a few writers and a recorder; knows what must be in the tables."""

    def __init__(self) -> None:
        self.journals, self.lake = ListJournals(), MemoryLake()
        self.writers = ["w0", "w1"]
        self.born = len(self.writers)
        self.open: list[tuple[str, str]] = []
        self.exchanges: list[str] = []
        self.events: list[str] = []
        self.restart()

    def restart(self) -> None:
        self.journals.restart_recorder()
        self.recorder = recorder(self.lake, self.journals, read_bytes=500)

    def begin(self, number: int) -> None:
        writer, name = self.writers[number % 2], f"x{len(self.exchanges)}"
        self.exchanges.append(name)
        self.open.append((writer, name))
        self.journals.add(writer, opening(name))

    def go_on(self, number: int) -> None:
        for home, name in self.open[number : number + 1]:
            self.journals.add(home, chunk(name))

    def end(self, number: int) -> None:
        for home, name in self.open[: number % 3]:
            self.journals.add(home, closing(name))
            self.open.remove((home, name))

    def note(self, number: int) -> None:
        self.events.append(f"e{len(self.events)}")
        self.journals.add(self.writers[number % 2], event(self.events[-1]))

    def die(self, number: int) -> None:
        writer = self.writers[number % 2]
        self.journals.dead.add(writer)
        self.open = [each for each in self.open if each[0] != writer]
        self.writers[number % 2] = f"w{self.born}"
        self.born += 1

    def hide(self, number: int) -> None:
        self.journals.hidden ^= {self.writers[number % 2]}

    def stop_discarding(self, number: int) -> None:
        self.journals.is_discarding = False

    def step(self, number: int) -> None:
        faults = [None, (0, "before"), (1, "before"), (2, "before"), (0, "after"), (1, "after")]
        self.lake.fault = [*faults, (2, "after")][number % 7]
        self.journals.fail_append = number == 8
        with suppress(FaultError, OSError):
            self.recorder.step(number * SECOND, flush=number % 2 == 0)
        self.lake.fault, self.journals.fail_append = None, False

    def restart_recorder(self, number: int) -> None:
        self.restart()


Action = tuple[Callable[[History, int], None], int]
OFTEN = [History.begin, History.end, History.step]
SELDOM = [
    History.go_on,
    History.note,
    History.die,
    History.hide,
    History.stop_discarding,
    History.restart_recorder,
]
ACTIONS = st.tuples(st.sampled_from(OFTEN * 2 + SELDOM), st.integers(0, 13))


@given(st.lists(ACTIONS, max_size=60))
@settings(deadline=None, max_examples=300)
def test_any_history_gives_each_exchange_and_event_once(actions: list[Action]) -> None:
    history = History()
    for act, number in actions:
        act(history, number)
    history.journals.dead |= set(history.writers)
    history.journals.hidden.clear()
    if not history.journals.is_discarding:
        history.journals.is_discarding = True
        history.restart()  # it asks once in its life to discard a journal
    drain(history.recorder)
    ids = {name: sorted(found) for name, found in history.lake.ids.items()}
    pieces = [piece.removesuffix(".request.0") for piece in ids["contents"]]
    requests = [p for p in pieces if not p.endswith(".response.0")]
    assert ids["exchanges"] == sorted(history.exchanges)
    assert [each for each in ids["events"] if "/" not in each] == sorted(history.events)
    assert requests == sorted(history.exchanges)
    assert len(set(ids["contents"])) == len(ids["contents"])
    assert set(history.journals.journals()) <= {history.journals.own}


@pytest.mark.parametrize("own", ["recorder-0", "a-recorder"])
def test_an_interrupted_exchange_is_closed_only_with_all_that_was_delivered(own: str) -> None:
    journals, lake = ListJournals(), MemoryLake()
    journals.add("proxy", opening("a"))
    for _ in range(20):
        journals.add("proxy", chunk("a"))
    journals.add(own, closing("a"))
    journals.dead |= {"proxy", own}
    drain(recorder(lake, journals, read_bytes=2 * FRAME_BYTES))
    assert lake.sizes == {"a.request.0": 5, "a.response.0": 40}


@pytest.mark.parametrize("commit", range(2))
def test_rows_whose_proof_is_missing_are_proven_before_their_journal_goes(commit: int) -> None:
    journals, lake = ListJournals(), MemoryLake()
    for record in exchange("a"):
        journals.add("w", record)
    journals.dead.add("w")
    lake.fault = (commit + 1, "before")
    with pytest.raises(FaultError):
        recorder(lake, journals).step(SECOND, flush=True)
    drain(recorder(lake, journals))
    assert (lake.ids["exchanges"], lake.ids["proofs"][0]) == (["a"], "w")
    assert journals.journals() == [journals.own]


def test_a_journal_goes_though_its_end_can_not_be_noted_and_that_is_done_later() -> None:
    journals, lake = ListJournals(), MemoryLake()
    subject = recorder(lake, journals)
    for name in ("v", "w"):
        for record in exchange(name):
            journals.add(name, record)
        journals.dead.add(name)
        journals.fail_append = name == "v"
        subject.step(SECOND, flush=True)
        subject.step(SECOND)
        assert name not in journals.journals()
    drain(subject)
    noted = [each.partition("/journal.ended")[0] for each in lake.ids["events"]]
    assert noted == ["v", "v", "w"], "the first may not have been written"


def test_what_an_interrupted_exchange_was_made_from_stays_until_its_row_is_proven() -> None:
    journals, lake = ListJournals(), MemoryLake()
    journals.add("w", opening("a"))
    journals.dead.add("w")
    first = recorder(lake, journals)
    first.step(SECOND)
    assert first.step(SECOND).interrupted == 1
    lake.fault = (2, "before")
    with pytest.raises(FaultError):
        first.step(SECOND, flush=True)
    assert (lake.ids["exchanges"], lake.ids["proofs"]) == (["a"], [])
    journals.restart_recorder()
    second = recorder(lake, journals, commit_every_s=100)
    for _ in range(4):
        second.step(SECOND)
    journals.restart_recorder()
    drain(recorder(lake, journals))
    assert "recorder-0" in lake.ids["proofs"]
    assert journals.journals() == [journals.own]


def test_cursors_of_journals_that_are_gone_are_forgotten_in_time() -> None:
    journals, lake = ListJournals(), MemoryLake()
    for number in range(12):
        for record in exchange(f"x{number}"):
            journals.add(f"w{number:02}", record)
        journals.dead.add(f"w{number:02}")
        drain(recorder(lake, journals, kept_cursors=3))
    assert lake.ids["exchanges"] == [f"x{number}" for number in range(12)]
    for properties in lake.properties.values():
        kept = {property_name.rpartition(".")[2] for property_name in properties}
        assert len(kept) <= 2 * 3
        assert "w10" in kept
