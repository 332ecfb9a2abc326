"""Errors in the API's own shape. Clients show only `message`, so it says all (one line)."""

import msgspec

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


def error_body(status: int, message: str, request_id: str) -> bytes:
    """Return the body of an error answer."""
    return msgspec.json.encode(
        {
            "type": "error",
            "error": {"type": error_kind(status), "message": message},
            "request_id": request_id,
        }
    )
