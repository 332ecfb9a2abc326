"""A Claude server that misbehaves: its errors pass, its faults are failures, no end is made up."""

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from evasions.calls import (
    RECORD,
    Reply,
    Told,
    encode,
    fetch_records,
    prompt,
    read_events,
    read_told,
    request,
    send,
    send_all,
    token_for,
)
from support.deployment import Deployment

AGENT = "bad-upstream"
FAILURE_KINDS: Mapping[int, str] = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    529: "overloaded_error",
}

# --- errors pass as they are ----------------------------------------------------------------------

ERRORS: Mapping[str, tuple[int, bool]] = {
    f"{status}, {'streamed' if is_stream else 'plain'}": (status, is_stream)
    for status in FAILURE_KINDS
    for is_stream in (False, True)
}

# --- faults ---------------------------------------------------------------------------------------

BROKE_OFF = "upstream_broke_off"
UNREADABLE = "upstream_unreadable"
PLAIN: Mapping[str, tuple[str, str]] = {
    "a plain answer that breaks off": ("[[demo break=1]]", BROKE_OFF),
    "a plain answer that is no JSON": ("[[demo garbage]]", UNREADABLE),
    "the server refuses the gateway's own credential": (
        "[[demo fail=401]]",
        "upstream_credential",
    ),
}
STREAMED: Mapping[str, tuple[str, str]] = {
    **{
        f"a stream that breaks off after {count} events": (f"[[demo break={count}]]", BROKE_OFF)
        for count in (0, 1, 2, 3, 5, 8)
    },
    **{
        f"a stream that ends after {count} events": (f"[[demo clean-break={count}]]", BROKE_OFF)
        for count in (0, 1, 2, 3, 5, 8)
    },
    "a stream that ends after its last delta": ("[[demo split=1000 clean-break=5]]", BROKE_OFF),
    "a stream with a malformed event": ("[[demo garbage]]", UNREADABLE),
}
CASES: Mapping[str, tuple[str, bool]] = {
    **{name: (f"[[demo fail={ERRORS[name][0]}]]", ERRORS[name][1]) for name in ERRORS},
    **{name: (said, False) for name, (said, _) in PLAIN.items()},
    **{name: (said, True) for name, (said, _) in STREAMED.items()},
    "an error event": ("[[demo stream-error]]", True),
}


def _agent(name: str) -> str:
    return f"{AGENT}/{list(CASES).index(name)}"


@pytest.fixture(scope="module")
def replies(deployment: Deployment) -> dict[str, Reply]:
    token = token_for(deployment)
    return send_all(
        {
            name: partial(
                send,
                deployment,
                request(encode(prompt(said, stream=is_stream)), token=token, agent=_agent(name)),
            )
            for name, (said, is_stream) in CASES.items()
        }
    )


@pytest.fixture(scope="module")
def records(deployment: Deployment, replies: dict[str, Reply]) -> dict[str, dict[str, Any]]:
    columns = (*RECORD, "upstream_request_id", "released_bytes", "stop_reason")
    return fetch_records(deployment, [_agent(name) for name in replies], *columns)


def _own_error(kind: str, message: str, request_id: str) -> bytes:
    """Return an error body exactly as the demo Claude writes it."""
    error = {"type": kind, "message": message}
    body = {"type": "error", "error": error, "request_id": request_id}
    return json.dumps(body, separators=(",", ":")).encode()


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_claude_server_passes_byte_for_byte(
    name: str, replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    status = ERRORS[name][0]
    reply, kind = replies[name], FAILURE_KINDS[status]
    request_id = reply.headers["request-id"]
    body = _own_error(kind, f"The demo was asked to fail with {status}.", request_id)
    assert (reply.status, reply.body, "x-should-retry" in reply.headers) == (status, body, False)
    assert ("retry-after" in reply.headers) == (status in {429, 529})
    assert records[_agent(name)] == {
        "outcome": "allow",
        "ending": "delivered",
        "status": status,
        "error_code": kind,
        "upstream_request_id": request_id,
        "released_bytes": len(body),
        "stop_reason": None,
    }


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_answer_with_a_fault_is_a_failure(
    name: str, replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    code = PLAIN[name][1]
    assert read_told(replies[name]) == Told(status=502, kind="api_error", code=code, retry="later")
    assert {key: records[_agent(name)][key] for key in RECORD} == {
        "outcome": "allow",
        "ending": "failed",
        "status": 502,
        "error_code": code,
    }


@pytest.mark.parametrize("name", STREAMED)
def test_a_stream_with_a_fault_ends_in_an_error_event(
    name: str, replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    code, reply = STREAMED[name][1], replies[name]
    events = read_events(reply)
    kinds = [event["type"] for event in events]
    found = re.fullmatch(r"(?s)(.*\.) \[(.*), (exch_.*)\]", events[-1]["error"]["message"])
    assert found is not None
    assert (reply.status, reply.is_whole, kinds.count("error"), kinds[-1], found[2]) == (
        200,
        True,
        1,
        "error",
        code,
    )
    assert "message_stop" not in kinds
    record = records[_agent(name)]
    assert record.pop("upstream_request_id") == reply.headers["request-id"]
    assert record == {
        "outcome": "allow",
        "ending": "failed",
        "status": 200,
        "error_code": code,
        "released_bytes": len(reply.body),
        "stop_reason": None,
    }


def test_an_error_event_of_the_claude_server_passes_and_ends_the_stream(
    replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    reply = replies["an error event"]
    message = "The demo was asked to fail half-way."
    assert (reply.status, reply.is_whole, read_events(reply)[-1]) == (
        200,
        True,
        {"type": "error", "error": {"type": "overloaded_error", "message": message}},
    )
    assert {key: records[_agent("an error event")][key] for key in RECORD} == {
        "outcome": "allow",
        "ending": "delivered",
        "status": 200,
        "error_code": "overloaded_error",
    }
