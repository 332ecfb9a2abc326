"""Audit records and the frames that carry them in a journal; all that `lake` shares with `gateway`.

A frame is `length u32 | sequence u64 | crc32 u32 | crc32 u32 | payload`, little-endian. The first
checksum covers length and sequence, so that a damaged length is told from a torn frame; the second
covers these and the payload, which is one MessagePack record. Pure: bytes in, bytes out. Knows no
files and no Iceberg.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from gateway.domain import (
    ApprovalId,
    Content,
    Durability,
    Ending,
    ExchangeId,
    Fact,
    Outcome,
    Principal,
    Protection,
    Reason,
    Request,
)

SCHEMA_VERSION = 1
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Above the largest body (32 MB) with room for its facts."""

_PLACE = struct.Struct("<IQ")
_HEADER = struct.Struct("<IQII")


class Decided(Fact, frozen=True, kw_only=True):
    """A decision as recorded: enough to ask the same question again."""

    number: int
    outcome: Outcome
    reasons: tuple[Reason, ...]
    revision: str
    input_json: bytes
    result_json: bytes


class Recording(Fact, frozen=True, kw_only=True):
    """What policy said about this record, and why."""

    content: Content
    durability: Durability
    retention_class: str
    protection: Protection
    reasons: tuple[str, ...]


class Kept(Fact, frozen=True, kw_only=True, array_like=True):
    """A run of pieces that an exchange's base holds too, by their places there."""

    start: int
    count: int


Part = bytes | Kept
"""Of a request body: a new piece, or pieces kept from the base."""


class Opening(Fact, frozen=True, kw_only=True, tag="opening"):
    """An exchange as it was before anything left the gateway."""

    exchange_id: ExchangeId
    at_ns: int
    """Nanoseconds since the epoch, as every `at_ns`."""
    peer: str
    user_agent: str
    path: str
    query: str
    headers: dict[str, str]
    """`anthropic-*` and `x-claude-code-*` headers; never a credential."""
    principal: Principal
    request: Request
    decision: Decided | None
    """None when the exchange was never decided."""
    endpoint: str
    recording: Recording
    base: ExchangeId | None = None
    """The exchange whose pieces `parts` keeps; opened earlier in the same journal."""
    parts: tuple[Part, ...] | None
    """The request as recorded; None when content is not recorded."""


class Redecided(Fact, frozen=True, kw_only=True, tag="redecided"):
    """A further decision inside an exchange, after a verdict or a lapse of time."""

    exchange_id: ExchangeId
    at_ns: int
    decision: Decided
    approval_id: ApprovalId | None


class Answered(Fact, frozen=True, kw_only=True, tag="answered"):
    """Status and headers of the answer, before they were released to the caller."""

    exchange_id: ExchangeId
    at_ns: int
    status: int
    headers: dict[str, str]
    upstream_request_id: str


class Chunk(Fact, frozen=True, kw_only=True, tag="chunk"):
    """Bytes of the answer, as released to the caller; written before they were."""

    exchange_id: ExchangeId
    at_ns: int
    data: bytes
    """Empty when content is not recorded."""
    size: int


class MaskApplied(Fact, frozen=True, kw_only=True):
    """That a rule replaced something, how often and where; never the value."""

    rule: str
    where: str
    count: int


class Usage(Fact, frozen=True, kw_only=True):
    """Token counts as the Claude server reported them; None where it did not."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class Closing(Fact, frozen=True, kw_only=True, tag="closing"):
    """How an exchange ended. Exactly one per exchange."""

    exchange_id: ExchangeId
    at_ns: int
    ending: Ending
    status: int
    """HTTP status released to the caller; 0 when none was."""
    error_code: str = ""
    error_message: str = ""
    approval_id: ApprovalId | None = None
    first_byte_ns: int | None = None
    """When the first byte of the body was released; since the epoch."""
    first_token_ns: int | None = None
    """When the first content of the answer was released; since the epoch."""
    released_bytes: int = 0
    response_model: str = ""
    response_id: str = ""
    stop_reason: str = ""
    tool_calls: tuple[str, ...] = ()
    usage: Usage = Usage()
    masks: tuple[MaskApplied, ...] = ()


class Event(Fact, frozen=True, kw_only=True, tag="event"):
    """An audit fact beside the exchanges: approvals, access to records, refusals, failures."""

    event_id: str
    at_ns: int
    kind: str
    """Dotted, e.g. `approval.opened`, `access.refused`, `records.read`."""
    outcome: str = ""
    issuer: str = ""
    sub: str = ""
    person: str = ""
    exchange_id: str = ""
    session_id: str = ""
    peer: str = ""
    reason: str = ""
    message: str = ""
    count: int = 1
    revision: str = ""
    detail_json: str = "{}"


Record = Opening | Redecided | Answered | Chunk | Closing | Event

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


class Frame(Fact, frozen=True, kw_only=True):
    """A record with its place in a segment."""

    sequence: int
    offset: int
    """Of its first byte in the segment."""
    end: int
    """Of the byte after its last in the segment."""
    record: Record


class Position(NamedTuple):
    """A place in a journal; ordered."""

    segment: int
    offset: int


class CorruptFrame(Exception):
    """A whole frame that is not what was written: never read as data."""

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(f"corrupt frame at byte {offset}: {why}")
        self.offset = offset


def encode_frame(sequence: int, record: Record) -> bytes:
    """Return the frame of a record."""
    payload = _encoder.encode(record)
    if len(payload) > MAX_FRAME_BYTES:
        raise ValueError(f"a record of {len(payload)} bytes exceeds the frame limit")
    place = zlib.crc32(_PLACE.pack(len(payload), sequence))
    checksum = zlib.crc32(payload, place)
    return _HEADER.pack(len(payload), sequence, place, checksum) + payload


def decode_frames(data: bytes | memoryview, offset: int = 0) -> Iterator[Frame]:
    """Yield the whole frames of `data`, a part of a segment that starts at byte `offset`.

    Stops at a torn tail: fewer bytes than a header has, or than an undamaged header says. A frame
    with a wrong checksum or record raises `CorruptFrame`.
    """
    view = memoryview(data)
    position = 0
    while position + _HEADER.size <= len(view):
        length, sequence, place, checksum = _HEADER.unpack_from(view, position)
        start, end = position + _HEADER.size, position + _HEADER.size + length
        if zlib.crc32(view[position : position + _PLACE.size]) != place:
            raise CorruptFrame(offset + position, "its length or number is damaged")
        if end > len(view):
            return
        if zlib.crc32(view[start:end], place) != checksum:
            raise CorruptFrame(offset + position, "checksum mismatch")
        try:
            record = _decoder.decode(view[start:end])
        except msgspec.MsgspecError as e:
            raise CorruptFrame(offset + position, f"not a record: {e}") from e
        yield Frame(sequence=sequence, offset=offset + position, end=offset + end, record=record)
        position = end
