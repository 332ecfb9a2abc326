"""Every kind of change to the record, each named by a verification."""

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.ledger import (
    SECOND,
    START_NS,
    event,
    exchange,
    journal,
    live,
    record,
    record_all,
    verified,
)

from lake.catalog import Lake
from lake.digests import Digest, Stretch, record_digest
from lake.signing import Signer

Rows = list[dict[str, Any]]
Change = Callable[[Rows], Rows]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four batches in two journals, and after that one more in another; a copy from between."""
    folder = tmp_path_factory.mktemp("history")
    record(
        folder,
        [
            [*exchange("x1", 1), *exchange("x2", 2, base="x1"), event("e1", 2)],
            exchange("y1", 3),
            [*exchange("x3", 4), event("e2", 5)],
            [*exchange("y2", 6), event("e3", 7)],
        ],
    )
    shutil.copytree(folder / "warehouse", folder / "earlier")
    record(folder, [exchange("z1", 8)], run="-2")
    return folder


@pytest.fixture
def copy(history: Path, tmp_path: Path) -> Path:
    """A copy of it to tamper with."""
    return shutil.copytree(history, tmp_path / "copy")


def found(folder: Path, **options: Any) -> set[tuple[str, str]]:
    """Return what a verification finds: kind, and what it concerns."""
    return {(f.kind, f.where) for f in verified(folder, **options).findings}


def data_files(folder: Path, table: str) -> list[Path]:
    """Return the data files of a table."""
    return sorted((folder / "warehouse" / "countersign" / table / "data").rglob("*.parquet"))


def rewrite(folder: Path, table: str, change: Change) -> None:
    """Change the rows of a table in its files, as who may write there could."""
    for path in data_files(folder, table):
        schema = pq.read_schema(path)
        rows = pq.ParquetFile(path).read().to_pylist()
        pq.write_table(pa.Table.from_pylist(change(rows), schema=schema), path)


def seen(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as digests see it."""
    return {
        name: int(value.timestamp() * 1e6) if hasattr(value, "timestamp") else value
        for name, value in row.items()
    }


def setting(column: str, value: Any, *, of: str, is_digest_renewed: bool = False) -> Change:
    """Change one value of one row, and its digest to match if so wanted."""

    def change(rows: Rows) -> Rows:
        for row in rows:
            if of in row.values():
                row[column] = value
                if is_digest_renewed:
                    row["record_digest"] = record_digest("exchanges", seen("exchanges", row))
        return rows

    return change


def without(name: str) -> Change:
    """Remove a row."""
    return lambda rows: [row for row in rows if name not in row.values()]


def twice(name: str) -> Change:
    """Repeat a row."""
    return lambda rows: [*rows, *(row for row in rows if name in row.values())]


def with_a_forged_one(rows: Rows) -> Rows:
    """Add a row that looks right, after the last of its journal."""
    forged = [
        row | {"exchange_id": "x9", "sequence": 900, "content_digests": []}
        for row in rows
        if row["exchange_id"] == "x3"
    ]
    for row in forged:
        row["record_digest"] = record_digest("exchanges", seen("exchanges", row))
    return rows + forged


def test_an_untouched_record_is_clean(history: Path) -> None:
    report = verified(history, host=live(history), is_witnessed=True)
    assert report.findings == []
    coverage = report.coverage
    assert (coverage.journals, coverage.rows, coverage.pieces) == (6, 6 + 3 + 6 + 5, 12)
    assert coverage.proofs >= 5
    assert coverage.witnessed >= 5
    assert verified(history, since=1).findings == []


X2 = "exchanges x2 (journal proxy-a, record 8)"
E1 = "events e1 (journal proxy-a, record 9)"
ROWS = [
    pytest.param("exchanges", setting("prompt_text", "no", of="x2"), {("edited", X2)}, id="text"),
    pytest.param(
        "exchanges",
        setting("subject", "eve", of="x2", is_digest_renewed=True),
        {("edited", X2)},
        id="text and digest",
    ),
    pytest.param("exchanges", setting("status", None, of="x2"), {("edited", X2)}, id="to null"),
    pytest.param(
        "exchanges",
        without("x2"),
        {
            ("missing", "a row of exchanges (journal proxy-a, record 8)"),
            ("added", "contents x2.request.0"),
            ("added", "contents x2.response.0"),
        },
        id="row removed",
    ),
    pytest.param("exchanges", twice("x2"), {("duplicate", X2)}, id="row repeated"),
    pytest.param(
        "exchanges",
        with_a_forged_one,
        {("unsigned", "exchanges x9 (journal proxy-a, record 900)")},
        id="row added",
    ),
    pytest.param(
        "exchanges",
        setting("sequence", 9, of="x2"),
        {
            ("edited", "exchanges x2 (journal proxy-a, record 9)"),
            ("edited", "contents x2.request.0"),
            ("edited", "contents x2.response.0"),
            ("added", "exchanges x2 (journal proxy-a, record 9)"),
            ("missing", "a row of exchanges (journal proxy-a, record 8)"),
        },
        id="row moved",
    ),
    pytest.param("events", setting("kind", "x", of="e1"), {("edited", E1)}, id="event"),
    pytest.param(
        "events",
        without("e1"),
        {("missing", "a row of events (journal proxy-a, record 9)")},
        id="event removed",
    ),
    pytest.param(
        "contents",
        setting("data", b"else", of="x2.response.0"),
        {("edited", "contents x2.response.0")},
        id="piece",
    ),
    pytest.param(
        "contents",
        lambda rows: [
            row | {"data": b"else", "digest": hashlib.sha256(b"else").hexdigest()}
            if row["piece_id"] == "x1.request.0"
            else row
            for row in rows
        ],
        {("edited", "contents x1.request.0")},
        id="piece and digest",
    ),
    pytest.param(
        "contents",
        setting("retention_class", "short", of="x1.request.0"),
        {("edited", "contents x1.request.0")},
        id="how long a piece is kept",
    ),
    pytest.param(
        "contents",
        setting("started_at", datetime(2020, 1, 1, tzinfo=UTC), of="x1.request.0"),
        {("edited", "contents x1.request.0")},
        id="when a piece was brought",
    ),
    pytest.param(
        "contents",
        without("x1.request.0"),
        {("missing", "contents x1.request.0")},
        id="piece removed",
    ),
    pytest.param(
        "contents",
        twice("x1.request.0"),
        {("duplicate", "contents x1.request.0")},
        id="piece twice",
    ),
]


@pytest.mark.parametrize(("table", "change", "expected"), ROWS)
def test_a_changed_row_is_named(
    copy: Path, table: str, change: Change, expected: set[tuple[str, str]]
) -> None:
    rewrite(copy, table, change)
    assert found(copy) == expected


# --- proofs ---------------------------------------------------------------------------------------


def proofs_of(folder: Path, journal_id: str) -> list[tuple[int, int]]:
    """Return first and last record of each proof of a journal, in order."""
    files = (pq.ParquetFile(path).read().to_pylist() for path in data_files(folder, "proofs"))
    return sorted(
        (row["first_sequence"], row["last_sequence"])
        for rows in files
        for row in rows
        if row["journal_id"] == journal_id
    )


def named(folder: Path, number: int) -> str:
    """Return how a finding names a proof of journal proxy-a."""
    first, last = proofs_of(folder, "proxy-a")[number]
    return f"proof of journal proxy-a, records {first}-{last}"


def change_proof(
    folder: Path, number: int, change: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> None:
    """Change one proof of journal proxy-a; None removes it."""
    first, _ = proofs_of(folder, "proxy-a")[number]

    def apply(rows: Rows) -> Rows:
        changed = (
            change(row) if (row["journal_id"], row["first_sequence"]) == ("proxy-a", first) else row
            for row in rows
        )
        return [row for row in changed if row is not None]

    rewrite(folder, "proofs", apply)


def forget_property(folder: Path, table: str, name: str) -> None:
    """Remove a property from the newest metadata of a table."""
    path = max((folder / "warehouse" / "countersign" / table / "metadata").glob("*.metadata.json"))
    metadata = json.loads(path.read_text())
    del metadata["properties"][name]
    path.write_text(json.dumps(metadata))


def rooted(row: dict[str, Any]) -> dict[str, Any]:
    """Renew the root of a proof."""
    stretch = Stretch(
        journal_id=row["journal_id"],
        first_sequence=row["first_sequence"],
        last_sequence=row["last_sequence"],
        record_count=row["record_count"],
        digests=tuple(Digest(d["sequence"], d["table"], d["digest"]) for d in row["digests"]),
        previous_root=row["previous_root"] or "",
        sealed_at=int(row["sealed_at"].timestamp() * 1e6),
    )
    return row | {"root": stretch.root}


def test_a_changed_proof_is_named(copy: Path) -> None:
    change_proof(copy, 1, lambda row: row | {"record_count": 1})
    assert found(copy) == {("edited", named(copy, 1)), ("gap", named(copy, 1))}


def test_a_changed_proof_with_a_new_root_is_forged_and_breaks_the_chain(copy: Path) -> None:
    change_proof(copy, 1, lambda row: rooted(row | {"digests": row["digests"][:-1]}))
    assert {("forged", named(copy, 1)), ("missing", named(copy, 2))} <= found(copy)


def test_proofs_signed_by_another_key_are_forged(copy: Path) -> None:
    signer = Signer(copy / "other")

    def sign(rows: Rows) -> Rows:
        return [
            row | dict(zip(("key_id", "signature"), signer.sign(row["root"]), strict=True))
            for row in rows
        ]

    rewrite(copy, "proofs", sign)
    report = verified(copy)
    assert {f.kind for f in report.findings} == {"forged"}
    assert report.finding_count == report.coverage.proofs


def test_a_proof_twice_is_named(copy: Path) -> None:
    rewrite(copy, "proofs", lambda rows: rows + rows)
    assert ("duplicate", named(copy, 1)) in found(copy)


def test_a_removed_proof_is_missed(copy: Path) -> None:
    following = named(copy, 2)
    change_proof(copy, 1, lambda _: None)
    assert {("missing", following), ("added", "exchanges x1 (journal proxy-a, record 4)")} <= found(
        copy
    )


def test_a_removed_first_proof_is_missed(copy: Path) -> None:
    following = named(copy, 1)
    change_proof(copy, 0, lambda _: None)
    assert ("missing", following) in found(copy)


def test_a_removed_last_proof_is_missed(copy: Path) -> None:
    change_proof(copy, -1, lambda _: None)
    assert ("truncated", "journal proxy-a") in found(copy)


def test_the_end_of_a_journal_that_is_gone_is_missed_though_its_link_fits(copy: Path) -> None:
    """All is cut that its last proof covers, and what the table says of its end is put back."""
    number = len(proofs_of(copy, "proxy-a")) - 1
    first, _ = proofs_of(copy, "proxy-a")[number]
    change_proof(copy, number, lambda _: None)
    for table in ("exchanges", "events", "contents"):
        rewrite(
            copy,
            table,
            lambda rows: [
                row for row in rows if row["journal_id"] != "proxy-a" or row["sequence"] < first
            ],
        )
    forget_property(copy, "proofs", "countersign.chain.proxy-a")
    assert found(copy) == {("truncated", "journal proxy-a")}


# --- files, snapshots, whole tables ---------------------------------------------------------------


@pytest.mark.parametrize("table", ["exchanges", "events", "contents", "proofs"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 no longer"])
def test_a_file_that_is_gone_or_spoilt_is_named(
    copy: Path, table: str, content: bytes | None
) -> None:
    path = data_files(copy, table)[0]
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert any(kind == "unreadable" for kind, _ in found(copy))


def roll_back(folder: Path, table: str, count: int = 1) -> None:
    """Put a table back to how it was some commits before."""
    metadata = folder / "warehouse" / "countersign" / table / "metadata"
    for path in sorted(metadata.glob("*.metadata.json"))[-count:]:
        path.unlink()


def test_a_table_that_is_put_back_is_named(copy: Path) -> None:
    roll_back(copy, "exchanges")
    kinds = found(copy)
    assert ("missing", "a row of exchanges (journal proxy-a-2, record 4)") in kinds


def test_a_whole_lake_that_is_put_back_is_named_by_its_witness(copy: Path) -> None:
    shutil.rmtree(copy / "warehouse")
    shutil.move(copy / "earlier", copy / "warehouse")
    assert found(copy) == set()
    assert found(copy, is_witnessed=True) == {
        ("truncated", f"journal {name}") for name in ("proxy-a-2", "proxy-b-2", "recorder-2")
    }


def test_a_journal_that_is_left_out_is_missed_by_its_number(copy: Path) -> None:
    def left_out(rows: Rows) -> Rows:
        return [row for row in rows if row["journal_id"] != "proxy-a"]

    for table in ("exchanges", "events", "contents", "proofs"):
        rewrite(copy, table, left_out)
    assert any(
        kind == "missing" and where.startswith("journal 2 of host recorder")
        for kind, where in found(copy)
    )


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Copies of a warehouse from after every single commit to one of its tables."""
    folder = tmp_path_factory.mktemp("moments")
    copies: list[Path] = []
    commit = Lake.commit

    def commit_and_copy(lake: Lake, *what: Any) -> None:
        commit(lake, *what)
        copies.append(folder / f"copy-{len(copies):02}")
        shutil.copytree(folder / "warehouse", copies[-1] / "warehouse")
        shutil.copytree(folder / "keys", copies[-1] / "keys")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lake, "commit", commit_and_copy)
        record(folder, [[*exchange("x1", 1), event("e1", 2)], exchange("y1", 3)])
    return copies


def test_a_copy_from_the_middle_of_a_commit_is_clean(moments: list[Path]) -> None:
    reports = [verified(copy) for copy in moments]
    assert [report.findings for report in reports] == [[]] * len(moments)
    assert any(report.coverage.unsigned_rows for report in reports)
    assert reports[-1].coverage.unsigned_rows == 0


@pytest.mark.parametrize("table", ["exchanges", "events", "contents", "proofs"])
def test_metadata_that_is_not_whole_is_listed_as_of_no_table(copy: Path, table: str) -> None:
    metadata = copy / "warehouse" / "countersign" / table / "metadata"
    newest = max(metadata.glob("*.metadata.json"))
    version = int(newest.name.partition("-")[0]) + 1
    half = metadata / f"{version:05}-half.metadata.json"
    half.write_bytes(newest.read_bytes()[:200])
    aside = metadata / newest.name.replace("-", "-0", 1)
    earlier = json.loads(newest.read_bytes()) | {"last-updated-ms": 1}
    aside.write_text(json.dumps(earlier))
    report = verified(copy)
    assert report.findings == []
    folder = Path("countersign") / table / "metadata"
    assert report.coverage.left_out == sorted(str(folder / each.name) for each in (half, aside))


# --- journals on disk -----------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A recorded journal, and one on disk whose end nobody recorded yet."""
    record(tmp_path, [exchange("x1", 1)])
    with journal(tmp_path / "journal", "late") as late:
        for each in (*exchange("x2", 2), *exchange("x3", 3)):
            late.append(each)
    return tmp_path


def segments(folder: Path) -> list[Path]:
    """Return the segments of the journal that is not recorded."""
    return sorted((folder / "journal" / "late").glob("*.segment"))


def on_disk(folder: Path) -> set[tuple[str, str]]:
    """Return what is found beside the tables' own state."""
    return found(folder, host=live(folder))


def test_journals_on_disk_are_read(disk: Path) -> None:
    report = verified(disk, host=live(disk))
    coverage = report.coverage
    assert (report.findings, coverage.live_journals, coverage.live_records) == ([], 2, 9 + 1)


def test_a_changed_byte_on_disk_is_named(disk: Path) -> None:
    path = segments(disk)[1]
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert on_disk(disk) == {("corrupt", "journal late on disk")}


def test_a_damaged_journal_stays_named_when_it_is_gone(tmp_path: Path) -> None:
    with journal(tmp_path / "journal", "bad") as bad:
        for each in (*exchange("x1", 1), *exchange("x2", 2)[:3]):
            bad.append(each)
    path = max((tmp_path / "journal" / "bad").glob("*.segment"))
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    record_all(tmp_path)
    assert on_disk(tmp_path) == {("corrupt", "journal bad on disk")}
    assert found(tmp_path) == {("corrupt", "journal bad")}
    path.write_bytes(whole)
    record_all(tmp_path, own="recorder-2")
    assert on_disk(tmp_path) == set(), "put back and read on, it is whole"


def test_a_removed_segment_is_named(disk: Path) -> None:
    segments(disk)[1].unlink()
    assert on_disk(disk) == {("gap", "journal late on disk")}


def test_a_removed_first_segment_is_named(disk: Path) -> None:
    segments(disk)[0].unlink()
    assert on_disk(disk) == {("gap", "journal late on disk")}


def test_a_removed_journal_is_missed(disk: Path) -> None:
    shutil.rmtree(disk / "journal" / "late")
    assert on_disk(disk) == {("missing", "journal late")}


# --- since an instant, by clocks that were set back -----------------------------------------------


def instant(at_s: int) -> int:
    """Return an instant of the history in microseconds since the epoch."""
    return (START_NS + at_s * SECOND) // 1000


def since(folder: Path, at_s: int) -> set[tuple[str, str]]:
    """Return what is found since an instant."""
    return found(folder, since=instant(at_s))


@pytest.fixture
def set_back(tmp_path: Path) -> Path:
    """Two journals while the clock is set back from 110 to 50, and goes on to 120."""
    batches = [exchange("x1", 1), exchange("y1", 2), exchange("x2", 3), exchange("y2", 4)]
    batches += [exchange("x3", 5), exchange("y3", 6)]
    record(tmp_path, batches, clock_s=[30, 40, 110, 50, 60, 120])
    return tmp_path


@pytest.mark.parametrize("at_s", range(20, 131, 10))
def test_a_clock_that_was_set_back_makes_nothing_look_changed(set_back: Path, at_s: int) -> None:
    assert since(set_back, at_s) == set()


@pytest.mark.parametrize("name", ["x2", "y2", "x3", "y3"])
def test_what_was_sealed_after_the_clock_was_set_back_is_covered(set_back: Path, name: str) -> None:
    rewrite(set_back, "exchanges", setting("prompt_text", "no", of=name))
    assert {kind for kind, _ in since(set_back, 100)} == {"edited"}


def test_what_was_sealed_before_is_not_looked_at(set_back: Path) -> None:
    rewrite(set_back, "exchanges", setting("prompt_text", "no", of="x1"))
    assert since(set_back, 100) == set()


def test_journals_that_began_after_the_clock_was_set_back_are_covered(tmp_path: Path) -> None:
    record(tmp_path, [exchange("x1", 1), exchange("y1", 2)], clock_s=[100, 110])
    record(tmp_path, [exchange("x2", 1), exchange("y2", 2)], clock_s=[50, 60], run="-2")
    assert since(tmp_path, 90) == set()
    rewrite(tmp_path, "exchanges", setting("prompt_text", "no", of="y2"))
    assert {kind for kind, _ in since(tmp_path, 90)} == {"edited"}


def test_what_began_by_a_clock_ahead_of_the_one_that_sealed_it_is_covered(tmp_path: Path) -> None:
    batches = [exchange("x1", 200), exchange("y1", 2), exchange("x2", 3)]
    record(tmp_path, batches, clock_s=[50, 60, 210])
    assert since(tmp_path, 150) == set()
    rewrite(tmp_path, "exchanges", setting("prompt_text", "no", of="x1"))
    assert {kind for kind, _ in since(tmp_path, 150)} == {"edited"}


def test_a_removed_last_proof_is_missed_since_then(set_back: Path) -> None:
    change_proof(set_back, -1, lambda _: None)
    assert ("truncated", "journal proxy-a") in since(set_back, 55)
