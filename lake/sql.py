"""Free SQL over the tables, for auditors: reads them and nothing else.

DuckDB's own lock keeps it to the warehouse's folder, where it could still write; that only a
SELECT is run keeps it from that.
"""

from collections.abc import Sequence
from typing import Final, Self

import duckdb

from lake.catalog import SHAPES, Lake
from lake.duck import lock, open_duckdb, quoted


class SqlRefusedError(ValueError):
    """A statement that is not one SELECT."""


class SqlConnection:
    """The tables as views `exchanges`, `contents`, `events`, `proofs` and `bodies`.

    All as of one moment.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> duckdb.DuckDBPyConnection:
        """Run one SELECT; anything else raises `SqlRefusedError` and does nothing."""
        statements = self._connection.extract_statements(sql)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise SqlRefusedError("only a single SELECT is run")
        return self._connection.execute(statements[0], parameters)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(lake: Lake) -> SqlConnection:
    """Return a connection to the tables as they are now."""
    connection = open_duckdb(lake.warehouse)
    for name in SHAPES:
        location = quoted(lake.metadata_location(name))
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM iceberg_scan({location})")  # noqa: S608 - names and paths of our own
    connection.execute(_BODIES)
    lock(connection)
    return SqlConnection(connection)


_BODIES: Final = """
CREATE VIEW bodies AS
WITH RECURSIVE composed AS (
    SELECT exchange_id, list_transform(request_parts, lambda part: part.piece_id) AS pieces,
           response_pieces
    FROM exchanges WHERE base_exchange_id IS NULL
    UNION ALL
    SELECT e.exchange_id,
           flatten(list_transform(e.request_parts, lambda part:
               CASE WHEN part.piece_id = ''
                    THEN base.pieces[part.start + 1 : part.start + part.count]
                    ELSE [part.piece_id] END)),
           e.response_pieces
    FROM exchanges e JOIN composed base ON e.base_exchange_id = base.exchange_id
), placed AS (
    SELECT exchange_id, unnest(pieces) AS piece_id, generate_subscripts(pieces, 1) AS place
    FROM composed
), requests AS (
    SELECT placed.exchange_id, string_agg(decode(data), '' ORDER BY place) AS request_body
    FROM placed JOIN contents USING (piece_id) GROUP BY placed.exchange_id
)
SELECT composed.exchange_id, request_body, data AS response_body
FROM composed
LEFT JOIN requests USING (exchange_id)
LEFT JOIN contents ON contents.piece_id = composed.response_pieces[1]
"""
"""What the request and the answer of an exchange were, put together from their pieces."""
