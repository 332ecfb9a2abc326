"""The catalog and its four tables: opened, created where missing, grown by columns.

Knows no record and no journal. The catalog's name is part of the contract: other engines must
use the same one to find the tables.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import (
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError

from lake.exchanges import EXCHANGES
from lake.schema import CONTENTS, EVENTS, PROOFS, TableShape

CATALOG_NAME: Final = "countersign"
NAMESPACE: Final = "countersign"
SHAPES: Final = {shape.name: shape for shape in (CONTENTS, EVENTS, EXCHANGES, PROOFS)}
CREATE_TRIES: Final = 4
"""Several processes may open a new catalog at one time; each try finds more of it there."""

RETRIES: Final = "commit.retry.num-retries"
TABLE_PROPERTIES: Final = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "3",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # Else each commit lists one manifest more, and commits cost more and more; and a merge must not
    # rewrite all that there ever was: 0.2 ms for each file in it.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "50",
    "commit.manifest.target-size-bytes": str(256 * 1024),
    # For maintenance by other engines; the recorder's own commits never retry by themselves.
    RETRIES: "20",
    "commit.retry.min-wait-ms": "20",
    "commit.retry.max-wait-ms": "500",
    "commit.retry.total-timeout-ms": "60000",
}


logger = logging.getLogger(__name__)


class Lake:
    """The tables of one catalog."""

    def __init__(self, catalog: Catalog, warehouse: Path) -> None:
        self._catalog = catalog
        self.warehouse = warehouse
        self._arrow = {name: shape.arrow_schema() for name, shape in SHAPES.items()}

    def load(self, name: str) -> Table:
        """Return the table as the catalog has it now."""
        return self._catalog.load_table((NAMESPACE, name))

    def arrow_schema(self, name: str) -> pa.Schema:
        """Return the Arrow schema that the table's rows are written with."""
        return self._arrow[name]

    def metadata_location(self, name: str) -> str:
        """Return where the current metadata of the table lies."""
        return self.load(name).metadata_location

    def commit(self, table: Table, rows: pa.Table | None, properties: Mapping[str, str]) -> None:
        """Append rows and set properties, both or neither.

        Never retries: a retry inside would not look at the cursors again. Any error but
        `CommitFailedException` leaves the outcome unknown.
        """
        table.metadata.properties[RETRIES] = "0"  # this loaded copy only; it is never written back
        with table.transaction() as transaction:
            if rows is not None:
                transaction.append(rows)
            transaction.set_properties(dict(properties))

    def forget(self, table: Table, properties: Iterable[str]) -> None:
        """Remove properties of a table."""
        table.metadata.properties[RETRIES] = "0"
        with table.transaction() as transaction:
            transaction.remove_properties(*properties)

    def expire(self, name: str, keep: int) -> int:
        """Drop the oldest live snapshots but the last `keep`; returns how many.

        Tags and branches keep theirs. Removes no file: that is maintenance.
        """
        table = self.load(name)
        held = {ref.snapshot_id for ref in table.metadata.refs.values()}
        snapshots = sorted(table.snapshots(), key=lambda snapshot: snapshot.sequence_number or 0)
        gone = [s.snapshot_id for s in snapshots[:-keep] if s.snapshot_id not in held]
        if gone:
            table.maintenance.expire_snapshots().by_ids(gone).commit()
        return len(gone)

    def close(self) -> None:
        """Let go of the catalog's connections."""
        self._catalog.close()


def open_lake(uri: str, warehouse: Path) -> Lake:
    """Open the catalog at a SQLAlchemy `uri`, creating what is missing.

    Args:
        uri: The catalog's database, e.g. `sqlite:////var/lib/countersign/catalog.db`.
        warehouse: Folder of the tables' files; made with access for the owner only.
    """
    folder = warehouse.resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for _ in range(CREATE_TRIES - 1):
        try:
            return _open(uri, folder)
        except (SQLAlchemyError, NamespaceAlreadyExistsError):
            logger.info("catalog_retried")  # another process is creating the same just now
    return _open(uri, folder)


def _open(uri: str, folder: Path) -> Lake:
    # Not `as_uri()`: PyIceberg takes the path as it stands and would not decode it.
    catalog = SqlCatalog(CATALOG_NAME, uri=uri, warehouse=f"file://{folder}")
    catalog.create_namespace_if_not_exists(NAMESPACE)
    for shape in SHAPES.values():
        _add_missing_columns(_load_or_create(catalog, shape), shape)
    return Lake(catalog, folder)


def _load_or_create(catalog: Catalog, shape: TableShape) -> Table:
    identifier = (NAMESPACE, shape.name)
    try:
        return catalog.load_table(identifier)
    except NoSuchTableError:
        unmeasured = {f"write.metadata.metrics.column.{name}": "none" for name in shape.unmeasured}
        try:
            return catalog.create_table(
                identifier,
                shape.schema(),
                partition_spec=shape.partition_spec(),
                properties=TABLE_PROPERTIES | unmeasured,
            )
        except TableAlreadyExistsError:  # another host was first
            return catalog.load_table(identifier)


def _add_missing_columns(table: Table, shape: TableShape) -> None:
    present = {field.name for field in table.schema().fields}
    missing = [field for field in shape.schema().fields if field.name not in present]
    if not missing:
        return
    with table.update_schema() as update:
        for field in missing:
            update.add_column(field.name, field.field_type, doc=field.doc)
