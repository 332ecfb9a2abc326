"""A small HTTP/1.1 client: keep-alive connections, one call at a time on each; `httptools` reads.

For the two servers that every exchange waits for, OPA and the Claude server: a general client costs
three times the CPU. It follows, decodes and retries nothing; what a server answers is handed on.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools

Headers = list[tuple[str, str]]

PART_BYTES = 256 * 1024
"""A larger body is written in parts of this size, and an answer is read ahead by as much."""
MAX_HEAD_BYTES = 64 * 1024
"""Of an answer's headers."""


class Broken(Exception):
    """The server gave no whole answer."""


class Reply:
    """The answer to one call, as it arrives."""

    def __init__(self, connection: "Connection", limit_s: float, *, renews: bool) -> None:
        self.status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._connection = connection
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._fed_bytes = self._buffered = 0
        self._has_head = self._is_complete = self._keeps_alive = self._is_paused = False
        self._error: Broken | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._limit_s, self._renews = limit_s, renews
        self._since = self._loop.time()
        self._timer = self._loop.call_at(self._since + limit_s, self._check_time)

    @property
    def headers(self) -> Headers:
        """Names in lower case, and values; in order."""
        return [
            (name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))
            for name, value in self._headers
        ]

    async def head(self) -> None:
        """Wait for status and headers; raises `Broken`."""
        while not self._has_head:
            await self._wait()

    async def read(self) -> bytes:
        """Return the next bytes of the body, none at its end; raises `Broken`."""
        while not self._parts and not self._is_complete:
            await self._wait()
        parts, self._parts, self._buffered = self._parts, [], 0
        if self._is_paused:
            self._is_paused, self._since = False, self._loop.time()
            self._connection.resume_reading()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def read_all(self) -> bytes:
        """Return the whole body; raises `Broken`."""
        parts = []
        while part := await self.read():
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self, why: str = "the call was cancelled") -> None:
        """End the call at once, unless its answer is there; a pending read fails."""
        if not self._is_complete and self._error is None:
            self._error = Broken(why)
            self._end(is_reusable=False)

    # Called by the connection.

    def feed(self, data: bytes) -> None:
        """Take in bytes."""
        self._fed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._is_complete:  # more than was asked for: whose answer would that be?
                self._end(is_reusable=False)
            else:
                self.close("its answer is not HTTP")
            return
        if self._is_complete:
            self._end(is_reusable=self._keeps_alive)
            return
        if self._has_head:
            if self._renews:
                self._since = self._loop.time()
            self._wake()
        elif self._fed_bytes > MAX_HEAD_BYTES:
            self.close("its headers are too long")
        if self._buffered > PART_BYTES and not self._is_paused:
            self._is_paused = True
            self._connection.pause_reading()

    def lose(self, error: Exception | None) -> None:
        """Note that the connection is lost: the end of an answer of no stated length."""
        is_end = self._has_head and error is None and not self._is_framed()
        if is_end and not self._is_complete and self._error is None:
            self._is_complete = True
            self._end(is_reusable=False)
        self.close("it closed the connection")

    # Called by the parser.

    def on_message_begin(self) -> None:
        """A second answer was not asked for."""
        if self._is_complete:
            raise ValueError("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; a trailer is none."""
        if not self._has_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status; an interim answer is skipped."""
        if self._fed_bytes > MAX_HEAD_BYTES and self._is_head_too_long():
            raise ValueError("its headers are too long")
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self._headers = []
        else:
            self._has_head = True

    def on_body(self, data: bytes) -> None:
        """Keep bytes until they are read."""
        self._parts.append(data)
        self._buffered += len(data)

    def on_message_complete(self) -> None:
        """Note the end."""
        self._is_complete = self._has_head
        self._keeps_alive = self._parser.should_keep_alive()  # not known any more afterwards

    # ---

    def _is_head_too_long(self) -> bool:
        return sum(len(name) + len(value) for name, value in self._headers) > MAX_HEAD_BYTES

    def _is_framed(self) -> bool:
        return any(name in ("content-length", "transfer-encoding") for name, _ in self.headers)

    def _end(self, *, is_reusable: bool) -> None:
        self._timer.cancel()
        self._connection.end(self, is_reusable=is_reusable)
        self._wake()

    def _check_time(self) -> None:
        left_s = self._since + self._limit_s - self._loop.time()
        if self._is_paused:
            left_s = self._limit_s  # the caller is slow, not the server
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._check_time)
        else:
            self.close(f"it was silent for {self._limit_s:g} s")

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._arrival = self._loop.create_future()
        await self._arrival

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class Connection(asyncio.Protocol):
    """One keep-alive connection; carries one call at a time."""

    def __init__(self, give_back: Callable[["Connection"], None]) -> None:
        """Begin unconnected; `give_back` is called when a call ended and another may follow."""
        self.idle_since = 0.0
        self.is_open = False
        self._give_back = give_back
        self._transport: Any = None
        self._reply: Reply | None = None
        self._unwritten = memoryview(b"")
        """Of a large body."""
        self._may_write = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Hand on bytes; where nothing was asked, close."""
        if self._reply is None:
            self.close()
        else:
            self._reply.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the reply."""
        self.is_open = False
        if self._reply is not None:
            self._reply.lose(exc)

    def pause_writing(self) -> None:
        """Write no more for now."""
        self._may_write = False

    def resume_writing(self) -> None:
        """Go on with a large body, part by part."""
        self._may_write = True
        while self._unwritten and self._may_write and self.is_open:
            part, self._unwritten = self._unwritten[:PART_BYTES], self._unwritten[PART_BYTES:]
            self._transport.write(part)

    # Called by the reply.

    def pause_reading(self) -> None:
        """Let the server wait."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self.is_open:
            self._transport.resume_reading()

    def end(self, reply: Reply, *, is_reusable: bool) -> None:
        """Give it back, or close it, now that a call has ended."""
        if self._reply is not reply:
            return
        self._reply = None
        if is_reusable and self.is_open and not self._unwritten:
            self._give_back(self)
        else:
            self.close()

    # Called by the owner.

    def send(self, head: bytes, body: bytes, limit_s: float, *, renews: bool) -> Reply:
        """Send a call; its answer fails when nothing arrives for `limit_s`.

        That time ends with the head of the answer; with `renews` it then counts between bytes,
        else for the whole.
        """
        self._reply = reply = Reply(self, limit_s, renews=renews)
        if len(body) > PART_BYTES:
            self._transport.write(head)
            self._unwritten = memoryview(body)
            self.resume_writing()
        else:
            self._transport.write(head + body)
        if not self.is_open:
            reply.lose(None)
        return reply

    def close(self) -> None:
        """Close at once."""
        self.is_open = False
        self._unwritten = memoryview(b"")
        if self._transport is not None:
            self._transport.abort()
