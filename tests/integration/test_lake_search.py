"""Filters, pages and snippets over a real table, against the same asked of plain rows."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lake.catalog import Lake, open_lake
from lake.filters import Filter
from lake.read import LakeReader
from lake.rows import Row
from lake.shown import ExchangeKey, Owner, SessionKey

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
COUNT = 400
ADA, BO = Owner("https://id", "ada"), Owner("https://id", "bo")
WORDS = ("Deploy", "the shop", "50% off_", "naïve ÉCLAIR", "it's", "\x1b[31m", "a\nb", "倉庫")


def row(number: int, rng: random.Random) -> Row:
    """Return a row that draws what filters look at, with all that a table requires."""
    subject = rng.choice(["ada", "bo"])
    outcome = rng.choice(["allow", "allow", "deny", "hold"])
    started = BEGIN + timedelta(minutes=number // 3)  # three share a time
    return {
        "exchange_id": f"exch_{number:028x}",
        "session_id": rng.choice([None, "s-1", "s-2", "s-3"]),
        "started_at": started,
        "ended_at": started,
        "issuer": "https://id",
        "subject": subject,
        "person": rng.choice([subject, "carol", None]),
        "groups": rng.sample(["eng", "shop", "ci"], 2),
        "request_model": rng.choice(["opus", "haiku", None]),
        "response_model": rng.choice(["opus", None]),
        "endpoint": rng.choice(["claude", None]),
        "outcome": outcome,
        "reasons": ["models.not_granted", "route.unknown"] if outcome == "deny" else [],
        "error_code": "approval.pending" if outcome == "hold" else None,
        "approval_reasons": rng.choice([None, ["repositories.production"]]),
        "policy_revision": rng.choice(["r-1", "r-2", None]),
        "masks_applied": [
            {"rule": rule, "place": "text", "count": 1}
            for rule in rng.sample(["email", "jwt", "aws"], rng.randint(0, 2))
        ],
        "tool_calls": rng.sample(["Bash", "Read", "Edit"], rng.randint(0, 2)),
        "ending": rng.choice(["delivered", "refused"]),
        "prompt_text": rng.choice([None, " ".join(rng.sample(WORDS, 3))]),
        "response_text": rng.choice([None, "x" * 300 + " ".join(rng.sample(WORDS, 2))]),
        "input_tokens": number,
    }


def append(lake: Lake, rows: list[Row]) -> None:
    """Append rows, with nothing said in the columns they lack."""
    empty: dict[str, object] = {
        "list<": [],
        "map<": [],
        "string": "",
        "int": 0,
        "double": 0.0,
        "bool": False,
    }
    empty["timestamp"] = BEGIN
    schema = lake.arrow_schema("exchanges")
    columns = {}
    for field in schema:
        kind = next((k for k in empty if str(field.type).removeprefix("large_").startswith(k)), "")
        absent = None if field.nullable else empty[kind]
        columns[field.name] = [each.get(field.name, absent) for each in rows]
    lake.commit(lake.load("exchanges"), pa.Table.from_pydict(columns, schema=schema), {"n": "1"})


ROWS = [row(number, random.Random(number)) for number in range(COUNT)]
NEWEST_FIRST = sorted(ROWS, key=lambda r: (r["started_at"], r["exchange_id"]), reverse=True)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeReader]:
    folder = tmp_path_factory.mktemp("lake")
    lake = open_lake(f"sqlite:///{folder}/catalog.db", folder / "warehouse")
    for first in range(0, COUNT, 150):
        append(lake, ROWS[first : first + 150])
    opened = LakeReader(lake)
    yield opened
    opened.close()
    lake.close()


def has_text(text: str) -> Callable[[Row], bool]:
    return lambda r: any(
        text.lower() in str(r[side] or "").lower() for side in ("prompt_text", "response_text")
    )


MIDDLE = BEGIN + timedelta(minutes=60)
FILTERS: dict[str, tuple[Filter, Callable[[Row], bool]]] = {
    "everything": (Filter(), lambda r: True),
    "a person": (Filter(person="carol"), lambda r: r["person"] == "carol"),
    "a person by subject": (Filter(person="bo"), lambda r: "bo" in (r["person"], r["subject"])),
    "a group": (Filter(group="shop"), lambda r: "shop" in r["groups"]),  # type: ignore[operator]  # a list
    "a model": (
        Filter(model="opus"),
        lambda r: "opus" in (r["request_model"], r["response_model"]),
    ),
    "an endpoint": (Filter(endpoint="claude"), lambda r: r["endpoint"] == "claude"),
    "since": (Filter(since=MIDDLE), lambda r: r["started_at"] >= MIDDLE),  # type: ignore[operator]  # a time
    "until": (Filter(until=MIDDLE), lambda r: r["started_at"] < MIDDLE),  # type: ignore[operator]  # a time
    "an outcome": (Filter(outcome="deny"), lambda r: r["outcome"] == "deny"),
    "a reason": (Filter(reason="route.unknown"), lambda r: r["outcome"] == "deny"),
    "an error": (Filter(reason="approval.pending"), lambda r: r["outcome"] == "hold"),
    "an approval": (
        Filter(reason="repositories.production"),
        lambda r: r["approval_reasons"] is not None,
    ),
    "a revision": (Filter(revision="r-2"), lambda r: r["policy_revision"] == "r-2"),
    "a mask": (Filter(mask="jwt"), lambda r: "'jwt'" in str(r["masks_applied"])),
    "a tool": (Filter(tool="Bash"), lambda r: "Bash" in r["tool_calls"]),  # type: ignore[operator]  # a list
    "an ending": (Filter(ending="refused"), lambda r: r["ending"] == "refused"),
    "text in any case": (Filter(text="dePLOY"), has_text("deploy")),
    "text of other letters": (Filter(text="NAÏVE éclair"), has_text("naïve éclair")),
    "text with what LIKE would read": (Filter(text="0% off_"), has_text("0% off_")),
    "text with a quote": (Filter(text="it's"), has_text("it's")),
    "text with a control character": (Filter(text="\x1b["), has_text("\x1b[")),
    "several at once": (
        Filter(outcome="deny", tool="Read", since=MIDDLE, text="shop"),
        lambda r: (
            r["outcome"] == "deny"
            and "Read" in str(r["tool_calls"])
            and r["started_at"] >= MIDDLE  # type: ignore[operator]  # a time
            and has_text("shop")(r)
        ),
    ),
    "nothing": (Filter(person="' OR true --"), lambda r: False),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_lets_in_what_it_says(reader: LakeReader, name: str) -> None:
    wanted, holds = FILTERS[name]
    expected = [r["exchange_id"] for r in NEWEST_FIRST if holds(r)]
    assert [hit.exchange_id for hit in reader.search(wanted=wanted, limit=500)] == expected
    sessions = reader.sessions(wanted=wanted, limit=500)
    assert sum(session.exchanges for session in sessions) == len(expected)


@pytest.mark.parametrize("name", ["everything", "a group", "text in any case"])
@pytest.mark.parametrize("length", [1, 7, 100])
def test_pages_of_a_search_join_to_the_whole(reader: LakeReader, name: str, length: int) -> None:
    wanted, _ = FILTERS[name]
    whole = [hit.exchange_id for hit in reader.search(ADA, wanted=wanted, limit=500)]
    paged, key = list[str](), None
    while page := reader.search(ADA, wanted=wanted, after=key, limit=length):
        paged += [hit.exchange_id for hit in page]
        key = page[-1].key
        if len(paged) > 40:
            break
    assert paged == whole[: len(paged)]
    assert len(paged) > 40 or paged == whole


def test_pages_of_sessions_join_to_the_whole(reader: LakeReader) -> None:
    whole = [each.key for each in reader.sessions(limit=500)]
    paged, key = list[SessionKey](), None
    while page := reader.sessions(after=key, limit=20):
        paged += [each.key for each in page]
        key = page[-1].key
    assert paged == whole
    assert len(set(paged)) == len(paged)


def test_a_page_begins_after_its_key_whatever_came_since(reader: LakeReader) -> None:
    key = ExchangeKey(MIDDLE, f"exch_{0:028x}")
    expected = [r["exchange_id"] for r in NEWEST_FIRST if (r["started_at"], r["exchange_id"]) < key]
    assert [hit.exchange_id for hit in reader.search(after=key, limit=500)] == expected


def test_an_owner_finds_their_own_only(reader: LakeReader) -> None:
    for owner in (ADA, BO):
        found = reader.search(owner, limit=500)
        assert {hit.subject for hit in found} == {owner.subject}
        assert len(found) == sum(r["subject"] == owner.subject for r in ROWS)
    assert reader.search(Owner("https://elsewhere", "ada")) == []


def test_a_snippet_shows_what_stands_around_the_text(reader: LakeReader) -> None:
    hits = reader.search(wanted=Filter(text="DEPLOY"), limit=500)
    assert {hit.found_in for hit in hits} == {"prompt", "answer"}
    for hit in hits:
        assert "Deploy" in (hit.snippet or "")
        assert len(hit.snippet or "") <= 240
        if hit.found_in == "answer":
            assert (hit.snippet or "").startswith("x")


def test_without_a_text_a_snippet_is_how_the_prompt_begins(reader: LakeReader) -> None:
    by_id = {r["exchange_id"]: r for r in ROWS}
    for hit in reader.search(limit=100):
        assert hit.snippet == by_id[hit.exchange_id]["prompt_text"]
        assert hit.found_in is None


def test_a_session_counts_what_its_filter_lets_in(reader: LakeReader) -> None:
    wanted = Filter(outcome="deny")
    of_one = [r for r in ROWS if r["session_id"] == "s-1" and r["subject"] == "ada"]
    denied = [r for r in of_one if r["outcome"] == "deny"]
    found = [s for s in reader.sessions(ADA, wanted=wanted, limit=500) if s.session_id == "s-1"]
    assert [s.exchanges for s in found] == [len(denied)]
    assert found[0].last_at == max(r["started_at"] for r in denied)  # type: ignore[type-var]  # times


def test_the_exchanges_of_a_session_come_in_pages(reader: LakeReader) -> None:
    expected = [
        r["exchange_id"] for r in ROWS if r["session_id"] == "s-1" and r["subject"] == "ada"
    ]
    paged, key = list[str](), None
    while page := reader.exchanges(ADA, "s-1", after=key, limit=9):
        paged += [each.exchange_id for each in page]
        key = page[-1].key
    assert paged == expected
