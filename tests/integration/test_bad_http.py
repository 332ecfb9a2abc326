"""Requests that are no HTTP, and routes that are not the API's: answered in the API's shape."""

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
    read_told,
    request,
    send,
    send_all,
    token_for,
)
from support.deployment import Deployment

GOOD = encode(prompt())

# --- what the parser refuses ----------------------------------------------------------------------


def _get(line: str = "GET /v1/models HTTP/1.1", *headers: str) -> bytes:
    """Return a call without a body; TOKEN stands for a good token."""
    lines = [line, "host: gateway", "connection: close", "authorization: Bearer TOKEN", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _post(*headers: str, body: bytes = GOOD) -> bytes:
    return _get("POST /v1/messages HTTP/1.1", *headers) + body


CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
LENGTH = f"content-length: {len(GOOD)}"
CHUNKED = "transfer-encoding: chunked"

MALFORMED: Mapping[str, bytes] = {
    "a method with a sign in it": _get("G@T /v1/models HTTP/1.1"),
    "a lower-case method": _get("get /v1/models HTTP/1.1"),
    "an unknown method": _get("BREW /v1/models HTTP/1.1"),
    "HTTP/9.9": _get("GET /v1/models HTTP/9.9"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a ClientHello of TLS": bytes.fromhex("16030100a5010000a10303") + bytes(150),
    "a space in the target": _get("GET /v1/models /x HTTP/1.1"),
    "a target without slash": _get("GET v1/models HTTP/1.1"),
    "NUL in the target": _get("GET /v1/models\0 HTTP/1.1"),
    "bytes beyond ASCII in the target": _get("GET /v1/models\xe9 HTTP/1.1"),
    "a target of 100 KB": _get(f"GET /{'a' * 100_000} HTTP/1.1"),
    "a target with a port that is none": _get("GET http://other.test:99999999/v1 HTTP/1.1"),
    "a target with half an address": _get("GET http://[::1/v1/models HTTP/1.1"),
    "a header without colon": _get("GET /v1/models HTTP/1.1", "x-thing"),
    "a header without name": _get("GET /v1/models HTTP/1.1", ": x"),
    "a space before the colon": _post(LENGTH.replace(":", " :")),
    "a header of 100 KB": _get("GET /v1/models HTTP/1.1", f"x-thing: {'a' * 100_000}"),
    "10,000 headers": _get("GET /v1/models HTTP/1.1", *(f"x-{n}: a" for n in range(10_000))),
    "an obsolete folded header": _get("GET /v1/models HTTP/1.1", "x-thing: a\r\n b"),
    "NUL in a header": _get("GET /v1/models HTTP/1.1", "x-thing: a\0b"),
    "a control character in a header": _get("GET /v1/models HTTP/1.1", "x-thing: a\x01b"),
    "a lone carriage return in a header": _get("GET /v1/models HTTP/1.1", "x-thing: a\rb"),
    "lines that end in line feeds only": _get().replace(b"\r\n", b"\n"),
    "two hosts": _get("GET /v1/models HTTP/1.1", "host: other.test"),
    "a length and chunks": _post("content-length: 4", CHUNKED, body=CHUNKS),
    "two lengths": _post("content-length: 4", LENGTH),
    "the same length twice": _post(LENGTH, LENGTH),
    "a length with a plus": _post(LENGTH.replace(": ", ": +")),
    "a negative length": _post(LENGTH.replace(": ", ": -")),
    "a length that is too short": _post(f"content-length: {len(GOOD) - 9}"),
    "a length in hexadecimal": _post("content-length: 0x80"),
    "a length beyond 64 bits": _post(f"content-length: {10**23}"),
    "an unknown transfer encoding": _post("transfer-encoding: xchunked", body=CHUNKS),
    "chunks that are not last": _post("transfer-encoding: chunked, identity", body=CHUNKS),
    "chunked twice": _post(CHUNKED, CHUNKED, body=CHUNKS),
    "a chunk without a size": _post(CHUNKED, body=b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "a chunk of negative size": _post(CHUNKED, body=b"-5\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "a chunk that is longer than it says": _post(CHUNKED, body=b"5\r\n" + GOOD + b"\r\n0\r\n\r\n"),
    "a request after the last one": _get() + b"GET /v1/models HTTP/1.1\r\n\r\n",
}


def _peer(name: str) -> str:
    return f"127.0.3.{1 + list(MALFORMED).index(name)}"


@pytest.fixture(scope="module")
def malformed_replies(deployment: Deployment) -> dict[str, Reply]:
    token = token_for(deployment).encode()
    return send_all(
        {
            name: partial(send, deployment, call.replace(b"TOKEN", token), source=_peer(name))
            for name, call in MALFORMED.items()
        }
    )


@pytest.fixture(scope="module")
def malformed_events(
    deployment: Deployment, malformed_replies: dict[str, Reply]
) -> dict[str, dict[str, Any]]:
    rows = deployment.wait_for(
        "select peer, kind, outcome, reason, sum(count)::int as count from events "
        "where peer like '127.0.3.%' group by all",
        len(malformed_replies),
    )
    return {row.pop("peer"): row for row in rows}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_http_is_refused(name: str, malformed_replies: dict[str, Reply]) -> None:
    reply = malformed_replies[name]
    assert (read_told(reply), reply.is_closed) == (
        Told(status=400, kind="invalid_request_error", code="http.malformed"),
        True,
    )


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_http_is_counted(name: str, malformed_events: dict[str, dict[str, Any]]) -> None:
    assert malformed_events[_peer(name)] == {
        "kind": "access.refused",
        "outcome": "deny",
        "reason": "http.malformed",
        "count": 1,
    }


def test_a_chunk_that_goes_wrong_later_is_a_body_broken_off(deployment: Deployment) -> None:
    agent = "late-chunk/one"
    head = request(
        b"%x\r\n%b\r\n" % (len(GOOD), GOOD),
        CHUNKED,
        token=token_for(deployment),
        agent=agent,
        length=-1,
    )
    reply = send(deployment, head, then=b"zz\r\nmore")
    refused = Told(status=400, kind="invalid_request_error", code="body.truncated")
    assert read_told(reply) == refused
    ended = {"outcome": "undecided", "ending": "refused", "status": 400}
    assert fetch_records(deployment, [agent]) == {agent: {**ended, "error_code": "body.truncated"}}


# --- routes ---------------------------------------------------------------------------------------

ROUTES: Mapping[str, tuple[str, str]] = {
    "an unknown path": ("POST", "/v1/complete"),
    "the root": ("GET", "/"),
    "a slash in hexadecimal": ("POST", "/v1%2Fmessages"),
    "a letter in hexadecimal": ("POST", "/v1/%6dessages"),
    "a double slash": ("POST", "//v1/messages"),
    "a double slash inside": ("POST", "/v1//messages"),
    "a slash at the end": ("POST", "/v1/messages/"),
    "a dot": ("POST", "/v1/./messages"),
    "two dots": ("GET", "/v1/messages/../models"),
    "two dots in hexadecimal": ("GET", "/v1/messages/%2e%2e/models"),
    "a backslash": ("POST", "/v1\\messages"),
    "a parameter": ("POST", "/v1/messages;a=b"),
    "NUL in hexadecimal": ("POST", "/v1/messages%00"),
    "a line end in hexadecimal": ("POST", "/v1/messages%0d%0ax-api-key:%20a"),
    "a fragment": ("POST", "/v1/messages#a"),
    "a question mark in hexadecimal": ("POST", "/v1/messages%3Fbeta=true"),
    "upper case": ("POST", "/V1/MESSAGES"),
    "a whole URL": ("POST", "http://gateway/v1/messages"),
    "a whole URL of another host": ("GET", "http://other.test/v1/models"),
    "an authority": ("CONNECT", "other.test:443"),
    "an asterisk": ("OPTIONS", "*"),
    "GET of messages": ("GET", "/v1/messages"),
    "PUT of messages": ("PUT", "/v1/messages"),
    "POST of models": ("POST", "/v1/models"),
    "DELETE of models": ("DELETE", "/v1/models"),
    "one model in hexadecimal": ("GET", "/v1/models/claude%2Dopus-4-8"),
    "one model with a slash in it": ("GET", "/v1/models/claude-opus-4-8/"),
    "one model that is a dot": ("GET", "/v1/models/."),
    "DELETE of one model": ("DELETE", "/v1/models/claude-opus-4-8"),
    "batches": ("POST", "/v1/messages/batches"),
    "the results of a batch": ("GET", "/v1/messages/batches/b_1/results"),
    "files": ("POST", "/v1/files"),
    "the content of a file": ("GET", "/v1/files/file_1/content"),
    "files with a letter in hexadecimal": ("GET", "/v1/file%73"),
    "skills": ("GET", "/v1/skills"),
    "the organization": ("GET", "/v1/organizations/me"),
}


SHARED = {
    "batches": "batches",
    "the results of a batch": "batches",
    "files": "files",
    "the content of a file": "files",
}
"""Those that are known, and refused because what is there would be everyone's."""


def _code(name: str) -> str:
    return "route.shared" if name in SHARED else "route.unknown"


def _agent(name: str) -> str:
    return f"bad-route/{list(ROUTES).index(name)}"


@pytest.fixture(scope="module")
def route_replies(deployment: Deployment) -> dict[str, Reply]:
    token = token_for(deployment)
    return send_all(
        {
            name: partial(
                send,
                deployment,
                request(GOOD, target=target, method=method, token=token, agent=_agent(name)),
            )
            for name, (method, target) in ROUTES.items()
        }
    )


@pytest.fixture(scope="module")
def route_records(
    deployment: Deployment, route_replies: dict[str, Reply]
) -> dict[str, dict[str, Any]]:
    columns = (*RECORD, "route", "method", "path", "prompt_text")
    return fetch_records(deployment, [_agent(name) for name in route_replies], *columns)


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_that_is_not_the_apis_is_refused(
    name: str, route_replies: dict[str, Reply]
) -> None:
    assert read_told(route_replies[name]) == Told(
        status=403, kind="permission_error", code=_code(name)
    )


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_that_is_not_the_apis_is_recorded(
    name: str, route_records: dict[str, dict[str, Any]]
) -> None:
    method, path = ROUTES[name]
    assert route_records[_agent(name)] == {
        "outcome": "deny",
        "ending": "refused",
        "status": 403,
        "error_code": _code(name),
        "route": SHARED.get(name, "unknown"),
        "method": method,
        "path": path,
        "prompt_text": None,
    }


@pytest.mark.parametrize("target", ["/v1/models", "/v1/messages", "/v1/unknown"])
@pytest.mark.parametrize("has_token", [True, False], ids=["with a token", "without a token"])
def test_an_answer_to_head_has_no_body_that_could_be_read_as_the_next_answer(
    target: str, has_token: bool, deployment: Deployment
) -> None:
    token = token_for(deployment) if has_token else ""
    reply = send(deployment, request(method="HEAD", target=target, token=token))
    assert reply.status == (403 if has_token else 401)
    assert reply.raw.partition(b"\r\n\r\n")[2] == b""


def test_the_body_of_a_refused_call_is_not_read_as_the_next_request(
    deployment: Deployment,
) -> None:
    token = token_for(deployment)
    inner = request(method="GET", target="/v1/models", token=token, agent="smuggled/inner")
    outer = request(inner, target="/v1/skills", token=token, agent="smuggled/outer", connection="")
    probe = request(method="GET", target="/healthz")
    reply = send(deployment, outer + probe)
    assert reply.raw.count(b"HTTP/1.1 ") == 2
    assert reply.raw.endswith(b"\r\n\r\nok\n")
    ended = {"outcome": "deny", "ending": "refused", "status": 403, "error_code": "route.unknown"}
    assert fetch_records(deployment, ["smuggled/outer"]) == {"smuggled/outer": ended}
