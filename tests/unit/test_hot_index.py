"""The hot index over real journals: what it shows, what it forgets, what it survives."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.records import (
    BODY,
    START_NS,
    Texts,
    answered,
    block,
    chunk,
    closing,
    delta,
    opening,
    stream,
)

from gateway.domain import Ending
from gateway.journal import Journal
from gateway.journal_folder import JournalFolder
from gateway.records import Event, Position, Record
from lake import hot, hot_news
from lake.cursors import Cursor, Cursors
from lake.exchange_rows import exchange_row
from lake.hot import HotIndex
from lake.hot_rows import TEXT_CHARS, UNLISTED
from lake.rows import Exchange, Row, content_rows


class Host:
    """A journal folder, the index over it, and what the recorder says it committed."""

    def __init__(self, root: Path) -> None:
        self.root, self.committed = root, Cursors()
        self.journals: dict[str, Journal] = {}
        self.folder = JournalFolder(root / "journal")
        self.index = self.open()

    def open(self) -> HotIndex:
        return HotIndex(self.file, self.folder, Texts(), lambda: self.committed)

    @property
    def file(self) -> Path:
        return self.root / "hot" / "index.db"

    def write(self, *records: Record, journal: str = "proxy") -> None:
        if journal not in self.journals:
            self.journals[journal] = Journal(
                self.root / "journal", journal, lambda: START_NS, segment_bytes=4096
            )
            self.journals[journal].open()
        self.journals[journal].append(*records)

    def commit_all(self) -> None:
        """Say that the tables have all that was written, and delete it."""
        for name in self.journals:
            position = Position(0, 0)
            while True:
                frames, position = self.folder.read(name, position, 10**9)
                if not frames:
                    break
            self.committed = self.committed | {name: Cursor(position, position)}
            self.folder.discard(name, position)

    def rows(self) -> dict[str, Row]:
        while self.index.step():
            pass
        return {str(row["exchange_id"]): row for row in self.index.page("", 0).rows}

    def show(self, name: str, *columns: str) -> list[object]:
        row = self.rows()[name]
        return [row[column] for column in columns]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.index.close()
    for journal in made.journals.values():
        journal.close()


def test_a_running_exchange_shows_what_was_delivered_so_far(host: Host) -> None:
    shown = ("ending", "status", "response_text", "released_bytes", "ended_at")
    host.write(opening("a"))
    assert host.show("a", *shown) == ["running", None, None, 0, None]
    assert host.show("a", "prompt_text", "duration_ms") == ["hello", 0]
    first = chunk("a", block() + delta("one "))
    host.write(answered("a"), first)
    assert host.show("a", *shown) == ["running", 200, "one ", first.size, None]
    second = chunk("a", delta("two"), 7)
    host.write(second)
    assert host.show("a", *shown) == ["running", 200, "one two", first.size + second.size, None]
    assert host.show("a", "time_to_first_byte_ms", "duration_ms") == [2, 7]
    host.write(closing("a"))
    assert host.show("a", "ending", "response_text") == ["delivered", "one two"]


@pytest.mark.parametrize("steps", ["one step", "a step per record"])
@pytest.mark.parametrize("kind", ["streamed", "plain", "not kept", "sealed"])
def test_a_closed_exchange_has_the_row_that_the_tables_get(
    host: Host, steps: str, kind: str
) -> None:
    opened, head, *chunks = stream("a")
    match kind:
        case "plain":
            head = answered("a", "application/json")
            chunks = [chunk("a", b'{"content": [{"type": "text", "text": "hi"}]}')]
        case "not kept":
            opened, chunks = opening("a", "metadata"), []
        case "sealed":
            opened = opening("a", protection="sealed")
        case _:
            pass
    for record in (opened, head, *chunks, closing("a")):
        host.write(record)
        if steps != "one step":
            host.index.step()
    exchange = Exchange(
        opening=opened,  # type: ignore[arg-type]  # the list is of any records
        answered=head,  # type: ignore[arg-type]
        chunks=tuple(chunks),  # type: ignore[arg-type]
        closing=closing("a"),
        journal_id="proxy",
        sequence=len(chunks) + 3,
    )
    row = exchange_row(exchange, content_rows(exchange), Texts())
    expected = {name: value for name, value in row.items() if name not in UNLISTED}
    expected["claims"] = [["team", "a"]]
    expected["request_headers"] = [["anthropic-version", "2023-06-01"]]
    expected["response_headers"] = [["content-type", head.headers["content-type"]]]  # type: ignore[union-attr]
    assert host.rows()["a"] == expected
    found = host.index.exchange("a")
    assert found is not None
    assert found.row == row


def test_bodies_are_read_from_the_journal_across_segments_and_other_exchanges(host: Host) -> None:
    for record in stream("a"):
        host.write(record, *[chunk("b", b"x" * 3000)], Event(event_id="e", at_ns=1, kind="k"))
        host.index.step()
    host.rows()
    found = host.index.exchange("a")
    assert found is not None
    answer = block() + delta("\none ") + delta("two\n") + block() + delta("three")
    assert found.pieces == {
        **{f"a.request.{number}": piece for number, piece in enumerate(BODY)},
        "a.response.0": answer,
    }
    assert found.row["ending"] == "running"
    assert host.index.exchange("b") is None


def test_what_is_committed_leaves_and_its_frames_may_go(host: Host) -> None:
    host.write(*stream("a"), closing("a"))
    assert list(host.rows()) == ["a"]
    before = host.index.page("", 0)
    assert before.removed == []
    host.commit_all()
    assert host.rows() == {}
    after = host.index.page(before.epoch, before.changed, before.removed_until)
    assert (after.removed, after.rows, after.is_first) == (["a"], [], False)
    assert host.index.page(after.epoch, after.changed, after.removed_until).removed == []
    assert host.index.exchange("a") is None


def test_who_was_away_while_too_much_left_begins_anew(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_news, "MOST_REMOVED", 1)
    host.write(*stream("a"), closing("a"), *stream("b"), closing("b"))
    host.rows()
    before = host.index.page("", 0)
    host.write(*stream("c"))
    host.index.step()
    position = host.index._positions["proxy"]
    host.commit_all()
    host.committed = {"proxy": Cursor(position, Position(1, 0))}
    host.rows()
    after = host.index.page(before.epoch, before.changed, before.removed_until)
    assert ([row["exchange_id"] for row in after.rows], after.removed) == (["c"], [])
    assert (before.is_first, after.is_first) == (True, True)


def test_only_what_is_committed_leaves(host: Host) -> None:
    host.write(opening("running"), *stream("a"), closing("a"))
    host.rows()
    host.write(*stream("b"), closing("b"))
    at_b = host.index._positions["proxy"]
    host.committed = {"proxy": Cursor(at_b, Position(1, 0))}
    assert sorted(host.rows()) == ["b", "running"]


def test_an_exchange_committed_before_the_index_saw_it_is_never_left_behind(host: Host) -> None:
    host.write(opening("open"), *stream("a"))
    host.rows()
    host.write(closing("a"))
    position = host.folder.read("proxy", host.index._positions["proxy"], 10**6)[1]
    host.committed = {"proxy": Cursor(position, Position(1, 0))}
    assert list(host.rows()) == ["open"]


def test_a_closing_in_another_journal_waits_for_its_opening(host: Host) -> None:
    host.write(closing("a", Ending.INTERRUPTED), journal="a-recorder")
    host.write(*stream("a"), journal="proxy")
    assert host.show("a", "ending", "journal_id") == ["interrupted", "a-recorder"]


def test_a_frame_that_is_gone_means_it_is_in_the_tables(host: Host) -> None:
    host.write(*stream("a"), closing("a"))
    host.rows()
    for segment in (host.root / "journal" / "proxy").glob("*.segment"):
        segment.unlink()
    assert host.index.exchange("a") is None


@pytest.mark.parametrize("damage", ["deleted", "garbage", "another version"])
def test_it_is_rebuilt_from_the_journals(host: Host, damage: str) -> None:
    host.write(*stream("a"))
    before = host.rows()
    host.index.close()
    match damage:
        case "deleted":
            host.file.unlink()
        case "garbage":
            host.file.write_bytes(b"no database" * 1000)
        case _:
            with sqlite3.connect(host.file) as db:
                db.execute("PRAGMA user_version = 99")
            db.close()
    host.index = host.open()
    assert host.rows() == before


def test_a_database_that_breaks_while_it_runs_is_rebuilt(host: Host) -> None:
    host.write(*stream("a"))
    before = host.rows()
    host.index._store._db.execute("DROP TABLE rows")
    host.write(opening("b"))
    host.index.step()
    assert sorted(host.rows()) == ["a", "b"]
    assert host.rows()["a"] == before["a"]


def test_a_restart_goes_on_where_it_was(host: Host) -> None:
    host.write(*stream("a"))
    host.rows()
    host.index.close()
    host.index = host.open()
    host.write(chunk("a", delta(" four"), 9))
    assert host.index.step() == 1
    assert host.show("a", "response_text") == ["one two\n\nthree four"]


def test_pages_give_what_changed_and_say_what_they_leave_out(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        host.write(*stream(name))
    host.rows()
    first = host.index.page("", 0)
    assert (len(first.rows), first.is_whole) == (3, True)
    assert host.index.page(first.epoch, first.changed).rows == []
    host.write(chunk("b", delta("!")))
    host.index.step()
    after = host.index.page(first.epoch, first.changed)
    assert [row["exchange_id"] for row in after.rows] == ["b"]
    monkeypatch.setattr(hot, "PAGE_BYTES", 1)
    small = host.index.page("another", 0)
    assert [row["exchange_id"] for row in small.rows] == ["a"]
    assert (small.has_more, small.is_whole) == (True, True)
    last = host.index.page(small.epoch, host.index.page(small.epoch, small.changed).changed)
    assert ([row["exchange_id"] for row in last.rows], last.has_more) == (["b"], False)
    monkeypatch.setattr(hot, "MOST_CHANGES", 1)
    newest = host.index.page("another", 0)
    assert ([row["exchange_id"] for row in newest.rows], newest.is_whole) == (["b"], False)


def test_texts_are_bounded_and_steps_do_not_grow_with_the_stream(host: Host) -> None:
    host.write(opening("a"), answered("a"), chunk("a", block()))
    written = []
    for number in range(60):
        host.write(*[chunk("a", delta("word " * 100), number) for _ in range(10)])
        before = host.index._store._db.total_changes
        host.index.step()
        written.append(host.index._store._db.total_changes - before)
    assert max(written[1:]) <= max(written[:2])
    assert len(str(host.show("a", "response_text")[0])) == TEXT_CHARS
    host.write(closing("a"))
    assert len(str(host.show("a", "response_text")[0])) == TEXT_CHARS


def test_a_corrupt_journal_keeps_its_rows_and_the_others_go_on(host: Host) -> None:
    host.write(*stream("a"), journal="bad")
    host.rows()
    host.write(closing("a"), journal="bad")
    path = max((host.root / "journal" / "bad").glob("*.segment"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    host.write(*stream("b"), journal="good")
    assert {name: row["ending"] for name, row in host.rows().items()} == {
        "a": "running",
        "b": "running",
    }
    assert host.index.state().corrupt_journals == ("bad",)


def test_only_its_owner_may_read_it(host: Host) -> None:
    assert host.file.parent.stat().st_mode & 0o777 == 0o700
    assert host.file.stat().st_mode & 0o777 == 0o600


def test_a_first_read_in_many_pages_ends(host: Host) -> None:
    for number in range(40):
        name = f"x{number:02}"
        text = delta("x" * 60_000)
        host.write(opening(name), answered(name), chunk(name, text), closing(name))
    host.rows()
    host.index.close()
    host.index = index = host.open()
    page, seen = index.page("", 0), list[str]()
    while True:
        seen += [str(row["exchange_id"]) for row in page.rows]
        if not page.has_more:
            break
        page = index.page(page.epoch, page.changed, page.removed_until)
        assert not page.is_first
    assert seen == [f"x{number:02}" for number in range(40)]
