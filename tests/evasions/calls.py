"""Hand-made HTTP calls to a deployment, whole answers read strictly, and the records of both.

Calls are bytes on a socket, since no client library would send what is sent here. Each names
itself in its user agent, or comes from a loopback address of its own, to be found again.
"""

import io
import json
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any, cast

from support.deployment import Deployment

from gateway.demo.issuer import DemoIssuer
from gateway.demo_setup import AUDIENCE

MODEL = "claude-sonnet-4-5"
CALL_S = 20.0
RECORDED_S = 12.0
"""Within which a record is in the tables: counted every 5 s, committed every 2 s."""

_MESSAGE = re.compile(r"(?s)(.*) \[([a-z0-9_.]+), (exch_[0-9a-f]+)\]")

RECORD = ("outcome", "ending", "status", "error_code")
"""The columns that say how an exchange ended."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back on the socket."""

    status: int = 0
    """0 where the connection ended without an answer."""
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool
    """Whether the body ended as its framing says."""
    raw: bytes
    is_closed: bool
    """Whether the gateway ended the connection in time."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an error answer tells a client."""

    status: int
    kind: str
    code: str
    retry: str = "never"


def issuer(deployment: Deployment) -> DemoIssuer:
    """Return the deployment's demo issuer."""
    key_file = deployment.folder / "demo" / "issuer.pem"
    return DemoIssuer.load(key_file, f"http://127.0.0.1:{deployment.base_port + 4}")


def token_for(
    deployment: Deployment, user: str = "dev", groups: Sequence[str] = ("eng",), **claims: str
) -> str:
    """Return a good token, without the command line's start-up time."""
    claims = {"person": user, **claims}
    return issuer(deployment).mint(user, groups, claims, 3600, AUDIENCE, time.time())


def prompt(text: str = "Hello", **fields: object) -> dict[str, object]:
    """Return a body that would be answered; fields replace its own."""
    messages = [{"role": "user", "content": text}]
    return {"model": MODEL, "max_tokens": 100, "messages": messages, **fields}


def encode(body: object) -> bytes:
    """Return JSON as a client sends it."""
    return json.dumps(body).encode()


def request(
    body: bytes = b"",
    *headers: str,
    target: str = "/v1/messages",
    method: str = "POST",
    agent: str = "",
    token: str = "",
    length: int | None = None,
    connection: str = "close",
) -> bytes:
    """Return the bytes of a call; its length may lie, and is left out if it is negative."""
    length = len(body) if length is None else length
    lines = [
        f"{method} {target} HTTP/1.1",
        "host: gateway",
        "content-type: application/json",
        *([f"connection: {connection}"] if connection else []),
        *([f"user-agent: {agent}"] if agent else []),
        *([f"authorization: Bearer {token}"] if token else []),
        *([f"content-length: {length}"] if length >= 0 else []),
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def send(
    deployment: Deployment,
    data: bytes,
    *,
    source: str = "127.0.0.1",
    is_half_closed: bool = False,
    then: bytes = b"",
    soon: Callable[[], None] | None = None,
    timeout_s: float = CALL_S,
) -> Reply:
    """Send bytes as they are and read until the gateway closes the connection.

    Args:
        deployment: Where to.
        data: What to send.
        source: The address to come from.
        is_half_closed: Whether to end the sending, as a client does that breaks off.
        soon: What to do once the first bytes have come back.
        then: What to send once the gateway had the time to read what came before.
        timeout_s: How long to wait for the end.
    """
    address = ("127.0.0.1", deployment.base_port)
    with socket.create_connection(address, timeout_s, (source, 0)) as connection:
        with suppress(ConnectionError):
            connection.sendall(data)
            if then:
                time.sleep(0.2)
                connection.sendall(then)
            if is_half_closed:
                connection.shutdown(socket.SHUT_WR)
        raw, is_closed = _read_all(connection, soon)
    return _read_reply(raw, is_closed, method=data.partition(b" ")[0].decode("latin-1"))


def send_all(calls: Mapping[str, Callable[[], Reply]]) -> dict[str, Reply]:
    """Make many calls, several at a time."""
    with ThreadPoolExecutor(8) as pool:
        futures = {name: pool.submit(call) for name, call in calls.items()}
        return {name: future.result() for name, future in futures.items()}


def read_told(reply: Reply) -> Told:
    """Return what an error answer tells; fails if its shape is not the API's, or two clients
    could understand it differently.
    """
    assert reply.is_whole
    assert reply.headers["content-type"] == "application/json"
    value = json.loads(reply.body)
    message, request_id = value["error"]["message"], value["request_id"]
    assert value == {
        "type": "error",
        "error": {"type": value["error"]["type"], "message": message},
        "request_id": request_id,
    }
    found = _MESSAGE.fullmatch(message)
    assert found is not None, message
    assert "\n" not in message
    assert found[1].endswith((".", ")", "…"))
    assert (found[3], found[3]) == (request_id, reply.headers["request-id"])
    return Told(
        status=reply.status, kind=value["error"]["type"], code=found[2], retry=_read_retry(reply)
    )


def read_events(reply: Reply) -> list[dict[str, Any]]:
    """Return the data of a stream's events, strictly."""
    lines = reply.body.decode().splitlines()
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


def fetch_records(
    deployment: Deployment, agents: Sequence[str], *columns: str
) -> dict[str, dict[str, Any]]:
    """Return the row of each user agent as soon as all are there, else those that are.

    The agents are of the form `PREFIX/NAME`, with one prefix. Fails if one has several rows.
    """
    wanted = ", ".join(("user_agent", *(columns or RECORD)))
    query = f"select {wanted} from exchanges where user_agent like '{agents[0].split('/')[0]}/%'"
    try:
        rows = deployment.wait_for(query, len(agents), RECORDED_S)
    except AssertionError:
        rows = deployment.sql(query)
    records = {row.pop("user_agent"): row for row in rows}
    assert len(rows) == len(records)
    return records


def _read_all(connection: socket.socket, soon: Callable[[], None] | None) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    try:
        while part := connection.recv(65536):
            if soon and not parts:
                soon()
            parts.append(part)
    except ConnectionError:
        return b"".join(parts), True
    except TimeoutError:
        return b"".join(parts), False
    return b"".join(parts), True


class _Received:
    """Received bytes, as the standard library's parser wants them."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _read_reply(raw: bytes, is_closed: bool, method: str) -> Reply:
    response = HTTPResponse(cast("socket.socket", _Received(raw)), method=method)
    is_whole = True
    try:
        response.begin()
    except HTTPException:
        return Reply(headers={}, body=b"", is_whole=False, raw=raw, is_closed=is_closed)
    try:
        body = response.read()
    except IncompleteRead as e:
        body, is_whole = e.partial, False
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(
        status=response.status,
        headers=headers,
        body=body,
        is_whole=is_whole,
        raw=raw,
        is_closed=is_closed,
    )


def _read_retry(reply: Reply) -> str:
    says = (reply.headers.get("x-should-retry"), "retry-after" in reply.headers)
    return {
        ("false", False): "never",
        (None, True): "later",
        ("false", True): "later, by a person",
        (None, False): "with a fresh token",
    }.get(says, f"contradictory: {says}")
