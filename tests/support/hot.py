"""A hot index that is served from a thread of the test."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.hot_api import serve
from lake.hot import HotIndex
from lake.recorder_state import RecorderState


@contextmanager
def serving(
    open_index: Callable[[], HotIndex],
    listener: socket.socket,
    token: str,
    recorder_state: Callable[[], RecorderState],
) -> Iterator[None]:
    """Serve as long as the block runs."""
    ready, begun = threading.Event(), list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]()

    async def run() -> None:
        stop = asyncio.Event()
        begun.append((asyncio.get_running_loop(), stop))
        await serve(open_index(), listener, token, recorder_state, ready.set, stop)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        loop, stop = begun[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
