"""Latency of the auditors' searches over a large `exchanges` table.

Run it with `PYTHONPATH=tests .venv/bin/python -m bench.search [ROWS]`; writes build/search.json.
The rows go straight into an Iceberg table, in commits of a few hours each, as they are after
compaction. Prompts and answers are random words, so that a search reads what it would read.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from bench.figures import Summary, summarize
from lake.catalog import Lake, open_lake
from lake.filters import Filter
from lake.read import LakeReader
from lake.shown import Owner

ROOT = Path(__file__).parents[2]
ROWS = 1_000_000
BATCH = 20_000
DAYS = 30
ROUNDS = 7
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NEEDLE = "zanzibar"
"""Stands in every 100,000th prompt and in nothing else."""

PEOPLE = [f"person-{n}" for n in range(500)]
MODELS = ["claude-sonnet-4-5", "claude-opus-4-8", "claude-haiku-4-5-20251001"]
OUTCOMES = ["allow"] * 97 + ["deny"] * 3
DOCUMENT = '{"schema":1,"principal":{"groups":["eng"],"claims":{}},"request":{"stream":true}}' * 6


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One question and how long its answers took."""

    question: str
    found: int
    ms: Summary


def run(rows: int) -> None:
    """Fill a table, ask, print the table of figures and write them as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        lake = open_lake(f"sqlite:///{folder}/catalog.db", Path(folder) / "warehouse")
        began = time.perf_counter()
        _fill(lake, rows)
        size = sum(path.stat().st_size for path in lake.warehouse.rglob("*.parquet"))
        filled_s = time.perf_counter() - began
        reader = LakeReader(lake)
        figures = [_measure(name, ask) for name, ask in _questions(reader, rows)]
        reader.close()
        lake.close()
    table = Table(title=f"{rows:,} exchanges, {size / 1e6:.0f} MB, filled in {filled_s:.0f} s")
    for column in ("question", "found", "p50 ms", "largest ms"):
        table.add_column(column, justify="left" if column == "question" else "right")
    for each in figures:
        table.add_row(
            each.question, str(each.found), f"{each.ms.p50:.0f}", f"{each.ms.largest:.0f}"
        )
    Console().print(table)
    path = ROOT / "build" / "search.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.encode({"rows": rows, "bytes": size, "figures": figures}))


def _questions(
    reader: LakeReader, rows: int
) -> Sequence[tuple[str, Callable[[], Sequence[object]]]]:
    middle = BEGIN + timedelta(days=DAYS / 2)
    owner = Owner("https://id", PEOPLE[7919 % len(PEOPLE)])

    def search(wanted: Filter) -> Callable[[], Sequence[object]]:
        return lambda: reader.search(wanted=wanted)

    def sessions(wanted: Filter) -> Callable[[], Sequence[object]]:
        return lambda: reader.sessions(wanted=wanted)

    return (
        ("sessions: all", sessions(Filter())),
        ("sessions: own", lambda: reader.sessions(owner)),
        ("sessions: of a person", sessions(Filter(person=PEOPLE[7919 % len(PEOPLE)]))),
        ("sessions: of one day", sessions(Filter(since=middle, until=middle + timedelta(days=1)))),
        ("search: newest", search(Filter())),
        ("search: reason", search(Filter(reason="models.not_granted"))),
        ("search: mask and group", search(Filter(mask="aws_access_key", group="eng"))),
        ("search: tool, model, outcome", search(Filter(tool="Bash", model=MODELS[1]))),
        ("search: rare text", search(Filter(text=NEEDLE.upper()))),
        ("search: text that is nowhere", search(Filter(text="nowhere at all"))),
        (
            "search: rare text, one week",
            search(Filter(text=NEEDLE, since=middle, until=middle + timedelta(days=7))),
        ),
        ("show: exchanges of a session", lambda: reader.exchanges(owner, "s-1")),
        ("show: one exchange", lambda: [reader.exchange(_exchange_id(rows // 2))]),
    )


def _measure(question: str, ask: Callable[[], Sequence[object]]) -> Figure:
    samples, found = list[float](), 0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = len(ask())
        samples.append((time.perf_counter() - began) * 1000)
    return Figure(question=question, found=found, ms=summarize(samples))


# --- rows -----------------------------------------------------------------------------------------


def _fill(lake: Lake, rows: int) -> None:
    rng = random.Random(1)
    words = [
        "".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(2, 9))) for _ in range(5000)
    ]
    sentences = [" ".join(rng.choices(words, k=12)) + "." for _ in range(50_000)]
    for first in range(0, rows, BATCH):
        count = min(BATCH, rows - first)
        table = _batch(lake, rng, sentences, first, count, rows)
        lake.commit(lake.load("exchanges"), table, {"bench": str(first)})


def _batch(
    lake: Lake, rng: random.Random, sentences: Sequence[str], first: int, count: int, rows: int
) -> pa.Table:
    numbers = range(first, first + count)
    step = timedelta(days=DAYS) / rows
    times = [BEGIN + step * n for n in numbers]
    sessions = [n // 5000 * 50 + n % 50 for n in numbers]  # fifty at a time, of 100 exchanges
    people = [PEOPLE[session * 7919 % len(PEOPLE)] for session in sessions]
    outcomes = [OUTCOMES[n * 31 % 100] for n in numbers]
    own: dict[str, Sequence[object]] = {
        "exchange_id": [_exchange_id(n) for n in numbers],
        "session_id": [f"s-{session}" for session in sessions],
        "started_at": times,
        "ended_at": times,
        "subject": people,
        "person": people,
        "request_model": rng.choices(MODELS, k=count),
        "outcome": outcomes,
        "reasons": [["models.not_granted"] if o == "deny" else [] for o in outcomes],
        "masks_applied": [
            [{"rule": "aws_access_key", "place": "text", "count": 1}] if n % 50 == 0 else []
            for n in numbers
        ],
        "tool_calls": [["Bash"] if n % 3 == 0 else [] for n in numbers],
        "input_tokens": [n % 9000 for n in numbers],
        "output_tokens": [n % 700 for n in numbers],
        "prompt_text": _texts(rng, sentences, count, 3, [n % 100_000 == 99_999 for n in numbers]),
        "response_text": _texts(rng, sentences, count, 10, [False] * count),
        "sequence": list(numbers),
    }
    schema = lake.arrow_schema("exchanges")
    columns = [
        pa.array(own[field.name], field.type) if field.name in own else _same(field, count)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _texts(
    rng: random.Random, sentences: Sequence[str], count: int, length: int, marked: Sequence[bool]
) -> list[str]:
    drawn = rng.choices(sentences, k=count * length)
    return [
        " ".join(drawn[n * length : (n + 1) * length]) + (" Zanzibar?" if is_marked else "")
        for n, is_marked in enumerate(marked)
    ]


_SAME: dict[str, object] = {
    "issuer": "https://id",
    "groups": ["eng", "shop"],
    "response_model": MODELS[0],
    "endpoint": "claude",
    "ending": "delivered",
    "status": 200,
    "policy_revision": "r-1",
    "retention_class": "standard",
    "decision_input": DOCUMENT,
    "decision_result": DOCUMENT,
    "decisions_json": DOCUMENT * 2,
    "chunk_offsets": [{"end_byte": n * 100, "at_ms": n * 20.5} for n in range(10)],
}


def _same(field: "pa.Field[Any]", count: int) -> "pa.Array[Any]":
    """Return a column in which all rows say the same."""
    value = _SAME.get(field.name)
    if value is None and not field.nullable:
        value = _EMPTY[str(field.type).partition("<")[0]]
    column: pa.Array[Any] = pa.array([value], field.type).take(pa.array([0] * count))
    return column


_EMPTY: dict[str, object] = {
    "string": "x",
    "large_string": "x",
    "int32": 1,
    "int64": 1,
    "double": 12.5,
    "bool": True,
    "list": [],
    "large_list": [],
    "map": [],
    "timestamp[us, tz=UTC]": BEGIN,
}


def _exchange_id(number: int) -> str:
    at_ms = int((BEGIN.timestamp() + number) * 1000)
    return f"exch_{at_ms:012x}{number:016x}"


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
