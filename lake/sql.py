"""Free SQL over the tables, for auditors: reads them and nothing else.

DuckDB's own lock keeps it to the warehouse's folder, where it could still write; that only a
SELECT is run keeps it from that.
"""

from collections.abc import Sequence
from typing import Self

import duckdb

from lake.catalog import SHAPES, Lake
from lake.duck import lock, open_duckdb, quoted


class SqlRefusedError(ValueError):
    """A statement that is not one SELECT."""


class SqlConnection:
    """The tables as views `exchanges`, `contents`, `events`, `proofs`, as of one moment."""

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
    lock(connection)
    return SqlConnection(connection)
