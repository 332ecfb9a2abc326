"""A gateway in front of a Claude server that is none: nothing of it reaches a caller unread.

The deployment is configured as in production, with an issuer and a server that the tests run.
"""

import asyncio
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
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
)
from support.deployment import COUNTERSIGN, ROOT, Deployment, free_base_port

from gateway.demo.issuer import DemoIssuer, build
from gateway.demo.specimens import specimen

AGENT = "bad-server"
SECRET = specimen("aws")
HIDDEN = SECRET.replace("A", "\\u0041")
ANSWER_TIMEOUT_S = 3

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Behaviour = Callable[[Streams], Awaitable[None]]


def _http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(headers or ("content-type: application/json",))]
    lines += [f"content-length: {len(body)}", "connection: close"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _events(*events: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
    return head + b"".join(event + b"\n\n" for event in events)


def _says(data: bytes) -> Behaviour:
    async def behave(streams: Streams) -> None:
        streams[1].write(data)
        await streams[1].drain()

    return behave


async def _wait_for_the_end(streams: Streams) -> None:
    await streams[0].read()


async def _begin_and_wait(streams: Streams) -> None:
    streams[1].write(_events(START))
    await streams[0].read()


def _data(**event: object) -> bytes:
    return b"data: " + json.dumps(event).encode()


def _delta(text: str) -> bytes:
    return _data(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})


MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "model": "m"}
START = _data(type="message_start", message={**MESSAGE, "content": [], "usage": {}})
OPEN = _data(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
STOP = _data(type="message_stop")
PLAIN = json.dumps({**MESSAGE, "content": [{"type": "text", "text": "Hello"}]}).encode()

UNAVAILABLE, UNREADABLE = "upstream_unavailable", "upstream_unreadable"

FAILING: Mapping[str, tuple[Behaviour, str]] = {
    "the end at once": (_says(b""), UNAVAILABLE),
    "silence": (_wait_for_the_end, UNAVAILABLE),
    "half the headers": (_says(b"HTTP/1.1 200 OK\r\ncontent-le"), UNAVAILABLE),
    "no HTTP": (_says(b"hello\r\n\r\n"), UNAVAILABLE),
    "a header of 100 KB": (
        _says(_http(PLAIN, "200 OK", f"x-thing: {'a' * 100_000}")),
        UNAVAILABLE,
    ),
    "an answer in gzip": (
        _says(_http(PLAIN, "200 OK", "content-type: application/json", "content-encoding: gzip")),
        UNAVAILABLE,
    ),
    "a redirect to elsewhere": (
        _says(_http(b"{}", "307 Temporary Redirect", "location: http://other.test/v1/messages")),
        UNAVAILABLE,
    ),
    "status 401": (_says(_http(b"{}", "401 Unauthorized")), "upstream_credential"),
    "a body that is cut": (_says(_http(PLAIN)[:-9]), "upstream_broke_off"),
    "an empty body": (_says(_http(b"")), UNREADABLE),
    "a page": (_says(_http(b"<p>Hello", "200 OK", "content-type: text/html")), UNREADABLE),
    "JSON that is not UTF-8": (_says(_http(PLAIN.replace(b"Hello", b"\xff"))), UNREADABLE),
    "JSON nested 100,000 deep": (
        _says(_http(b'{"type": "message", "content": ' + b"[" * 100_000)),
        UNREADABLE,
    ),
    "closed JSON nested 100,000 deep": (
        _says(_http(b'{"content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
        UNREADABLE,
    ),
    "an error that is not UTF-8": (
        _says(_http(b"\xff", "500 Internal Server Error", "content-type: text/plain")),
        UNREADABLE,
    ),
    "an error in JSON that is not UTF-8": (
        _says(_http(b'{"a": "\xff"}', "500 Internal Server Error")),
        UNREADABLE,
    ),
    "events as JSON": (_says(_http(START + b"\n\n" + STOP + b"\n\n")), UNREADABLE),
}
"""By name: what the server does, and the code of the failure."""

BREAKING: Mapping[str, tuple[Behaviour, str]] = {
    "an event that is not UTF-8": (
        _says(_events(START, OPEN, _delta("Hello").replace(b"Hello", b"\xff"), STOP)),
        UNREADABLE,
    ),
    "an event nested 100,000 deep": (
        _says(_events(START, b'data: {"a": ' + b"[" * 100_000, STOP)),
        UNREADABLE,
    ),
    "an event that is a list": (_says(_events(START, b"data: []", STOP)), UNREADABLE),
    "an event that is a word": (_says(_events(START, b"data: [DONE]", STOP)), UNREADABLE),
    "an end within an event": (_says(_events(START, OPEN) + STOP[:-5]), "upstream_broke_off"),
    "no events at all": (_says(_events()), "upstream_broke_off"),
}
"""The same of streams."""

LEAKING: Mapping[str, Behaviour] = {
    "in a text with escapes": _says(
        _http(PLAIN.replace(b"Hello", HIDDEN.encode())),
    ),
    "in an error": _says(_http(json.dumps({"error": SECRET}).encode(), "400 Bad Request")),
    "in an error that is no JSON": _says(
        _http(SECRET.encode(), "400 Bad Request", "content-type: text/plain")
    ),
    "in a field that the API does not know": _says(
        _http(json.dumps({**MESSAGE, "content": [], "note": SECRET}).encode())
    ),
    "in a name": _says(
        _http(json.dumps({**MESSAGE, "content": [{"type": "new", SECRET: 1}]}).encode())
    ),
    "in a name of an error": _says(_http(json.dumps({SECRET: 1}).encode(), "400 Bad Request")),
    "in a text given twice": _says(
        _http(PLAIN.replace(b'"text": "Hello"', b'"text": "%b", "text": "a"' % SECRET.encode()))
    ),
    "in a body that is no object": _says(_http(json.dumps([SECRET]).encode())),
    "in a message that is a list": _says(
        _http(json.dumps([{**MESSAGE, "content": [{"type": "text", "text": SECRET}]}]).encode())
    ),
    "in deltas": _says(_events(START, OPEN, _delta(SECRET[:7]), _delta(SECRET[7:]), STOP)),
    "in deltas with escapes": _says(
        _events(START, OPEN, _delta("Hello").replace(b"Hello", HIDDEN.encode()), STOP)
    ),
    "in deltas without a start": _says(_events(_delta(SECRET[:7]), _delta(SECRET[7:]), STOP)),
    "in deltas without an end": _says(
        _events(START, OPEN, _delta(SECRET[:-1]), _delta(SECRET[-1]))
    ),
    "in deltas with pings between": _says(
        _events(START, OPEN, _delta(SECRET[:7]), _data(type="ping"), _delta(SECRET[7:]), STOP)
    ),
    "in a delta whose text is given twice": _says(
        _events(
            START,
            OPEN,
            _delta("Hello").replace(b'"text": "Hello"', f'"text": "{SECRET}", "text": ""'.encode()),
            STOP,
        )
    ),
    "in the start of a message": _says(
        _events(
            _data(
                type="message_start",
                message={**MESSAGE, "content": [{"type": "text", "text": SECRET}]},
            ),
            STOP,
        )
    ),
    "in the start of a block": _says(
        _events(START, OPEN.replace(b'""', f'"{SECRET}"'.encode()), STOP)
    ),
    "in an error event": _says(_events(START, _data(type="error", error={"message": SECRET}))),
    "in a ping": _says(_events(START, _data(type="ping", note=SECRET), STOP)),
    "in the last event": _says(_events(START, _data(type="message_stop", note=SECRET))),
    "in an event of an unknown type": _says(_events(START, _data(type="new", note=SECRET), STOP)),
    "in an event without a type": _says(_events(START, _data(note=SECRET), STOP)),
    "in a name in an event": _says(_events(START, _data(type="new", **{SECRET: 1}), STOP)),
    "in a comment": _says(_events(START, f": {SECRET}".encode(), STOP)),
    "in the name of an event": _says(_events(f"event: {SECRET}\n".encode() + START, STOP)),
    "in the id of an event": _says(_events(f"id: {SECRET}\n".encode() + START, STOP)),
    "in an unknown line": _says(_events(f"note: {SECRET}\n".encode() + START, STOP)),
    "after the last event": _says(_events(START, STOP, _delta(SECRET))),
    "after the last event, cut": _says(_events(START, STOP) + SECRET.encode()),
}
"""By place of the secret."""

LEAVING: Mapping[str, tuple[Behaviour, bytes]] = {
    "before the answer begins": (_wait_for_the_end, b""),
    "within the stream": (_begin_and_wait, b"message_start"),
}
"""By name: what the server does, and what the caller awaits before it leaves."""

REFUSED = "no server at the port"
BEHAVIOURS: Mapping[str, Behaviour] = {
    **{name: behaviour for name, (behaviour, _) in {**FAILING, **BREAKING}.items()},
    **LEAKING,
    **{name: behaviour for name, (behaviour, _) in LEAVING.items()},
}


def _agent(name: str) -> str:
    return f"{AGENT}/{[*BEHAVIOURS, REFUSED].index(name)}"


class Servers:
    """The issuer and the false Claude server, in a thread of their own."""

    def __init__(self, folder: Path, issuer_port: int, claude_port: int) -> None:
        self.issuer = DemoIssuer.load(folder / "key.pem", f"http://127.0.0.1:{issuer_port}")
        self.reached: set[str] = set()
        self.left: set[str] = set()
        self.claude_url = f"http://127.0.0.1:{claude_port}"
        self._ports = (issuer_port, claude_port)
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self._claude: asyncio.Server | None = None
        self._stop = asyncio.Event()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve until the end of the block."""
        thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()])
        thread.start()
        assert self._is_up.wait(10)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(10)
            self._loop.close()

    def close_claude(self) -> None:
        """Stop listening as a Claude server."""
        if self._claude is not None:
            self._loop.call_soon_threadsafe(self._claude.close)

    async def _run(self) -> None:
        runner = web.AppRunner(build(self.issuer))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._ports[0]).start()
        self._claude = await asyncio.start_server(self._answer, "127.0.0.1", self._ports[1])
        self._is_up.set()
        await self._stop.wait()
        self._claude.close()
        await runner.cleanup()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].split("\r\n")[0])
        await reader.readexactly(length)
        number = int(head.partition(f"user-agent: {AGENT}/")[2].split("\r\n")[0])
        name = list(BEHAVIOURS)[number]
        self.reached.add(name)
        with suppress(ConnectionError):
            await BEHAVIOURS[name]((reader, writer))
        self.left.add(name)
        writer.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    base = free_base_port(2)
    servers = Servers(tmp_path_factory.mktemp("servers"), base, base + 1)
    with servers.serving():
        yield servers


@pytest.fixture(scope="module")
def configured(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment in front of these servers."""
    folder = tmp_path_factory.mktemp("configured")
    base = free_base_port()
    (folder / "credential").write_text("own-credential")
    settings = {
        "folder": str(folder / "var"),
        "proxy": {"port": base, "answer_timeout_s": ANSWER_TIMEOUT_S},
        "console": {"port": base + 1},
        "policy": {"relay_port": base + 2, "operator_port": base + 3},
        "issuers": [{"url": servers.issuer.url, "audiences": ["countersign"]}],
        "endpoints": {
            "claude": {"base_url": servers.claude_url, "credential": f"file:{folder}/credential"}
        },
        "lake": {"commit_every_s": 2},
    }
    (folder / "settings.yaml").write_text(json.dumps(settings))
    process = subprocess.Popen(
        [*COUNTERSIGN, "up", "--config", str(folder / "settings.yaml")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said = []
        for line in process.stdout or ():
            said.append(line)
            if b"Ctrl-C stops everything" in line:
                break
        assert process.poll() is None, b"".join(said).decode()
        yield Deployment(folder=folder / "var", base_port=base, process=process)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def token(servers: Servers) -> str:
    return servers.issuer.mint("dev", ["eng"], {}, 3600, "countersign", time.time())


@pytest.fixture(scope="module")
def replies(configured: Deployment, servers: Servers, token: str) -> dict[str, Reply]:
    """All calls but those of callers that leave; at last one to a port nobody listens at."""

    def call(name: str) -> Reply:
        return send(configured, request(encode(prompt(name)), token=token, agent=_agent(name)))

    names = [name for name in BEHAVIOURS if name not in LEAVING]
    received = send_all({name: partial(call, name) for name in names})
    for name in LEAVING:
        _leave(configured, servers, token, name)
    servers.close_claude()
    return {**received, REFUSED: call(REFUSED)}


def _leave(configured: Deployment, servers: Servers, token: str, name: str) -> None:
    """Make a call and leave once it has come as far as the case wants."""
    awaited = LEAVING[name][1]
    address = ("127.0.0.1", configured.base_port)
    with socket.create_connection(address, 10) as connection:
        connection.sendall(request(encode(prompt(name)), token=token, agent=_agent(name)))
        received = b""
        while awaited not in received:
            received += connection.recv(65536)
        _wait_until(lambda: name in servers.reached)


def _wait_until(is_so: Callable[[], bool], timeout_s: float = 10) -> None:
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def records(configured: Deployment, replies: dict[str, Reply]) -> dict[str, dict[str, Any]]:
    agents = [_agent(name) for name in (*BEHAVIOURS, REFUSED)]
    return fetch_records(configured, agents, *RECORD, "response_text")


def _row(ending: str, status: int | None, code: str | None) -> dict[str, object]:
    return {"outcome": "allow", "ending": ending, "status": status, "error_code": code}


def _ending(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in RECORD}


@pytest.mark.parametrize("name", [*FAILING, REFUSED])
def test_a_server_that_gives_no_answer_is_a_failure(
    name: str, replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    code = UNAVAILABLE if name == REFUSED else FAILING[name][1]
    told = Told(status=502, kind="api_error", code=code, retry="later")
    assert read_told(replies[name]) == told
    assert _ending(records[_agent(name)]) == _row("failed", 502, code)


@pytest.mark.parametrize("name", BREAKING)
def test_a_stream_that_goes_wrong_ends_in_an_error_event(
    name: str, replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    code = BREAKING[name][1]
    reply = replies[name]
    last = reply.body.decode().rstrip().rpartition("\n\n")[2]
    assert (reply.is_whole, last.startswith("event: error\n"), f" [{code}, exch_" in last) == (
        True,
        True,
        True,
    )
    assert _ending(records[_agent(name)]) == _row("failed", 200, code)


@pytest.mark.parametrize("name", LEAKING)
def test_a_secret_anywhere_in_an_answer_is_masked_or_stops_it(
    name: str, replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    reply = replies[name]
    text = reply.raw.decode().replace("\\u0041", "A")
    deltas = "".join(
        event.get("delta", {}).get("text", "") for event in _parsed(reply) if "delta" in event
    )
    recorded = str(records[_agent(name)])
    assert reply.is_whole
    assert [SECRET in seen for seen in (text, deltas, recorded)] == [False] * 3


def _parsed(reply: Reply) -> list[dict[str, Any]]:
    lines = reply.body.decode().splitlines()
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return [event for event in data if isinstance(event, dict)]


@pytest.mark.parametrize("name", LEAVING)
def test_a_caller_that_leaves_is_recorded_and_the_server_sees_the_end(
    name: str, servers: Servers, records: dict[str, dict[str, Any]]
) -> None:
    _wait_until(lambda: name in servers.left)
    status = 200 if LEAVING[name][1] else None
    assert _ending(records[_agent(name)]) == _row("cancelled", status, None)
