"""Records of exchanges for tests, made up but whole."""

from collections.abc import Sequence

from gateway.domain import (
    Content,
    Context,
    Ending,
    ExchangeId,
    Principal,
    Protection,
    Request,
    Route,
)
from gateway.messages.answers import read_prompt_text, read_response_text, read_stream_part
from gateway.messages.sse import encode_event
from gateway.records import (
    Answered,
    Chunk,
    Closing,
    MaskApplied,
    Opening,
    Part,
    Record,
    Recording,
)

SECOND = 10**9
START_NS = 1_000 * SECOND
BODY = (b'{"messages": [', b'{"role": "user", "content": "hello"}', b"]}")
"""A request in pieces."""


class Texts:
    def prompt_text(self, pieces: Sequence[bytes]) -> str:
        return read_prompt_text(pieces)

    def response_text(self, content_type: str, body: bytes) -> str:
        return read_response_text(content_type, body)

    def text_part(self, content_type: str, part: bytes, *, is_first: bool) -> str | None:
        if not content_type.startswith("text/event-stream"):
            return None
        return read_stream_part(part, is_first=is_first)


def opening(
    name: str,
    content: Content = "full",
    protection: Protection = "plain",
    at_ns: int = START_NS,
    session: str = "",
    base: str = "",
    parts: tuple[Part, ...] = BODY,
) -> Opening:
    exchange_id = ExchangeId(name)
    return Opening(
        exchange_id=exchange_id,
        at_ns=at_ns,
        peer="127.0.0.1",
        user_agent="test",
        path="/v1/messages",
        query="",
        headers={"anthropic-version": "2023-06-01"},
        principal=Principal(
            issuer="https://id",
            sub="ada",
            person="ada",
            kind="user",
            claims={"team": "a"},
            token_issued_at=0,
            token_expires_at=1,
        ),
        request=Request(
            id=exchange_id,
            route=Route.MESSAGES,
            method="POST",
            model="opus",
            session=Context(value=session, source="header") if session else None,
        ),
        decision=None,
        endpoint="claude",
        recording=Recording(
            content=content,
            durability="strict",
            retention_class="standard",
            protection=protection,
            reasons=(),
        ),
        base=ExchangeId(base) if base else None,
        parts=parts if content == "full" else None,
    )


def answered(name: str, kind: str = "text/event-stream; charset=utf-8") -> Answered:
    return Answered(
        exchange_id=ExchangeId(name),
        at_ns=START_NS + 1_000_000,
        status=200,
        headers={"content-type": kind},
        upstream_request_id="req_1",
    )


def chunk(name: str, data: bytes, after_ms: int = 2) -> Chunk:
    at_ns = START_NS + after_ms * 1_000_000
    return Chunk(exchange_id=ExchangeId(name), at_ns=at_ns, data=data, size=len(data))


def block() -> bytes:
    data = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}}
    return encode_event("content_block_start", data)


def delta(text: str) -> bytes:
    data = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}
    return encode_event("content_block_delta", data)


def closing(name: str, ending: Ending = Ending.DELIVERED) -> Closing:
    return Closing(
        exchange_id=ExchangeId(name),
        at_ns=START_NS + 5_000_000,
        ending=ending,
        status=200,
        first_byte_ns=START_NS + 2_000_000,
        released_bytes=9,
        stop_reason="end_turn",
        masks=(MaskApplied(rule="aws", where="text", count=1),),
    )


def stream(name: str) -> list[Record]:
    return [
        opening(name),
        answered(name),
        chunk(name, block() + delta("\none ")),
        chunk(name, delta("two\n") + block(), 3),
        chunk(name, delta("three"), 4),
    ]
