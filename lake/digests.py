"""What is signed: the digest of a row, and the root over a stretch of a journal.

Defined for `schema_version` 1, so that anyone can compute them again from the tables:

- The *canonical bytes* of a row are JSON in UTF-8: one object of all its columns but
  `record_digest`, without those that are null, names in ascending order, no blanks, only the
  escapes that JSON demands; times as microseconds since the epoch, maps as arrays of pairs.
- Its `record_digest` is SHA-256, in hexadecimal, over the table's name, a newline and these bytes.
  They hold `previous_digest`, that of the row before in its journal, which chains them.
- The root of a stretch is SHA-256 over the JSON array of `PROOF`, the journal, the first and last
  sequence, the number of records, an array of [sequence, table, record_digest], the root of the
  stretch before ("" for the first) and the time of sealing.

Pure.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

PROOF: Final = "countersign.proof.1"
NOT_COVERED: Final = frozenset({"record_digest"})

_encode = msgspec.json.Encoder(order="sorted").encode


class Digest(msgspec.Struct, frozen=True, array_like=True):
    """That a journal's record with this number became a row with this digest."""

    sequence: int
    table: str
    digest: str


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """What is sealed at once: a run of a journal's records, and the rows made from them."""

    journal_id: str
    first_sequence: int
    last_sequence: int
    record_count: int
    """Less than the sequences would hold if records are missing."""
    digests: tuple[Digest, ...]
    previous_root: str
    """Of the stretch before; empty for the first of a journal."""
    sealed_at: int
    """Microseconds since the epoch."""

    @property
    def root(self) -> str:
        """What is signed, in hexadecimal."""
        document = (
            PROOF,
            self.journal_id,
            self.first_sequence,
            self.last_sequence,
            self.record_count,
            self.digests,
            self.previous_root,
            self.sealed_at,
        )
        return hashlib.sha256(_encode(document)).hexdigest()


def canonical(row: Mapping[str, object]) -> bytes:
    """Return the canonical bytes of a row; times are given as microseconds since the epoch."""
    return _encode({k: v for k, v in row.items() if v is not None and k not in NOT_COVERED})


def record_digest(table: str, row: Mapping[str, object]) -> str:
    """Return the digest of a row that holds its `previous_digest`."""
    return hashlib.sha256(table.encode() + b"\n" + canonical(row)).hexdigest()
