"""A bare aiohttp pass-through: the base of all ratios. No identity, no policy, no record.

Written as well as one that does nothing else can be: the low-level server, uvloop, one pooled
session, bytes handed on as they arrive.
"""

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

_HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Host")
_READY = "ready\n"


class BareProxy:
    """Hands every request to one server and its answer back."""

    def __init__(self, session: ClientSession, upstream: str) -> None:
        self._session = session
        self._upstream = upstream

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Carry one request."""
        headers = CIMultiDict(request.headers)
        for name in _HOP_BY_HOP:
            headers.popall(name, None)
        async with self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=await request.read() if request.body_exists else None,
            allow_redirects=False,
        ) as answer:
            returned = CIMultiDict(answer.headers)
            for name in _HOP_BY_HOP:
                returned.popall(name, None)
            response = web.StreamResponse(status=answer.status, headers=returned)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


async def serve(port: int, upstream: str) -> None:
    """Serve on loopback until standard input ends."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    async with ClientSession(
        connector=TCPConnector(limit=0),
        timeout=ClientTimeout(total=None),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
    ) as session:
        server = web.Server(BareProxy(session, upstream).handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        sys.stdout.write(_READY)
        sys.stdout.flush()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
