"""Listening and serving until a process is asked to stop."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from gateway.tls import Certificate


def stop_event() -> asyncio.Event:
    """Return an event that SIGTERM sets."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


def listen(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a listening socket; shared ones may be listened on by several workers."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(1024)
    return listener


async def serve_until_stopped(
    runner: web.BaseRunner,
    listener: socket.socket,
    ready: Callable[[], None],
    certificate: Certificate | None = None,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or `stop`, then let running calls end within the runner's bound."""
    stop = stop or stop_event()
    await runner.setup()
    try:
        async with _renewing(certificate):
            context = certificate.context if certificate else None
            await web.SockSite(runner, listener, ssl_context=context).start()
            ready()
            await stop.wait()
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _renewing(certificate: Certificate | None) -> AsyncIterator[None]:
    if certificate is None:
        yield
        return
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(certificate.keep_renewing())
        yield
        watch.cancel()
