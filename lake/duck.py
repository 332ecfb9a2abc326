"""A DuckDB that can read the warehouse's folder and nothing else.

Its extensions come with their packages; nothing is ever downloaded. Knows no table.
"""

from pathlib import Path
from types import ModuleType

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg

_EXTENSIONS = (("avro", duckdb_extension_avro), ("iceberg", duckdb_extension_iceberg))
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
}


def open_duckdb(warehouse: Path, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Return an in-memory database that may read the folder; call `lock` once it is set up.

    It may also use the folder `spill`, for what does not fit into memory; else nothing spills.
    """
    connection = duckdb.connect(":memory:", config=_CONFIG)
    for name, package in _EXTENSIONS:
        connection.execute(f"LOAD {quoted(str(_extension(name, package)))}")
    connection.execute("SET TimeZone = 'UTC'")
    # A temporary directory is a second allowed one, so there is none unless it is asked for.
    connection.execute(f"SET temp_directory = {quoted(str(spill or ''))}")
    connection.execute(f"SET allowed_directories = [{quoted(str(warehouse))}]")
    connection.execute("SET enable_external_access = false")
    return connection


def lock(connection: duckdb.DuckDBPyConnection) -> None:
    """Make every setting of the database final."""
    connection.execute("SET lock_configuration = true")


def quoted(text: str) -> str:
    """Return a string literal; for paths of our own, where DuckDB takes no parameter."""
    return "'" + text.replace("'", "''") + "'"


def _extension(name: str, package: ModuleType) -> Path:
    folder = Path(str(package.__file__)).parent / "extensions" / f"v{duckdb.__version__}"
    return folder / f"{name}.duckdb_extension"
