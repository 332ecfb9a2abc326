"""The HTTP/1.1 client against servers that say every byte themselves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.http1 import MAX_HEAD_BYTES, PART_BYTES, Broken, Connection
from gateway.pools import Pool

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CALL = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """A server that does as it is told with each connection, and counts them."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.connections = 0
        self.is_lost = asyncio.Event()
        """Whether a client closed its connection."""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection."""
        self.connections += 1
        try:
            await self._say(reader, writer)
            await reader.read()
            self.is_lost.set()
        except ConnectionError:
            self.is_lost.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(say: Say, *, keep_alive_s: float = 5) -> AsyncIterator[tuple[Server, Pool]]:
    """Serve on loopback, with a pool of connections to it."""
    server = Server(say)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    pool = Pool(host="127.0.0.1", port=server.port, keep_alive_s=keep_alive_s)
    async with listener:
        yield server, pool
        pool.close()


def always(*parts: bytes) -> Say:
    """Return what answers each call with the same bytes, in so many writes."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.005)

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await say(reader, writer)
        except asyncio.IncompleteReadError:
            return

    return until_closed


def once(*parts: bytes) -> Say:
    """Return what answers one call and closes the connection."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write_eof()

    return say


async def ask(pool: Pool, body: bytes = b"", limit_s: float = 5) -> tuple[int, bytes]:
    """Make a call and return its whole answer."""
    connection = await pool.take()
    reply = connection.send(CALL % len(body), body, limit_s, renews=True)
    try:
        await reply.head()
        return reply.status, await reply.read_all()
    finally:
        reply.close()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param([OK], (200, b"ok"), id="at once"),
        pytest.param([bytes([b]) for b in OK], (200, b"ok"), id="by byte"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", b"0\r\n\r\n"],
            (200, b"ok"),
            id="chunked",
        ),
        pytest.param(
            [
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
                b"x-late: 1\r\n\r\n",
            ],
            (200, b"ok"),
            id="with a trailer",
        ),
        pytest.param(
            [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n" + OK],
            (200, b"ok"),
            id="after interim answers",
        ),
        pytest.param([b"HTTP/1.1 204 No Content\r\n\r\n"], (204, b""), id="without a body"),
        pytest.param([b"HTTP/1.1 529 \r\ncontent-length: 0\r\n\r\n"], (529, b""), id="no reason"),
    ],
)
async def test_an_answer_is_read_and_its_connection_used_again(
    parts: list[bytes], expected: tuple[int, bytes]
) -> None:
    async with serving(always(*parts)) as (server, pool):
        assert [await ask(pool) for _ in range(3)] == [expected] * 3
        assert server.connections == 1


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"HTTP/1.1 200 OK\r\n\r\no", b"k"], id="of no stated length"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"],
            id="that says so",
        ),
        pytest.param([b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"], id="of the old protocol"),
        pytest.param([OK + b"HTTP/1.1 200 OK\r\n"], id="and begins another that nobody asked for"),
        pytest.param([OK + b"\0\0"], id="and says more"),
    ],
)
async def test_the_end_of_such_an_answer_is_that_of_its_connection(parts: list[bytes]) -> None:
    async with serving(once(*parts)) as (server, pool):
        assert [await ask(pool) for _ in range(2)] == [(200, b"ok")] * 2
        assert server.connections == 2


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        pytest.param([], "closed", id="nothing"),
        pytest.param([b"HTTP/1.1 200 OK\r\nx: "], "closed", id="half a head"),
        pytest.param([OK[:-1]], "closed", id="less than was announced"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"],
            "closed",
            id="chunks without an end",
        ),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\n"],
            "not HTTP",
            id="a bad chunk",
        ),
        pytest.param([b"SSH-2.0-x\r\n"], "not HTTP", id="another protocol"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk"],
            "not HTTP",
            id="two lengths",
        ),
        pytest.param(
            [b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"],
            "not HTTP|closed",
            id="an upgrade",
        ),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nx: " + b"x" * MAX_HEAD_BYTES + b"\r\ncontent-length: 0\r\n\r\n"],
            "not HTTP|too long",
            id="a long head",
        ),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 8192 + b"\r\n"] * 10],
            "not HTTP|too long",
            id="a head that does not end",
        ),
    ],
)
async def test_half_an_answer_is_never_a_whole_one(parts: list[bytes], why: str) -> None:
    async with serving(once(*parts)) as (_, pool):
        with pytest.raises(Broken, match=why):
            await ask(pool)


async def test_headers_come_in_order_and_in_lower_case() -> None:
    head = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-Empty:\r\nx-a: caf\xc3\xa9\r\ncontent-length: 0\r\n\r\n"
    async with serving(always(head)) as (_, pool):
        connection = await pool.take()
        reply = connection.send(CALL % 0, b"", 5, renews=True)
        await reply.head()
        assert reply.headers == [
            ("x-a", "1"),
            ("x-empty", ""),
            ("x-a", "caf\u00e9"),
            ("content-length", "0"),
        ]


async def test_a_large_body_is_written_in_parts_and_whole() -> None:
    body = bytes(range(256)) * 1024 * 40
    got = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        got.append(await reader.readexactly(len(body)))
        writer.write(OK)

    async with serving(say) as (_, pool):
        assert await ask(pool, body) == (200, b"ok")
    assert got == [body]


async def test_an_answer_before_the_body_was_sent_is_delivered() -> None:
    refused = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refused)
        await is_answered.wait()  # nothing more is read until then

    is_answered = asyncio.Event()
    async with serving(say) as (server, pool):
        assert await ask(pool, b"x" * (64 * PART_BYTES)) == (413, b"no")
        is_answered.set()
        await server.is_lost.wait()  # the rest of the body is never sent: no second call on it
        assert await ask(pool) == (413, b"no")
        assert server.connections == 2


async def test_a_caller_that_does_not_read_holds_the_server_back() -> None:
    written = 0

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(400):
            writer.write(b"x" * PART_BYTES)
            await writer.drain()
            written += PART_BYTES
        writer.write_eof()

    async with serving(say) as (_, pool):
        connection = await pool.take()
        reply = connection.send(CALL % 0, b"", 0.2, renews=True)
        await reply.head()
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.3)
        assert written < 300 * PART_BYTES
        assert len(await reply.read_all()) == 400 * PART_BYTES  # nor was that counted as silence


@pytest.mark.parametrize(
    "said", [pytest.param(b"", id="no head"), pytest.param(OK[:-1], id="no rest")]
)
async def test_silence_is_the_end(said: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    async with serving(say) as (server, pool):
        with pytest.raises(Broken, match="silent"):
            await ask(pool, limit_s=0.1)
        await server.is_lost.wait()


async def test_without_renewal_the_time_counts_for_the_whole() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(say) as (_, pool):
        connection = await pool.take()
        reply = connection.send(CALL % 0, b"", 0.2, renews=False)
        with pytest.raises(Broken, match="silent"):
            await reply.read_all()


async def test_a_cancelled_call_closes_its_connection_at_once() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nfirst")

    async with serving(say) as (server, pool):
        connection = await pool.take()
        reply = connection.send(CALL % 0, b"", 5, renews=True)
        assert await reply.read() == b"first"
        pending = asyncio.ensure_future(reply.read())
        await asyncio.sleep(0)
        reply.close()
        with pytest.raises(Broken, match="cancelled"):
            await pending
        await server.is_lost.wait()


async def test_a_call_on_a_connection_that_was_just_closed_fails() -> None:
    async with serving(always(OK)) as (_, pool):
        connection = await pool.take()
        connection.close()
        reply = connection.send(CALL % 0, b"", 5, renews=True)
        with pytest.raises(Broken):
            await reply.head()


async def test_what_was_idle_too_long_is_not_used_again() -> None:
    async with serving(always(OK), keep_alive_s=0.05) as (server, pool):
        await ask(pool)
        await asyncio.sleep(0.1)
        await ask(pool)
        assert server.connections == 2


async def test_bytes_that_nobody_asked_for_end_a_connection() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await asyncio.sleep(0.05)
        writer.write(OK)

    async with serving(say) as (server, pool):
        await ask(pool)
        await server.is_lost.wait()
        await ask(pool)
        assert server.connections == 2


async def test_a_server_that_is_not_there_is_an_error_of_the_system() -> None:
    pool = Pool(host="127.0.0.1", port=1, keep_alive_s=5)
    with pytest.raises(OSError, match="Connect call failed"):
        await pool.take()


async def test_an_idle_connection_is_what_take_gives() -> None:
    async with serving(always(OK)) as (_, pool):
        first = await pool.take()
        assert isinstance(first, Connection)
        pool.put(first)
        assert await pool.take() is first
