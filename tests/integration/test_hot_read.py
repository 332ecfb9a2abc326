"""The console's reads over real tables and hot rows together."""

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from support.records import BODY, SECOND, Texts, answered, chunk, closing, opening

from gateway.domain import ExchangeId
from gateway.records import Kept, Part
from lake import hot_read
from lake.bodies import BrokenBody
from lake.catalog import Lake, open_lake
from lake.exchange_rows import exchange_row
from lake.hot_answers import HotExchange, HotPage
from lake.hot_read import HotReader, UnreachableError
from lake.hot_rows import listed
from lake.read import LakeReader
from lake.rows import Exchange, Row, content_rows
from lake.shown import Owner

ADA = Owner("https://id", "ada")


class Recorder:
    """A recorder whose rows a test says; what it answers went over the wire."""

    def __init__(self, name: str, *rows: Row) -> None:
        self.name, self.epoch, self.is_away = name, "1", False
        self.rows = list(rows)
        self.removed: list[str] = []
        self.whole: dict[str, HotExchange] = {}
        self.asked: list[tuple[str, int]] = []

    def page(self, epoch: str, since: int, removed_since: int) -> HotPage:
        self.asked.append((epoch, since))
        if self.is_away:
            raise UnreachableError(self.name)
        news = self.rows[since if epoch == self.epoch else 0 :]
        page = HotPage(
            epoch=self.epoch,
            changed=len(self.rows) - max(0, len(news) - 2),
            has_more=len(news) > 2,
            is_whole=True,
            rows=[listed(row) for row in news[:2]],
            removed=self.removed if since else [],
            removed_until=len(self.rows),
            is_first=epoch != self.epoch,
        )
        return msgspec.json.decode(msgspec.json.encode(page), type=HotPage)

    def exchange(self, exchange_id: str) -> HotExchange | None:
        if self.is_away:
            raise UnreachableError(self.name)
        found = self.whole.get(exchange_id)
        return msgspec.json.decode(msgspec.json.encode(found), type=HotExchange | None)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def exchange(name: str, at_s: int) -> Exchange:
    return Exchange(
        opening=opening(name, at_ns=at_s * SECOND, session="s1"),
        answered=answered(name),
        chunks=(chunk(name, b"data"),),
        closing=closing(name),
        journal_id="proxy",
        sequence=at_s,
    )


def row(name: str, at_s: int, **changed: object) -> Row:
    made = exchange(name, at_s)
    return exchange_row(made, content_rows(made), Texts()) | changed


def append(lake: Lake, table: str, rows: list[Row]) -> None:
    schema = lake.arrow_schema(table)
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    lake.commit(lake.load(table), pa.Table.from_pydict(columns, schema=schema), {"p": "1"})


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_lake(f"sqlite:///{tmp_path}/catalog.db", tmp_path / "warehouse")
    append(opened, "exchanges", [row("x1", 100), row("x2", 200)])
    append(opened, "contents", content_rows(exchange("x1", 100)))
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def reader(lake: Lake, clock: Clock, *recorders: Recorder) -> LakeReader:
    schema = lake.arrow_schema("exchanges")
    return LakeReader(lake, HotReader(recorders, schema, clock))


def listing(subject: LakeReader) -> list[tuple[str, str]]:
    return [(each.exchange_id, each.ending) for each in subject.exchanges(ADA, "s1")]


def test_hot_and_committed_rows_are_one_and_the_committed_one_wins(
    lake: Lake, clock: Clock
) -> None:
    here = Recorder("here", row("x2", 200, ending="running"), row("x3", 300, ending="running"))
    there = Recorder("there", row("x4", 50, ending="running"))
    subject = reader(lake, clock, here, there)
    expected = [
        ("x4", "running"),
        ("x1", "delivered"),
        ("x2", "delivered"),
        ("x3", "running"),
    ]
    assert listing(subject) == expected
    (session,) = subject.sessions(ADA)
    assert session.endings == {"delivered": 2, "running": 2}
    assert session.last_at == datetime.fromtimestamp(300, UTC)
    assert subject.incomplete == ()


def test_only_changes_are_asked_for_until_the_epoch_is_another(lake: Lake, clock: Clock) -> None:
    recorder = Recorder("here", row("x3", 300, ending="running"))
    subject = reader(lake, clock, recorder)
    listing(subject)
    recorder.rows += [row("x4", 400), row("x3", 300)]
    assert listing(subject)[2:] == [("x3", "delivered"), ("x4", "delivered")]
    recorder.epoch, recorder.rows = "2", [row("x5", 500)]
    assert listing(subject)[2:] == [("x5", "delivered")]
    assert recorder.asked == [("", 0), ("1", 1), ("1", 3)]


def test_what_is_committed_between_two_reads_is_there_once(lake: Lake, clock: Clock) -> None:
    recorder = Recorder("here", row("x3", 300))
    subject = reader(lake, clock, recorder)
    before = listing(subject)
    append(lake, "exchanges", [row("x3", 300)])
    assert listing(subject) == before
    recorder.removed = ["x3", "x9"]
    assert listing(subject) == before


def test_what_left_a_recorder_is_shown_no_more(lake: Lake, clock: Clock) -> None:
    rows = [row("x3", 300), row("x4", 400, ending="running"), row("x5", 500)]
    recorder = Recorder("here", *rows)
    subject = reader(lake, clock, recorder)
    assert [name for name, _ in listing(subject)] == ["x1", "x2", "x3", "x4", "x5"]
    recorder.removed = ["x3", "x4"]
    assert [name for name, _ in listing(subject)] == ["x1", "x2", "x5"]


def test_a_recorder_that_is_away_is_named_and_not_asked_again_at_once(
    lake: Lake, clock: Clock
) -> None:
    away, here = Recorder("away", row("x4", 400)), Recorder("here", row("x3", 300))
    away.is_away = True
    subject = reader(lake, clock, away, here)
    assert [name for name, _ in listing(subject)] == ["x1", "x2", "x3"]
    assert subject.incomplete == ("away",)
    listing(subject)
    assert subject.exchange("x4") is None
    assert len(away.asked) == 1
    away.is_away, clock.now_s = False, 1.5
    assert [name for name, _ in listing(subject)] == ["x1", "x2", "x3", "x4"]
    assert not subject.incomplete


def test_what_a_recorder_said_last_is_kept_for_a_while(lake: Lake, clock: Clock) -> None:
    recorder = Recorder("here", row("x3", 300, ending="running"))
    subject = reader(lake, clock, recorder)
    before = listing(subject)
    recorder.is_away, clock.now_s = True, 20.0
    assert listing(subject) == before
    assert subject.incomplete == ("here",)
    clock.now_s = 40.0
    assert listing(subject) == before[:2]
    assert subject.incomplete == ("here",)


def test_a_recorder_that_has_too_much_is_named(
    lake: Lake, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_read, "MOST_ROWS", 2)
    subject = reader(lake, clock, Recorder("here", *(row(f"y{n}", 300 + n) for n in range(3))))
    assert [name for name, _ in listing(subject)] == ["x1", "x2", "y2"]
    assert subject.incomplete == ("here",)


def test_rows_that_are_no_rows_are_left_out_and_the_recorder_is_named(
    lake: Lake, clock: Clock
) -> None:
    subject = reader(lake, clock, Recorder("here", row("x3", 300, started_at="yesterday")))
    assert [name for name, _ in listing(subject)] == ["x1", "x2"]
    assert subject.incomplete == ("here",)


def whole(name: str, at_s: int, base: str = "", parts: tuple[Part, ...] = BODY) -> HotExchange:
    made = building_on(exchange(name, at_s), base, parts)
    contents = content_rows(made)
    pieces = {str(each["piece_id"]): each["data"] for each in contents}
    row = exchange_row(made, contents, Texts()) | {"ending": "running", "ended_at": None}
    return msgspec.convert({"row": row, "pieces": pieces}, HotExchange)


def building_on(made: Exchange, base: str, parts: tuple[Part, ...]) -> Exchange:
    opened = msgspec.structs.replace(
        made.opening, base=ExchangeId(base) if base else None, parts=parts
    )
    return dataclasses.replace(made, opening=opened)


def test_a_running_exchange_has_its_bodies_from_recorders_and_tables(
    lake: Lake, clock: Clock
) -> None:
    recorder = Recorder("here")
    recorder.whole["x3"] = whole("x3", 300, "x1", (Kept(start=0, count=2), b"-3-", b"]}"))
    recorder.whole["x4"] = whole("x4", 400, "x3", (Kept(start=0, count=3), b"-4-", b"]}"))
    subject = reader(lake, clock, recorder)
    found = subject.exchange("x4")
    assert found is not None
    assert (found.ending, found.ended_at) == ("running", None)
    assert found.request_body == BODY[0] + BODY[1] + b"-3--4-]}"
    assert found.response_body == b"data"
    assert found.chunk_offsets
    committed = subject.exchange("x1")
    assert committed is not None
    assert committed.request_body == b"".join(BODY)


def test_exchanges_that_build_on_each_other_end_the_look(lake: Lake, clock: Clock) -> None:
    recorder = Recorder("here")
    recorder.whole["x3"] = whole("x3", 300, "x4", (Kept(start=0, count=1),))
    recorder.whole["x4"] = whole("x4", 400, "x3", (Kept(start=0, count=1),))
    with pytest.raises(BrokenBody):
        reader(lake, clock, recorder).exchange("x3")


def test_a_committed_exchange_may_build_on_one_that_still_runs(lake: Lake, clock: Clock) -> None:
    recorder = Recorder("here")
    recorder.whole["x3"] = whole("x3", 300)
    made = building_on(exchange("x4", 400), "x3", (Kept(start=0, count=2), b"-4-]}"))
    contents = content_rows(made)
    append(lake, "exchanges", [exchange_row(made, contents, Texts())])
    append(lake, "contents", contents)
    found = reader(lake, clock, recorder).exchange("x4")
    assert found is not None
    assert found.request_body == BODY[0] + BODY[1] + b"-4-]}"
    with pytest.raises(BrokenBody):
        reader(lake, clock).exchange("x4")


def test_an_exchange_committed_while_its_recorder_was_asked_is_found(
    lake: Lake, clock: Clock
) -> None:
    class Committing(Recorder):
        def exchange(self, exchange_id: str) -> HotExchange | None:
            append(lake, "exchanges", [row("x3", 300, request_parts=[], response_pieces=[])])
            return None

    found = reader(lake, clock, Committing("here")).exchange("x3")
    assert found is not None
    assert found.ending == "delivered"
