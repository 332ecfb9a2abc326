"""The caller's side: makes calls as bytes and reads answers as they come."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.conformance.wire import Headers, find, read_body, read_headers, write_head

PATIENCE_S = 20.0
"""For one thing to happen; a gateway may need seconds for a body of the largest size."""

_BROKEN = (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, ValueError)
_NO_BODY = (204, 304)


@dataclass(kw_only=True)
class Answer:
    """An answer, whole or as far as it came."""

    status: int = 0
    """0 where there is none."""
    headers: Headers = ()
    body: bytes = b""
    is_whole: bool = False
    """Whether it ended as its framing says."""
    interim: list[int] = field(default_factory=list)
    """Statuses of interim answers, such as 100."""

    def header(self, name: str) -> str:
        """Return a header's value."""
        return find(self.headers, name)

    def __str__(self) -> str:
        """Return the answer in short."""
        if not self.status:
            return "no answer"
        end = "" if self.is_whole else ", broken off"
        return f"{self.status} {self.header('content-type') or '-'} {self.body[:100]!r}{end}"


class Call:
    """A call under way."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        has_body: bool,
        patience_s: float,
    ) -> None:
        self.answer = Answer()
        self._patience_s = patience_s
        self._reader, self._writer = reader, writer
        self._has_body = has_body
        self._parts = self._read()

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def until(self, text: bytes) -> bool:
        """Read until the answer's body holds this; says whether it came."""
        while text not in self.answer.body and await self._next():
            pass
        return text in self.answer.body

    async def until_status(self, status: int) -> bool:
        """Read until there is a head, or an interim answer, of this status."""
        answer = self.answer
        while status not in (answer.status, *answer.interim) and await self._next():
            pass
        return status in (answer.status, *answer.interim)

    async def end(self) -> Answer:
        """Read to the end."""
        while await self._next():
            pass
        return self.answer

    def again(self) -> "Call":
        """Return the next call on the same connection."""
        return Call(
            self._reader, self._writer, has_body=self._has_body, patience_s=self._patience_s
        )

    def end_sending(self) -> None:
        """Close this side only."""
        self._writer.write_eof()

    def leave(self) -> None:
        """Close, as a client does that is stopped."""
        self._writer.close()

    async def _next(self) -> bool:
        """Read on by one step; says whether there was one in time."""
        with suppress(*_BROKEN):
            async with asyncio.timeout(self._patience_s):
                return await anext(self._parts, None) is not None
        return False

    async def _read(self) -> AsyncIterator[bytes]:
        answer = self.answer
        while not answer.status:
            first, headers = read_headers(await self._reader.readuntil(b"\r\n\r\n"))
            status = int(first.split(" ")[1])
            if status < 200:
                answer.interim.append(status)
            else:
                answer.status, answer.headers = status, headers
            yield b""
        if self._has_body and answer.status not in _NO_BODY:
            async for part in read_body(self._reader, answer.headers, is_answer=True):
                answer.body += part
                yield part
        answer.is_whole = True


@dataclass(frozen=True)
class Caller:
    """A client of the tested gateway, with its token."""

    base_url: str
    token: str
    patience_s: float = PATIENCE_S

    def head(self, method: str, target: str, headers: Headers, *, shows: bool = True) -> bytes:
        """Return the head of a call; with `shows`, the token is in it as `authorization`."""
        url = urlsplit(self.base_url)
        own = [("host", url.netloc), ("user-agent", "countersign-conformance/1")]
        if shows and self.token:
            own.append(("authorization", f"Bearer {self.token}"))
        path = f"{url.path.rstrip('/')}{target}"
        return write_head(f"{method} {path} HTTP/1.1", [*own, *headers])

    @asynccontextmanager
    async def connected(self, *, has_body: bool = True) -> AsyncIterator[Call]:
        """Return a connection on which nothing was sent yet."""
        url = urlsplit(self.base_url)
        is_tls = url.scheme == "https"
        reader, writer = await asyncio.open_connection(
            url.hostname,
            url.port or (443 if is_tls else 80),
            ssl=ssl.create_default_context() if is_tls else None,
        )
        try:
            yield Call(reader, writer, has_body=has_body, patience_s=self.patience_s)
        finally:
            writer.close()

    @asynccontextmanager
    async def calling(
        self, body: bytes, target: str = "/v1/messages", headers: Headers = ()
    ) -> AsyncIterator[Call]:
        """Make a call and return it, to be read."""
        said = [("content-type", "application/json"), ("anthropic-version", "2023-06-01")]
        said = [pair for pair in said if not find(headers, pair[0])]
        sizes = [("content-length", str(len(body)))]
        async with self.connected() as call:
            await call.send(self.head("POST", target, [*said, *headers, *sizes]) + body)
            yield call

    async def post(
        self, body: bytes, target: str = "/v1/messages", headers: Headers = ()
    ) -> Answer:
        """Make a call and return its answer."""
        async with self.calling(body, target, headers) as call:
            return await call.end()

    async def get(self, target: str, headers: Headers = (), method: str = "GET") -> Answer:
        """Make a call without a body and return its answer."""
        async with self.connected(has_body=method != "HEAD") as call:
            await call.send(self.head(method, target, headers))
            return await call.end()
