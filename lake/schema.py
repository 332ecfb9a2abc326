"""The Iceberg tables: how columns are declared, and the tables beside `exchanges`.

Column names are frozen and evolve by adding only. Knows no catalog and no record type.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

Kind = Callable[[Iterator[int]], IcebergType]
"""Makes a type, taking the ids of its nested fields from the iterator."""

FIRST_NESTED_ID = 1000
"""Above the ids of columns, so that adding a column moves no nested id of a new table."""
FIRST_PARTITION_ID = 1000
"""As the Iceberg specification numbers partition fields."""


class Column(NamedTuple):
    """A column: name, type, what it means, and whether every row has it."""

    name: str
    kind: Kind
    doc: str
    required: bool = False


class TableShape(NamedTuple):
    """A table: its columns, and the timestamp whose day partitions it."""

    name: str
    time_column: str
    columns: tuple[Column, ...]
    unmeasured: tuple[str, ...] = ()
    """Columns that hold content: no statistics of them go into manifests."""

    def schema(self) -> Schema:
        """Return the Iceberg schema of a new table."""
        nested = count(FIRST_NESTED_ID)
        return Schema(
            *(
                NestedField(number, c.name, c.kind(nested), required=c.required, doc=c.doc)
                for number, c in enumerate(self.columns, start=1)
            )
        )

    def partition_spec(self) -> PartitionSpec:
        """Return `day(time)` and `retention_class`: what retention drops as a whole."""
        numbers = {c.name: number for number, c in enumerate(self.columns, start=1)}
        return PartitionSpec(
            PartitionField(numbers[self.time_column], FIRST_PARTITION_ID, DayTransform(), "day"),
            PartitionField(
                numbers["retention_class"],
                FIRST_PARTITION_ID + 1,
                IdentityTransform(),
                "retention_class",
            ),
        )

    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema that rows are written with."""
        return schema_to_pyarrow(self.schema(), include_field_ids=False)


def string(_: Iterator[int]) -> IcebergType:
    """Make a string."""
    return StringType()


def integer(_: Iterator[int]) -> IcebergType:
    """Make a 32-bit integer."""
    return IntegerType()


def long(_: Iterator[int]) -> IcebergType:
    """Make a 64-bit integer."""
    return LongType()


def double(_: Iterator[int]) -> IcebergType:
    """Make a double."""
    return DoubleType()


def boolean(_: Iterator[int]) -> IcebergType:
    """Make a boolean."""
    return BooleanType()


def binary(_: Iterator[int]) -> IcebergType:
    """Make a byte string."""
    return BinaryType()


def time(_: Iterator[int]) -> IcebergType:
    """Make a UTC timestamp in microseconds."""
    return TimestamptzType()


def list_of(element: Kind) -> Kind:
    """Make a list without nulls in it."""

    def kind(ids: Iterator[int]) -> IcebergType:
        return ListType(element_id=next(ids), element=element(ids), element_required=True)

    return kind


def string_map(ids: Iterator[int]) -> IcebergType:
    """Make a map of strings."""
    return MapType(
        key_id=next(ids),
        key_type=StringType(),
        value_id=next(ids),
        value_type=StringType(),
        value_required=True,
    )


def struct(**fields: Kind) -> Kind:
    """Make a struct whose fields are all required."""

    def kind(ids: Iterator[int]) -> IcebergType:
        return StructType(
            *(NestedField(next(ids), name, of(ids), required=True) for name, of in fields.items())
        )

    return kind


PLACE = (
    Column("schema_version", integer, "Version of the record this row was made from", True),
    Column(
        "journal_id", string, "Journal that holds the record (of an exchange: its closing)", True
    ),
    Column("sequence", long, "Number of that record in its journal", True),
)
"""Where a row comes from, on every table that is made from records."""

CHAIN = (
    *PLACE,
    Column("record_digest", string, "SHA-256 of this row, as lake/digests.py defines it"),
    Column("previous_digest", string, "That of the row before in its journal; null for the first"),
)
"""The same, of rows that are chained; a piece is bound by its digest in its exchange's row."""

CONTENTS = TableShape(
    name="contents",
    time_column="started_at",
    unmeasured=("data",),
    columns=(
        Column("piece_id", string, "Unique id of the piece; exchanges list it", True),
        Column("exchange_id", string, "Exchange that brought the piece", True),
        Column("side", string, "request or response", True),
        Column("position", integer, "Place among the pieces of its side, from 0", True),
        Column("started_at", time, "When that exchange started", True),
        Column("retention_class", string, "How long the row is kept, by policy", True),
        Column("media_type", string, "Content type of the body the piece is part of"),
        Column("size", long, "Bytes in data", True),
        Column("digest", string, "SHA-256 of data, in hexadecimal", True),
        Column("protection", string, "plain or sealed", True),
        Column("key_id", string, "Key that sealed data; null until content can be sealed"),
        Column("data", binary, "The bytes as recorded: after masking, as released", True),
        *PLACE,
    ),
)

EVENTS = TableShape(
    name="events",
    time_column="occurred_at",
    unmeasured=("message", "detail_json"),
    columns=(
        Column("event_id", string, "Unique id of the event", True),
        Column("occurred_at", time, "When it happened", True),
        Column("retention_class", string, "How long the row is kept", True),
        Column("kind", string, "Dotted kind, e.g. approval.opened or access.refused", True),
        Column("outcome", string, "What came of it, e.g. allow or deny"),
        Column("issuer", string, "Issuer of who acted"),
        Column("subject", string, "Who acted, as the issuer names them"),
        Column("person", string, "The human behind the account"),
        Column("exchange_id", string, "Exchange it is about"),
        Column("session_id", string, "Session it is about"),
        Column("peer", string, "Address of the socket's peer"),
        Column("reason", string, "Stable dotted code of why"),
        Column("message", string, "The same in one sentence"),
        Column("count", long, "How many alike this row stands for", True),
        Column("policy_revision", string, "Revision of the policy bundle in force"),
        Column("detail_json", string, "Facts particular to the kind, as JSON"),
        *CHAIN,
    ),
)

PROOFS = TableShape(
    name="proofs",
    time_column="sealed_at",
    columns=(
        Column("journal_id", string, "Journal whose records are sealed", True),
        Column("first_sequence", long, "Number of the first record", True),
        Column("last_sequence", long, "Number of the last record", True),
        Column("record_count", long, "Records read; less than the numbers hold if any lack", True),
        Column(
            "digests",
            list_of(struct(sequence=long, table=string, digest=string)),
            "The record_digest of every row made from these records, in order",
            True,
        ),
        Column("root", string, "SHA-256 over all of this, as lake/digests.py defines it", True),
        Column("previous_root", string, "Root of the proof before; null for a journal's first"),
        Column("signature", binary, "Ed25519 signature of root", True),
        Column("key_id", string, "Key that signed", True),
        Column("sealed_at", time, "When it was sealed", True),
        Column("retention_class", string, "How long the row is kept: the longest", True),
        Column("schema_version", integer, "Version of the digest's definition", True),
    ),
)
