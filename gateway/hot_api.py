"""The hot index's HTTP API: what the tables do not have yet, for consoles that know its token.

In a process of its own, beside the recorder: neither waits for the other, and what runs is shown
also while the recorder or the catalog is away.
"""

import asyncio
import hmac
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from gateway.recorder_metrics import CONTENT_TYPE, render
from gateway.serving import serve_until_stopped
from gateway.tls import Certificate
from lake.hot import HotIndex
from lake.hot_answers import HotState
from lake.recorder_state import RecorderState

STEP_S = 0.1
"""Pause between steps, so that one takes what gathered; what is journaled must be visible within a
second."""
BACKLOG = 1_000
"""Frames in one step, from which on there is no pause."""
PAGE_PATH = "/v1/hot/exchanges"
STATE_PATH = "/v1/state"
METRICS_PATH = "/metrics"


class _State(msgspec.Struct, frozen=True, kw_only=True):
    recorder: RecorderState
    hot: HotState


class HotApi:
    """Answers questions about the hot index."""

    def __init__(
        self, index: HotIndex, token: str, recorder_state: Callable[[], RecorderState]
    ) -> None:
        self._index = index
        self._authorization = f"Bearer {token}".encode()
        self._recorder_state = recorder_state

    def build_app(self) -> web.Application:
        """Return the web application."""
        app = web.Application(middlewares=[self._authenticate])
        app.router.add_get(PAGE_PATH, self._page)
        app.router.add_get(PAGE_PATH + "/{exchange_id}", self._exchange)
        app.router.add_get(STATE_PATH, self._state)
        app.router.add_get(METRICS_PATH, self._metrics)
        return app

    @web.middleware
    async def _authenticate(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        given = request.headers.get("authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._authorization):
            raise web.HTTPUnauthorized
        return await handler(request)

    async def _page(self, request: web.Request) -> web.Response:
        marks = [request.query.get(name, "0") for name in ("since", "removed_since")]
        if not all(mark.isascii() and mark.isdigit() and len(mark) <= 18 for mark in marks):
            raise web.HTTPBadRequest(reason="since and removed_since are an earlier page's marks")
        return _json(self._index.page(request.query.get("epoch", ""), *map(int, marks)))

    async def _exchange(self, request: web.Request) -> web.Response:
        found = self._index.exchange(request.match_info["exchange_id"])
        if found is None:
            raise web.HTTPNotFound
        return _json(found)

    async def _state(self, _request: web.Request) -> web.Response:
        return _json(_State(recorder=self._recorder_state(), hot=self._index.state()))

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = render(self._recorder_state(), self._index.state())
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE})


async def serve(
    index: HotIndex,
    listener: socket.socket,
    token: str,
    recorder_state: Callable[[], RecorderState],
    ready: Callable[[], None],
    stop: asyncio.Event,
    certificate: Certificate | None = None,
) -> None:
    """Keep the index fresh and answer until stopped."""
    app = HotApi(index, token, recorder_state).build_app()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    try:
        async with asyncio.TaskGroup() as tasks:
            stepping = tasks.create_task(_keep_fresh(index))
            await serve_until_stopped(runner, listener, ready, certificate, stop)
            stepping.cancel()
    finally:
        index.close()


async def _keep_fresh(index: HotIndex) -> None:
    while True:
        count = index.step()
        await asyncio.sleep(0 if count >= BACKLOG else STEP_S)


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
