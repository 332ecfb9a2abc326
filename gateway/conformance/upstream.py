"""The Claude server's side: notes every call byte for byte and answers as a check tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from gateway.conformance.wire import (
    LAST_CHUNK,
    Headers,
    chunk,
    find,
    read_body,
    read_headers,
    write_head,
)

MAX_HEAD_BYTES = 256 * 1024
JSON = ("content-type", "application/json")
EVENTS = ("content-type", "text/event-stream")


@dataclass
class Received:
    """A call as it arrived, and the way to answer it."""

    method: str
    target: str
    headers: Headers
    head: bytes
    body: bytes
    writer: asyncio.StreamWriter
    gone: asyncio.Event
    """Set as soon as the other side closes the connection."""

    def header(self, name: str) -> str:
        """Return a header's value."""
        return find(self.headers, name)

    async def start(self, status: int, headers: Headers) -> None:
        """Send a head."""
        await self.send(write_head(f"HTTP/1.1 {status} Status", headers))

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    def reset(self) -> None:
        """Break the connection."""
        self.writer.transport.abort()


Script = Callable[[Received], Awaitable[None]]
"""How one call is answered."""


def plain(body: bytes, status: int = 200, headers: Headers = (JSON,)) -> Script:
    """Answer with a whole body."""

    async def answer(received: Received) -> None:
        await received.start(status, [*headers, ("content-length", str(len(body)))])
        await received.send(body)

    return answer


def stream(parts: Sequence[bytes], headers: Headers = (EVENTS,)) -> Script:
    """Answer with a stream of these parts, each a chunk by itself."""

    async def answer(received: Received) -> None:
        await received.start(200, [*headers, ("transfer-encoding", "chunked")])
        for part in parts:
            await received.send(chunk(part))
        await received.send(LAST_CHUNK)

    return answer


def message(text: str = "Hello.") -> bytes:
    """Return a whole message of Claude's."""
    return json.dumps(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
    ).encode()


class Upstream:
    """A server that a tested gateway takes for the Claude server."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self._script: Script = plain(message())
        self._open: set[asyncio.StreamWriter] = set()

    def answer_with(self, script: Script) -> None:
        """Answer from now on like this, and forget what arrived before."""
        self._script = script
        self.received = []

    @property
    def last(self) -> Received | None:
        """What arrived last."""
        return self.received[-1] if self.received else None

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve while inside; port 0 takes a free one, which is returned."""
        server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            while self._open:
                for writer in self._open:
                    writer.transport.abort()
                await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError, ValueError):
            while not writer.is_closing():
                received = await _receive(reader, writer)
                self.received.append(received)
                await self._answer(received, reader)
        writer.close()
        self._open.discard(writer)

    async def _answer(self, received: Received, reader: asyncio.StreamReader) -> None:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(_watch(received, reader))
            try:
                await self._script(received)
            except TimeoutError:  # the other side of the check is what is missing, and says so
                received.reset()
            finally:
                watch.cancel()


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Received:
    head = await reader.readuntil(b"\r\n\r\n")
    first, headers = read_headers(head)
    method, target, _ = first.split(" ")
    if find(headers, "expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = b"".join([part async for part in read_body(reader, headers)])
    return Received(method, target, headers, head, body, writer, asyncio.Event())


async def _watch(received: Received, reader: asyncio.StreamReader) -> None:
    """Notice the end of a connection on which nothing more is to come before the answer."""
    with suppress(ConnectionError):
        await reader.read(1)
    received.gone.set()
