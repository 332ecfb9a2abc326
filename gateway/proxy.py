"""The data plane's HTTP side: aiohttp to gate, and back. Knows no policy and no journal.

aiohttp does not cancel the handler of a caller that left but tells of it by `connection_lost`, and
its low-level server leaves `100-continue` to the handler: both are used knowingly here, so that a
cancelled call still gets its closing record and no body is asked for before its sender is known.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

from aiohttp import ClientError, ClientPayloadError, web
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.domain import ExchangeId, Refusal
from gateway.gate import Gate
from gateway.messages.body import MAX_BODY_BYTES
from gateway.messages.errors import error_body
from gateway.peers import Networks, peer_of
from gateway.ports import Arrival, CallerGone, Headers
from gateway.strangers import Strangers

MAX_HEADER_BYTES = 32 * 1024
"""Of one header; a token may have 16 KB."""
KEEP_ALIVE_S = 75.0
"""For an idle connection, and for a request's head to arrive."""
SEND_TIMEOUT_S = 120.0
"""For a caller to take bytes; one that does not is cut off."""
BODY_TIMEOUT_S = 120.0
"""For a whole request body to arrive."""

_BODY_CODINGS = {"content-encoding": "identity", "transfer-encoding": "chunked"}
"""Of a request: what each header may say, so that the bytes read are the bytes sent."""
_CHARSET_UTF8 = re.compile(r';\s*charset="?utf-?8"?\s*(?=;|$)')
_PROBES = {("HEAD", "/"), ("GET", "/healthz"), ("HEAD", "/api/hello")}

_log = logging.getLogger(__name__)


class _HttpCaller:
    """The gate's `Caller` over one aiohttp request."""

    def __init__(
        self, request: web.BaseRequest, gone: "asyncio.Future[None]", trusted: Networks
    ) -> None:
        self._request = request
        self.response: web.StreamResponse | None = None
        self._head: tuple[int, Headers] | None = None
        self.gone = gone
        path, _, query = request.raw_path.partition("?")
        headers = [
            (name.lower(), value if value.isascii() else _as_text(value))
            for name, value in request.headers.items()
        ]
        self.arrival = Arrival(
            method=request.method,
            path=path,
            query=query,
            headers=headers,
            peer=_peer_of(request, trusted),
            by_name=dict(reversed(headers)),
        )

    async def read_body(self) -> bytes:
        self._check_codings()
        if (self._request.content_length or 0) > MAX_BODY_BYTES:
            raise _too_large()
        if self.arrival.by_name.get("expect", "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0
        try:
            if self._request.content.is_eof():  # it came with the head: nothing to wait for
                return self._request.content.read_nowait()
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._read_all()
        except TimeoutError as e:
            raise Refusal("body.timeout", "The request body did not arrive.", status=408) from e
        except (ClientError, web.HTTPException, ConnectionError) as e:
            if self.gone.done():
                raise CallerGone from e
            raise Refusal("body.truncated", "The request body ended too early.") from e

    def _check_codings(self) -> None:
        for name, value in self.arrival.headers:
            said = value.strip().lower()
            if name in _BODY_CODINGS and said != _BODY_CODINGS[name]:
                raise Refusal("body.compressed", "Compressed request bodies are not accepted.")
            if name == "content-type" and said.count("charset") != len(_CHARSET_UTF8.findall(said)):
                raise Refusal("body.not_utf8", "The request body must be UTF-8.")

    async def _read_all(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := await self._request.content.readany():
            parts.append(part)
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise _too_large()
        return b"".join(parts)

    async def start(self, status: int, headers: Headers) -> None:
        if any(name == "content-length" for name, _ in headers):
            self._head = (status, headers)  # a whole answer: head and body go out in one write
            return
        self.response = web.StreamResponse(status=status, headers=headers)
        try:
            await self.response.prepare(self._request)
        except ConnectionError as e:
            raise CallerGone from e

    async def send(self, data: bytes) -> None:
        transport = self._request.transport
        if transport is None:
            raise CallerGone
        stuck = asyncio.get_running_loop().call_later(SEND_TIMEOUT_S, transport.abort)
        try:
            if self._head is not None:
                status, headers = self._head
                whole = web.Response(status=status, headers=headers, body=data)
                self.response, self._head = whole, None
                await whole.prepare(self._request)
                await whole.write_eof()
            elif self.response is not None:
                await self.response.write(data)
        except ConnectionError as e:
            raise CallerGone from e
        finally:
            stuck.cancel()

    def bodiless(self) -> web.Response | None:
        """Return the answer that was started and has no body."""
        if self._head is None:
            return None
        status, headers = self._head
        return web.Response(status=status, headers=headers)


def _peer_of(request: web.BaseRequest, trusted: Networks) -> str:
    peer = request.remote or ""
    return (
        peer_of(peer, request.headers.getall("x-forwarded-for", ()), trusted) if trusted else peer
    )


def _as_text(value: str) -> str:
    """Return a header value of any bytes as characters that every encoder takes."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def _too_large() -> Refusal:
    return Refusal("body.too_large", "The request body is larger than 32 MB.", status=413)


class _Connection(RequestHandler):
    """One connection: tells its caller's exchange when it is lost, and errs in the API's shape."""

    gone: "asyncio.Future[None] | None" = None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.gone is not None and not self.gone.done():
            self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a body that stops being HTTP fails its reader, who would wait for ever."""
        super().data_received(data)
        request = self._current_request
        if request is not None and self._messages and isinstance(self._messages[-1][0], _ErrInfo):
            content = request.content
            if not content.is_eof() and content.exception() is None:
                content.set_exception(ClientPayloadError("not HTTP"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; may quote the request
    ) -> web.StreamResponse:
        """Answer what never reached the gate: a request that aiohttp's parser refuses."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        return self.server.refuse(request, status, exc)

    @property
    def server(self) -> "ProxyServer":
        """The server this connection belongs to."""
        server = self._manager
        if not isinstance(server, ProxyServer):
            raise ConnectionError("the connection is lost")
        return server


class ProxyServer(web.Server):
    """aiohttp's low-level server over a gate."""

    def __init__(
        self,
        gate: Gate,
        strangers: Strangers,
        new_id: Callable[[], ExchangeId],
        trusted_proxies: Networks = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(
            self._handle,
            max_field_size=MAX_HEADER_BYTES,
            max_line_size=MAX_HEADER_BYTES,
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_S,
            access_log=None,
            **kwargs,
        )
        self._gate = gate
        self._strangers = strangers
        self._new_id = new_id
        self._trusted_proxies = trusted_proxies

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(self, loop=self._loop, **self._kwargs)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if (request.method, request.raw_path) in _PROBES:
            return web.Response(text="" if request.method == "HEAD" else "ok\n")
        connection = request.protocol
        gone = asyncio.get_running_loop().create_future()
        if isinstance(connection, _Connection):
            connection.gone = gone
        if request.transport is None:
            gone.set_result(None)
        caller = _HttpCaller(request, gone, self._trusted_proxies)
        try:
            await self._gate.run(caller)
        except CallerGone:
            pass
        except Exception:  # noqa: BLE001 - the last resort: the caller gets no content of it
            _log.exception("handler_failed")
            return self._abort(request, caller)
        return caller.response or caller.bodiless() or _nobody()

    def _abort(self, request: web.BaseRequest, caller: _HttpCaller) -> web.StreamResponse:
        if caller.response is None:
            return self.refuse(request, 500, None)
        if request.transport is not None:
            request.transport.abort()
        return caller.response

    def refuse(
        self, request: web.BaseRequest, status: int, exc: BaseException | None
    ) -> web.Response:
        """Return an error answer for a call that has no exchange; counted as an event."""
        code = "http.malformed" if status < 500 else "gateway.error"
        self._strangers.note(code, _peer_of(request, self._trusted_proxies))
        _log.warning("request_refused status=%d error=%s", status, type(exc).__name__)
        exchange_id = self._new_id()
        words = "can't be read as HTTP" if status < 500 else "could not be handled"
        body = error_body(status, f"The request {words}. [{code}, {exchange_id}]", exchange_id)
        response = web.Response(
            status=status,
            body=body,
            headers={
                "content-type": "application/json",
                "request-id": exchange_id,
                "x-should-retry": "false",
            },
        )
        if request.method == "HEAD":
            response.body = None
        response.force_close()
        return response


def _nobody() -> web.Response:
    """Return an answer for a caller that is gone; aiohttp drops it."""
    return web.Response(status=499)
