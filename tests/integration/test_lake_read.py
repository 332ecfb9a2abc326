"""Opening the catalog, and reading the tables through DuckDB."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import NestedField, StringType
from support.ledger import exchange as recorded_exchange
from support.ledger import record

from gateway.domain import Context, Ending, ExchangeId, Principal, Request, Route
from gateway.records import Answered, Chunk, Closing, Opening, Recording, Usage
from lake.catalog import CATALOG_NAME, NAMESPACE, SHAPES, Lake, open_lake
from lake.exchange_rows import exchange_row
from lake.filters import Filter
from lake.read import LakeReader
from lake.rows import Exchange, Row, content_rows
from lake.shown import Owner, Session
from lake.sql import SqlConnection, SqlRefusedError, connect

SECOND = 10**9
ADA, BO = Owner("https://id", "ada"), Owner("https://id", "bo")


class PlainTexts:
    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        return b"".join(pieces).decode()

    def response_text(self, content_type: str, body: bytes) -> str:
        return body.decode()


def exchange(name: str, subject: str, session: str | None, at_s: int, model: str) -> Exchange:
    exchange_id, at_ns = ExchangeId(name), at_s * SECOND
    opening = Opening(
        exchange_id=exchange_id,
        at_ns=at_ns,
        peer="",
        user_agent="",
        path="/v1/messages",
        query="",
        headers={},
        principal=Principal(
            issuer="https://id",
            sub=subject,
            person=subject.title(),
            kind="user",
            token_issued_at=0,
            token_expires_at=1,
        ),
        request=Request(
            id=exchange_id,
            route=Route.MESSAGES,
            method="POST",
            model=model,
            session=Context(value=session, source="header") if session else None,
        ),
        decision=None,
        endpoint="",
        recording=Recording(
            content="full",
            durability="strict",
            retention_class="standard",
            protection="plain",
            reasons=(),
        ),
        parts=(b"ask it's",),
    )
    return Exchange(
        opening=opening,
        answered=Answered(
            exchange_id=exchange_id,
            at_ns=at_ns,
            status=200,
            headers={"content-type": "application/json"},
            upstream_request_id="",
        ),
        chunks=(Chunk(exchange_id=exchange_id, at_ns=at_ns + 10**6, data=b"\x00ok", size=3),),
        closing=Closing(
            exchange_id=exchange_id,
            at_ns=at_ns + SECOND,
            ending=Ending.DELIVERED,
            status=200,
            usage=Usage(input_tokens=2, output_tokens=3),
        ),
        journal_id="j",
        sequence=at_s,
    )


def append(lake: Lake, table: str, rows: list[Row]) -> None:
    schema = lake.arrow_schema(table)
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    lake.commit(lake.load(table), pa.Table.from_pydict(columns, schema=schema), {"p": "1"})


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    opened = open_lake(f"sqlite:///{tmp_path}/catalog.db", tmp_path / "o'ware 100%")
    exchanges = [
        exchange("x1", "ada", "s1", 100, "opus"),
        exchange("x2", "ada", "s1", 200, "haiku"),
        exchange("x3", "bo", "s1", 150, "opus"),
        exchange("x4", "ada", None, 300, "opus"),
    ]
    append(
        opened,
        "exchanges",
        [exchange_row(each, content_rows(each), PlainTexts()) for each in exchanges],
    )
    append(opened, "contents", [row for each in exchanges for row in content_rows(each)])
    yield opened
    opened.close()


@pytest.fixture
def reader(lake: Lake) -> Iterator[LakeReader]:
    opened = LakeReader(lake)
    yield opened
    opened.close()


@pytest.fixture
def sql(lake: Lake) -> Iterator[SqlConnection]:
    with connect(lake) as opened:
        yield opened


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def test_a_session_is_the_exchanges_of_one_caller(reader: LakeReader) -> None:
    assert reader.sessions(ADA)[1] == Session(
        session_id="s1",
        issuer="https://id",
        subject="ada",
        person="Ada",
        models=["haiku", "opus"],
        exchanges=2,
        first_at=at(100),
        last_at=at(200),
        endings={"delivered": 2},
        input_tokens=4,
        output_tokens=6,
    )


def test_sessions_come_newest_first_and_in_pages(reader: LakeReader) -> None:
    everyone = [(s.subject, s.session_id) for s in reader.sessions()]
    assert everyone == [("ada", "x4"), ("ada", "s1"), ("bo", "s1")]
    paged, key = list[Session](), None
    while page := reader.sessions(after=key, limit=1):
        paged += page
        key = page[-1].key
    assert [(s.subject, s.session_id) for s in paged] == everyone
    assert [s.session_id for s in reader.sessions(wanted=Filter(since=at(250)))] == ["x4"]


def test_the_exchanges_of_a_session_are_its_owners_only(reader: LakeReader) -> None:
    mine = reader.exchanges(ADA, "s1")
    assert [each.exchange_id for each in mine] == ["x1", "x2"]
    after = reader.exchanges(ADA, "s1", after=mine[0].key)
    assert [each.exchange_id for each in after] == ["x2"]
    assert [each.exchange_id for each in reader.exchanges(BO, "s1")] == ["x3"]
    assert reader.exchanges(Owner("https://id", "x' OR 1=1 --"), "s1") == []


def test_an_exchange_has_its_bodies(reader: LakeReader) -> None:
    found = reader.exchange("x1")
    assert found is not None
    assert (found.request_body, found.response_body) == (b"ask it's", b"\x00ok")
    assert (found.prompt_text, found.journal_id, found.sequence) == ("ask it's", "j", 100)
    assert reader.exchange("x9") is None


def test_new_rows_are_seen_by_an_open_reader(lake: Lake, reader: LakeReader) -> None:
    row = exchange_row(exchange("x5", "bo", "s2", 400, "opus"), [], PlainTexts())
    append(lake, "exchanges", [row])
    assert reader.sessions(BO)[0].session_id == "s2"


def test_auditors_query_the_views(sql: SqlConnection) -> None:
    query = "SELECT subject, count(*) FROM exchanges GROUP BY 1 ORDER BY 1"
    assert sql.execute(query).fetchall() == [("ada", 3), ("bo", 1)]
    joined = "SELECT count(*) FROM exchanges JOIN contents USING (exchange_id) WHERE subject = ?"
    assert sql.execute(joined, ["ada"]).fetchall() == [(6,)]
    empty = "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM proofs)"
    assert sql.execute(empty).fetchall() == [(0, 0)]
    assert sql.execute("DESCRIBE exchanges").fetchall()


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO '{warehouse}/out.csv'",
        "EXPORT DATABASE '{warehouse}/out'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{warehouse}/out.csv'",
        "SELECT 1; COPY (SELECT 1) TO '{warehouse}/out.csv'",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{warehouse}/out.csv''')",
        "COPY (SELECT 1) TO '{outside}/out.csv'",
        "SELECT * FROM read_text('{outside}/catalog.db')",
        "SELECT * FROM read_blob('{warehouse}/../catalog.db')",
        "SELECT * FROM read_blob('file://{outside}/catalog.db')",
        "SELECT * FROM '{outside}/secret.csv'",
        "SELECT * FROM glob('{outside}/*')",
        "SELECT * FROM read_csv('http://localhost/x.csv')",
        "SELECT * FROM sqlite_scan('{outside}/catalog.db', 'iceberg_tables')",
        "ATTACH '{outside}/other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD json",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "RESET lock_configuration",
        "PREPARE p AS COPY (SELECT 1) TO '{warehouse}/out.csv'",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW exchanges",
        "",
    ],
)
def test_auditors_sql_reads_the_tables_and_nothing_else(
    sql: SqlConnection, lake: Lake, tmp_path: Path, statement: str
) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    before = sorted(path for path in tmp_path.rglob("*") if path.suffix != ".db-journal")
    text = statement.format(warehouse=str(lake.warehouse).replace("'", "''"), outside=tmp_path)
    with pytest.raises((SqlRefusedError, duckdb.Error)):
        sql.execute(text).fetchall()
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_the_temporary_folder_is_no_way_out(sql: SqlConnection) -> None:
    found = sql.execute("SELECT current_setting('allowed_directories')").fetchall()
    assert [len(row[0]) for row in found] == [1]


def test_the_warehouse_is_for_its_owner_only(lake: Lake) -> None:
    assert lake.warehouse.stat().st_mode & 0o777 == 0o700


def test_tables_are_partitioned_by_day_and_retention_class(lake: Lake) -> None:
    for name in SHAPES:
        spec, schema = lake.load(name).spec(), lake.load(name).schema()
        sources = [schema.find_column_name(field.source_id) for field in spec.fields]
        assert sources == [SHAPES[name].time_column, "retention_class"]
        assert [str(field.transform) for field in spec.fields] == ["day", "identity"]


def test_an_older_table_gains_the_columns_it_lacks(tmp_path: Path) -> None:
    uri, warehouse = f"sqlite:///{tmp_path}/c.db", tmp_path / "warehouse"
    catalog = SqlCatalog(CATALOG_NAME, uri=uri, warehouse=warehouse.as_uri())
    catalog.create_namespace(NAMESPACE)
    full = SHAPES["events"].schema()
    fields = [f for f in full.fields if f.name not in {"peer", "record_digest"}]
    theirs = NestedField(99, "their_own", StringType(), required=False)
    spec = SHAPES["events"].partition_spec()
    catalog.create_table((NAMESPACE, "events"), Schema(*fields, theirs), partition_spec=spec)
    catalog.close()
    lake = open_lake(uri, warehouse)
    names = {field.name for field in lake.load("events").schema().fields}
    assert names == {field.name for field in full.fields} | {"their_own"}
    metadata = lake.load("events").metadata_location
    lake.close()
    again = open_lake(uri, warehouse)
    assert again.load("events").metadata_location == metadata
    again.close()


def test_a_body_may_build_on_an_exchange_that_arrived_after_it(tmp_path: Path) -> None:
    record(tmp_path, [[*recorded_exchange("late", 5), *recorded_exchange("slow", 1, base="late")]])
    lake = open_lake(f"sqlite:///{tmp_path}/catalog.db", tmp_path / "warehouse")
    found = LakeReader(lake).exchange("slow")
    assert found is not None
    assert found.request_body == b"asked lateasked slow"
    lake.close()
