"""Rows and pieces: each computed again and compared with what was sealed.

Only digests are kept while rows are read; they are compared by joins that may spill.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa

from lake.catalog import SHAPES
from lake.digests import record_digest
from lake.verify.report import Progress, Report
from lake.verify.tables import UNREADABLE, Tables

CHAINED: Final = {"exchanges": "exchange_id", "events": "event_id"}
"""Tables whose rows are chained, and what their rows are called by."""

_BATCH: Final = 1000


def check_rows(
    tables: Tables,
    report: Report,
    since: int,
    live: Iterable[str],
    host: str,
    progress: Progress,
) -> None:
    """Check rows and pieces; the tables `starts`, `sealed` and `spans` are there already.

    Rows after the last proof of a `live` journal, or of one of another host than `host`, are
    counted only: recorders commit tables one after the other and sign last.
    """
    tables.run("CREATE TABLE live (journal_id VARCHAR)")
    for journal_id in live:
        tables.run("INSERT INTO live VALUES (?)", [journal_id])
    if host:
        tables.run(_OF_OTHER_HOSTS, [host])
    scopes = {table: _scope(table, since) for table in (*CHAINED, "contents")}
    tables.run(_FOUND_TABLE)
    for table in CHAINED:
        try:
            report.coverage.rows += _compute(tables, table, scopes[table], progress)
        except UNREADABLE as e:
            report.find("unreadable", f"table {table}", str(e).partition("\n")[0][:300])
    for kind, message, sql in _ROW_CHECKS:
        for table, name, journal_id, sequence in tables.run(sql).fetchall():
            row = f"{table} {name}" if name else f"a row of {table}"
            report.find(kind, f"{row} (journal {journal_id}, record {sequence})", message)
    _check_pieces(tables, report, scopes, progress)
    report.coverage.unsigned_rows = tables.count(_UNSIGNED)


def _scope(table: str, since: int) -> str:
    """Return the rows that proofs cover, or that none covers, and all that began since then."""
    if since == 0:
        return "true"
    time = SHAPES[table].time_column
    return (
        f"(epoch_us({time}) >= {since:d} OR NOT EXISTS (SELECT 1 FROM starts s "  # noqa: S608 - our own names and a number
        "WHERE s.journal_id = t.journal_id AND t.sequence < s.first))"
    )


def _compute(tables: Tables, table: str, scope: str, progress: Progress) -> int:
    """Compute the digests of a table's rows into `found`; returns how many."""
    columns = ", ".join(
        f'epoch_us("{field.name}") AS "{field.name}"'
        if pa.types.is_timestamp(field.type)
        else f'"{field.name}"'
        for field in SHAPES[table].arrow_schema()
    )
    total = tables.count(f"SELECT count(*) FROM {table} t WHERE {scope}")  # noqa: S608 - our own names
    done = 0
    sql = f"SELECT {columns} FROM {table} t WHERE {scope}"  # noqa: S608 - our own names
    for batch in tables.batches(sql, _BATCH):
        tables.insert("found", pa.Table.from_pylist(list(_digests(table, batch)), schema=_FOUND))
        done += len(batch)
        progress(table, done, total)
    return done


def _digests(table: str, batch: pa.RecordBatch) -> Iterator[dict[str, object]]:
    """Yield what is kept of each row; column by column is how Arrow gives values fast."""
    names = batch.schema.names
    columns = [batch.column(name).to_pylist() for name in names]
    for values in zip(*columns, strict=True):
        row = dict(zip(names, values, strict=True))
        yield {
            "table": table,
            "id": row[CHAINED[table]],
            "journal_id": row["journal_id"],
            "sequence": row["sequence"],
            "stated": row["record_digest"],
            "digest": record_digest(table, row),
        }


def _check_pieces(
    tables: Tables, report: Report, scopes: dict[str, str], progress: Progress
) -> None:
    total = tables.count(f"SELECT count(*) FROM contents t WHERE {scopes['contents']}")  # noqa: S608 - our own names
    progress("contents", 0, total)
    tables.run(_EXPECTED.format(scope=scopes["exchanges"]))
    tables.run(_PRESENT.format(scope=scopes["contents"]))
    for kind, message, sql in _PIECE_CHECKS:
        for (piece_id,) in tables.run(sql).fetchall():
            report.find(kind, f"contents {piece_id}", message)
    report.coverage.pieces += total
    progress("contents", total, total)


_FOUND_TYPES: Final[dict[str, pa.DataType]] = {
    "table": pa.string(),
    "id": pa.string(),
    "journal_id": pa.string(),
    "sequence": pa.int64(),
    "stated": pa.string(),
    "digest": pa.string(),
}
_FOUND: Final = pa.schema(_FOUND_TYPES)
_FOUND_TABLE: Final = """
CREATE TABLE found (
    "table" VARCHAR, id VARCHAR, journal_id VARCHAR, sequence BIGINT, stated VARCHAR, digest VARCHAR
)
"""
_ROW_CHECKS: Final = (
    (
        "edited",
        "it is not what its digest says",
        """SELECT "table", id, journal_id, sequence FROM found
           WHERE stated IS DISTINCT FROM digest""",
    ),
    (
        "edited",
        "it and its digest are not what was signed",
        """SELECT f."table", f.id, f.journal_id, f.sequence
           FROM found f JOIN sealed s USING (journal_id, sequence, "table")
           WHERE f.stated = f.digest AND s.digest <> f.digest""",
    ),
    (
        "added",
        "no proof covers it",
        """SELECT "table", id, journal_id, sequence
           FROM found ANTI JOIN sealed USING (journal_id, sequence, "table")
           JOIN spans USING (journal_id) WHERE sequence <= spans.last""",
    ),
    (
        "unsigned",
        "it is newer than the last proof of its journal, which this host does not have any more",
        """SELECT "table", id, journal_id, sequence
           FROM found ANTI JOIN live USING (journal_id) LEFT JOIN spans USING (journal_id)
           WHERE sequence > coalesce(spans.last, -1)""",
    ),
    (
        "missing",
        "a proof says that it was there",
        """SELECT "table", '', journal_id, sequence
           FROM sealed ANTI JOIN found USING (journal_id, sequence, "table")""",
    ),
    (
        "duplicate",
        "it is there more than once",
        """SELECT "table", any_value(id), journal_id, sequence FROM found
           GROUP BY journal_id, sequence, "table" HAVING count(*) > 1""",
    ),
)
_EXPECTED: Final = """
CREATE TABLE expected AS
SELECT p.piece_id AS piece_id, p.digest AS digest, exchange_id, started_at, retention_class,
       recording_protection AS protection, journal_id, sequence
FROM (SELECT *, unnest(content_digests) AS p FROM exchanges t WHERE {scope})
"""
_PRESENT: Final = """
CREATE TABLE present AS
SELECT piece_id, digest AS stated, sha256(data) AS digest, journal_id, sequence, size,
       octet_length(data) AS length, exchange_id, started_at, retention_class, protection
FROM contents t WHERE {scope}
"""
_OF_OTHER_HOSTS: Final = """
INSERT INTO live SELECT journal_id FROM events
WHERE kind = 'journal.began' AND json_extract_string(detail_json, '$.host') <> ?
"""
_UNSIGNED: Final = """
SELECT count(*) FROM found JOIN live USING (journal_id) LEFT JOIN spans USING (journal_id)
WHERE sequence > coalesce(spans.last, -1)
"""
_PIECE_CHECKS: Final = (
    (
        "edited",
        "its bytes are not what its exchange says",
        """SELECT p.piece_id FROM present p JOIN expected e USING (piece_id)
           WHERE p.digest <> e.digest OR p.stated <> e.digest OR p.size <> p.length""",
    ),
    (
        "edited",
        "it is not where, or kept as, its exchange is",
        """SELECT p.piece_id FROM present p JOIN expected e USING (piece_id)
           WHERE (p.exchange_id, p.started_at, p.retention_class, p.protection, p.journal_id,
                  p.sequence) <> (e.exchange_id, e.started_at, e.retention_class, e.protection,
                  e.journal_id, e.sequence)""",
    ),
    (
        "missing",
        "its exchange says that it was there",
        "SELECT piece_id FROM expected ANTI JOIN present USING (piece_id)",
    ),
    (
        "added",
        "no exchange says that it was there",
        """SELECT piece_id FROM present ANTI JOIN expected USING (piece_id)
           LEFT JOIN spans USING (journal_id)
           WHERE sequence <= coalesce(spans.last, -1)
              OR journal_id NOT IN (SELECT journal_id FROM live)""",
    ),
    (
        "duplicate",
        "it is there more than once",
        "SELECT piece_id FROM present GROUP BY piece_id HAVING count(*) > 1",
    ),
)
