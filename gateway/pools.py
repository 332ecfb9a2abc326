"""Pools of keep-alive connections, each to one server."""

import asyncio
import ssl
from collections import deque

from gateway.http1 import Connection

CONNECT_TIMEOUT_S = 5.0


class Pool:
    """Keep-alive connections to one server."""

    def __init__(
        self,
        *,
        socket_path: str = "",
        host: str = "",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        keep_alive_s: float,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """Begin without a connection; the server is at `socket_path`, or at `host` and `port`."""
        self._socket_path = socket_path
        self._host, self._port, self._tls = host, port, tls
        self._keep_alive_s = keep_alive_s
        self._connect_timeout_s = connect_timeout_s
        self._idle: deque[Connection] = deque()

    async def take(self) -> Connection:
        """Return a connection that carries no call.

        Raises:
            OSError: the server can't be reached; `TimeoutError` when it takes too long.
        """
        oldest = asyncio.get_running_loop().time() - self._keep_alive_s
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and connection.idle_since > oldest:
                return connection
            connection.close()
        async with asyncio.timeout(self._connect_timeout_s):
            return await self._connect()

    def put(self, connection: Connection) -> None:
        """Keep a connection for the next call, and no longer those that were idle too long."""
        now = connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        while self._idle[0].idle_since <= now - self._keep_alive_s:
            self._idle.popleft().close()

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._socket_path:
            _, connection = await loop.create_unix_connection(
                lambda: Connection(self.put), self._socket_path
            )
        else:
            _, connection = await loop.create_connection(
                lambda: Connection(self.put), self._host, self._port, ssl=self._tls
            )
        return connection
