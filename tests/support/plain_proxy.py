"""A small gateway that keeps the contract of the conformance suite, and can be told to break it."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

TOKEN = "a-good-token"
EXPIRED = "an-expired-token"
MODEL = "claude-sonnet-4-5"
DENIED = "claude-mythos-1"

FLAWS = {
    "buffers": "a stream is sent when it is whole",
    "drops a beta": "only betas that it knows are forwarded",
    "drops new headers": "only headers that it knows are forwarded",
    "drops the query": "the query is not forwarded",
    "leaks the token": "the caller's credential is forwarded",
    "leaks x-api-key": "one of the caller's two credentials is forwarded",
    "rewrites bodies": "requests are parsed and written again",
    "flattens system": "the first block of `system` is dropped",
    "rewrites errors": "errors are put in its own words",
    "drops response headers": "only headers that it knows come back",
    "rewrites streams": "pings and comments are dropped",
    "ends cleanly": "a broken stream ends as if it were whole",
    "works on": "the server is not told that the caller left",
    "passes redirects": "a redirect is passed on",
    "passes 401": "the server's 401 is passed on",
    "passes codings": "the caller's accept-encoding is forwarded, and the answer's coding dropped",
    "adds a charset": "`content-type` is completed",
    "lets anyone in": "credentials are not looked at",
    "invites retries": "refusals do not stop retries",
    "refuses in plain text": "refusals are not in the API's shape",
    "passes all routes": "unknown routes are passed on",
    "lists all models": "the list of models is passed on",
    "reads the last key": "a repeated key is no reason to refuse",
    "answers 404": "a denial is a 404",
    "limits bodies": "bodies of a megabyte are the largest",
    "needs a length": "chunked requests are refused",
    "waits for the body": "Expect is not answered",
}

_ROUTES = {
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/v1/models"),
}
_KINDS = {401: "authentication_error", 403: "permission_error", 413: "request_too_large"}
_OWN = {"host", "content-length", "transfer-encoding", "connection", "expect"}
_KNOWN = {"content-type", "anthropic-version", "anthropic-beta", "user-agent"}


class Refused(Exception):
    """An answer of the proxy's own."""

    def __init__(self, status: int, text: str, *, retry: bool = False) -> None:
        super().__init__(text)
        self.status, self.text, self.retry = status, text, retry


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise Refused(400, "A key is repeated.")
    return dict(pairs)


class PlainProxy:
    """The proxy, with at most one flaw."""

    def __init__(self, upstream_port: int, flaw: str = "") -> None:
        assert flaw in {"", *FLAWS}
        self._upstream = f"http://127.0.0.1:{upstream_port}"
        self._flaw = flaw

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve while inside, at the address that is returned."""
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as self._session:
            server = web.Server(
                self._handle,
                handler_cancellation=self._flaw != "works on",
                auto_decompress=False,
            )
            runner = web.ServerRunner(server, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            try:
                yield f"http://127.0.0.1:{runner.addresses[0][1]}"
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._carry(request)
        except Refused as e:
            headers = {"request-id": "req_own"}
            if not e.retry and self._flaw != "invites retries":
                headers["x-should-retry"] = "false"
            if self._flaw == "refuses in plain text":
                return web.Response(status=e.status, text=e.text, headers=headers)
            error = {"type": _KINDS.get(e.status, "invalid_request_error"), "message": e.text}
            return web.json_response(
                {"type": "error", "error": error}, status=e.status, headers=headers
            )

    async def _carry(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if (request.method, path) in {("HEAD", "/"), ("HEAD", "/api/hello")}:
            return web.Response()
        self._check_credential(request)
        if (request.method, path) not in _ROUTES and self._flaw != "passes all routes":
            raise Refused(403, "This route is not carried.")
        body = await self._read_body(request)
        if path.startswith("/v1/messages") and self._flaw != "passes all routes":
            body = self._check_body(body)
        return await self._forward(request, body)

    def _check_credential(self, request: web.BaseRequest) -> None:
        shown = {request.headers.get("x-api-key", "")}
        shown.add(request.headers.get("authorization", "").removeprefix("Bearer "))
        if self._flaw != "lets anyone in" and shown - {""} != {TOKEN}:
            raise Refused(401, "Who are you?", retry=shown - {""} == {EXPIRED})

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        if "content-encoding" in request.headers:
            raise Refused(400, "Compressed bodies are not read.")
        if self._flaw == "needs a length" and "transfer-encoding" in request.headers:
            raise Refused(400, "A length is needed.")
        most = 2**20 if self._flaw == "limits bodies" else 2**25
        if (request.content_length or 0) > most:
            raise Refused(413, "The body is too large.")
        if "expect" in request.headers and self._flaw != "waits for the body":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        return await request.content.read()

    def _check_body(self, body: bytes) -> bytes:
        hook = dict if self._flaw == "reads the last key" else _once
        value = json.loads(body, object_pairs_hook=hook)
        if value["model"] == DENIED:
            raise Refused(404 if self._flaw == "answers 404" else 403, "Not this model.")
        if self._flaw == "flattens system" and isinstance(value.get("system"), list):
            value["system"] = value["system"][1:]
            return json.dumps(value).encode()
        return json.dumps(value).encode() if self._flaw == "rewrites bodies" else body

    def _headers(self, request: web.BaseRequest) -> list[tuple[str, str]]:
        dropped = {*_OWN, "authorization", "x-api-key", "accept-encoding"}
        dropped -= {
            "leaks the token": {"authorization"},
            "leaks x-api-key": {"x-api-key"},
            "passes codings": {"accept-encoding"},
        }.get(self._flaw, set())
        kept = []
        for name, value in request.headers.items():
            lower, said = name.lower(), value
            if lower in dropped or (self._flaw == "drops new headers" and lower not in _KNOWN):
                continue
            if self._flaw == "drops a beta" and lower == "anthropic-beta":
                said = ",".join(beta for beta in value.split(",") if "new" not in beta)
            kept.append((name, said))
        if self._flaw != "passes codings":
            kept.append(("accept-encoding", "identity"))
        return kept

    async def _forward(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        target = request.raw_path
        if self._flaw == "drops the query":
            target = target.partition("?")[0]
        try:
            answer = await self._session.request(
                request.method,
                URL(f"{self._upstream}{target}", encoded=True),
                data=io.BytesIO(body) if body else None,
                headers=self._headers(request),
                allow_redirects=False,
                skip_auto_headers=("accept-encoding", "user-agent", "content-type", "accept"),
            )
        except aiohttp.ClientError as e:
            raise Refused(502, "The server can't be reached.", retry=True) from e
        async with answer:
            return await self._answer(request, answer)

    async def _answer(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        if answer.status == 401 and self._flaw != "passes 401":
            raise Refused(502, "The server refused the gateway.", retry=True)
        if 300 <= answer.status < 400 and self._flaw != "passes redirects":
            raise Refused(502, "The server answered oddly.", retry=True)
        if answer.status >= 400 and self._flaw == "rewrites errors":
            raise Refused(answer.status, "An error occurred.", retry=True)
        headers = self._answer_headers(answer)
        response = web.StreamResponse(status=answer.status, headers=headers)
        if answer.content_type == "text/event-stream":
            return await self._stream(request, answer, response)
        body = await answer.read()
        if request.raw_path.startswith("/v1/models") and self._flaw != "lists all models":
            page = json.loads(body)
            shown = [model for model in page["data"] if model["id"] == MODEL]
            if shown != page["data"]:
                body = json.dumps(page | {"data": shown}).encode()
        return web.Response(status=answer.status, headers=headers, body=body)

    def _answer_headers(self, answer: aiohttp.ClientResponse) -> list[tuple[str, str]]:
        kept = [(n, v) for n, v in answer.headers.items() if n.lower() not in _OWN]
        if self._flaw == "drops response headers":
            kept = [(n, v) for n, v in kept if n.lower() == "content-type"]
        if self._flaw == "passes codings":
            kept = [(n, v) for n, v in kept if n.lower() != "content-encoding"]
        if self._flaw == "adds a charset":
            kept = [
                (n, f"{v}; charset=utf-8" if n.lower() == "content-type" else v) for n, v in kept
            ]
        return kept

    async def _stream(
        self,
        request: web.BaseRequest,
        answer: aiohttp.ClientResponse,
        response: web.StreamResponse,
    ) -> web.StreamResponse:
        whole = await answer.read() if self._flaw == "buffers" else b""
        await response.prepare(request)
        try:
            await response.write(whole)
            with suppress(aiohttp.EofStream):
                async for part in answer.content.iter_any():
                    await response.write(self._part(part))
        except aiohttp.ClientError:
            if self._flaw != "ends cleanly" and request.transport is not None:
                request.transport.abort()
                return response
        with suppress(ConnectionError):
            await response.write_eof()
        return response

    def _part(self, part: bytes) -> bytes:
        if self._flaw != "rewrites streams":
            return part
        events = part.split(b"\n\n")
        return b"\n\n".join(e for e in events if not e.startswith((b": ", b"event: ping")))
