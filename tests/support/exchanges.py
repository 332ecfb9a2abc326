"""Exchanges as the console shows them, for tests of what is done with them."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.console.exports import FORMATS, Head
from lake.shown import ExchangeDetail, Owner

_DEFAULTS: dict[str, Any] = {
    "exchange_id": "exch_0000000000000000000000000001",
    "session_id": "s-1",
    "issuer": "https://id",
    "subject": "ann",
    "person": "ann",
    "started_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
    "ended_at": datetime(2026, 3, 1, 12, 0, 2, tzinfo=UTC),
    "request_model": "claude-sonnet-4-5",
    "response_model": "claude-sonnet-4-5",
    "outcome": "allow",
    "reasons": [],
    "ending": "delivered",
    "status": 200,
    "stop_reason": "end_turn",
    "error_code": None,
    "tool_calls": [],
    "input_tokens": 1200,
    "output_tokens": 80,
    "time_to_first_byte_ms": 420.0,
    "duration_ms": 2000.0,
    "retention_class": "standard",
    "prompt_text": "Hello",
    "response_text": "Hi",
    "route": "messages",
    "method": "POST",
    "path": "/v1/messages",
    "query": None,
    "peer": "127.0.0.1",
    "user_agent": "curl",
    "groups": ["eng"],
    "reason_messages": [],
    "policy_revision": "r-1",
    "decisions_json": "[]",
    "endpoint": "claude",
    "approval_id": None,
    "approvers": [],
    "error_message": None,
    "recording_content": "full",
    "recording_reasons": [],
    "masks_applied": [],
    "request_headers": {},
    "response_headers": {"content-type": "application/json"},
    "chunk_offsets": [],
    "request_bytes": 0,
    "released_bytes": 0,
    "upstream_request_id": None,
    "journal_id": "proxy-1",
    "sequence": 7,
}


def detail(asked: Any = "Hello", answered: Any = "Hi", **fields: Any) -> ExchangeDetail:
    """Return an exchange in which that was asked and answered; fields replace its own."""
    request = {"messages": [{"role": "user", "content": asked}]}
    response = {
        "type": "message",
        "content": [{"type": "text", "text": answered}] if isinstance(answered, str) else answered,
    }
    bodies = {
        "request_body": json.dumps(request).encode(),
        "response_body": json.dumps(response).encode(),
    }
    return msgspec.convert({**_DEFAULTS, **bodies, **fields}, ExchangeDetail)


def stream(*events: tuple[str, dict[str, Any]]) -> bytes:
    """Return the bytes of a stream of events."""
    return b"".join(
        f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()
        for name, data in events
    )


def export(form: str, *exchanges: ExchangeDetail, **head: Any) -> str:
    """Return exchanges as one document."""
    about: dict[str, Any] = {
        "session_id": "s-1",
        "owner": Owner("https://id", "ann"),
        "exported_at": datetime(2026, 3, 2, tzinfo=UTC),
        "exported_by": "ada",
        **head,
    }
    writer = FORMATS[form].writer(Head(**about))
    return writer.begin() + "".join(map(writer.exchange, exchanges)) + writer.end()
