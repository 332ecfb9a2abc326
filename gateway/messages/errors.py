"""Errors in the API's own shape. Clients show only `message`, so it says all (one line)."""

import re

import msgspec

MAX_MESSAGE_CHARS = 1000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    451: "permission_error",
    529: "overloaded_error",
}


def error_kind(status: int) -> str:
    """Return the API's error type of an HTTP status."""
    return _KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")


def one_line(message: str) -> str:
    """Return a sentence as one line of bounded length: it may quote what a caller sent."""
    shown = " ".join(_CONTROL.sub(" ", message).split())
    return shown if len(shown) <= MAX_MESSAGE_CHARS else f"{shown[:MAX_MESSAGE_CHARS]}…"


def error_body(status: int, message: str, request_id: str) -> bytes:
    """Return the body of an error answer."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": error_kind(status), "message": message},
            "request_id": request_id,
        }
    )
