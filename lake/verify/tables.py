"""The tables under verification, in a database of its own that may spill to disk.

They are read from their metadata files alone, so a copied warehouse needs no catalog.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlparse

import duckdb
import pyarrow as pa

from lake.catalog import NAMESPACE, SHAPES, Lake
from lake.duck import lock, open_duckdb, quoted
from lake.intake import COMMIT_ORDER

MEMORY: Final = "1GB"
"""What the database may hold before it spills."""

UNREADABLE: Final = (duckdb.Error, pa.ArrowException, OSError)
"""What reading a table raises when its files are not there or not what they must be."""

_SUFFIX = ".metadata.json"
_VERSION = re.compile(r"^(\d+)-")


class Tables:
    """The four tables as they were when opened."""

    def __init__(
        self,
        locations: Mapping[str, Path],
        warehouse: Path,
        spill: Path,
        left_out: Sequence[str] = (),
    ) -> None:
        self._locations = locations
        self.left_out = tuple(left_out)
        """Metadata files that are part of no table: a commit was under way, or failed."""
        self._connection = open_duckdb(warehouse, spill)
        self._connection.execute(f"SET memory_limit = {quoted(MEMORY)}")
        for name, location in locations.items():
            folder = quoted(str(location.parent.parent))
            version = quoted(location.name.removesuffix(_SUFFIX))
            self._connection.execute(
                f"CREATE VIEW {name} AS SELECT * FROM "  # noqa: S608 - names and paths of our own
                f"iceberg_scan({folder}, version = {version}, allow_moved_paths = true)"
            )
        lock(self._connection)

    def properties(self, name: str) -> dict[str, str]:
        """Return the properties of a table."""
        properties = json.loads(self._locations[name].read_text()).get("properties", {})
        return {str(key): str(value) for key, value in properties.items()}

    def run(self, sql: str, parameters: object = None) -> duckdb.DuckDBPyConnection:
        """Run a statement."""
        return self._connection.execute(sql, parameters)

    def insert(self, name: str, rows: pa.Table) -> None:
        """Add rows to a table of this database."""
        self._connection.register("rows_to_insert", rows)
        self._connection.execute(f"INSERT INTO {name} SELECT * FROM rows_to_insert")  # noqa: S608 - a name of our own
        self._connection.unregister("rows_to_insert")

    def count(self, sql: str) -> int:
        """Return the one number that a query gives."""
        row = self._connection.execute(sql).fetchone()
        return int(row[0]) if row else 0

    def batches(self, sql: str, size: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a query, in a cursor of its own."""
        with self._connection.cursor() as cursor:
            yield from cursor.execute(sql).to_arrow_reader(size)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()


@contextmanager
def opened(tables: Tables) -> Iterator[Tables]:
    """Close the tables at the end."""
    try:
        yield tables
    finally:
        tables.close()


def of_lake(lake: Lake, spill: Path) -> Tables:
    """Return the tables of a catalog as it has them now.

    Against the order of commits: what a table is checked against is never newer than itself.
    """
    locations = {
        name: Path(urlparse(lake.metadata_location(name)).path) for name in reversed(COMMIT_ORDER)
    }
    return Tables(locations, lake.warehouse, spill)


def of_copy(warehouse: Path, spill: Path) -> Tables:
    """Return the newest tables in a copied warehouse.

    Metadata that can't be read whole was being written, and is left out; so is what another of the
    same version took the place of.

    Raises:
        FileNotFoundError: a table has no metadata there.
    """
    folder = warehouse.resolve()
    locations, left_out = dict[str, Path](), list[str]()
    for name in SHAPES:
        whole, broken = _metadata(folder / NAMESPACE / name / "metadata")
        if not whole:
            raise FileNotFoundError(f"{warehouse}: holds no table {NAMESPACE}.{name}")
        newest = max(whole)
        locations[name] = newest.path
        aside = [each.path for each in whole if each.version == newest.version and each != newest]
        left_out += [str(path.relative_to(folder)) for path in sorted([*broken, *aside])]
    return Tables(locations, folder, spill, left_out)


class _Metadata(NamedTuple):
    version: int
    updated_ms: int
    path: Path


def _metadata(folder: Path) -> tuple[list[_Metadata], list[Path]]:
    """Return a table's metadata files that are whole, and the others."""
    whole, broken = [], []
    for path in folder.glob(f"*{_SUFFIX}"):
        version = _VERSION.match(path.name)
        if version is None:
            continue
        try:
            updated_ms = int(json.loads(path.read_bytes())["last-updated-ms"])
        except (ValueError, KeyError, TypeError):
            broken.append(path)
        else:
            whole.append(_Metadata(int(version[1]), updated_ms, path))
    return whole, broken
