"""The configured Claude servers: a call goes out with the endpoint's own credential.

The caller's credentials and this gateway's own headers never go along; everything else does,
unchanged and in order.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from yarl import URL

from gateway.domain import Fact, Failure, Refusal
from gateway.http1 import Broken, Connection, Reply
from gateway.pools import Pool
from gateway.ports import CallerGone, Headers

if TYPE_CHECKING:
    import asyncio

KEEP_ALIVE_S = 4.0
"""Shorter than common servers' own 5 s, so that no call meets a connection just being closed."""

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_FORWARDED = _HOP_BY_HOP | {
    "accept-encoding",
    "authorization",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "x-api-key",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-real-ip",
}
"""Among them what some servers take for another method, path or peer than the request's own."""
_NOT_RETURNED = _HOP_BY_HOP | {"content-length", "set-cookie"}
_NOT_FORWARDED_PREFIXES = ("x-countersign-", "x-forwarded-", "x-original-", "x-rewrite-")


class Endpoint(Fact, frozen=True, kw_only=True):
    """A Claude server inside the company."""

    name: str
    base_url: str
    credential: str
    """Sent as `x-api-key`."""


class UpstreamAnswer:
    """An answer under way."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.status = reply.status
        self.headers: Headers = [
            header for header in reply.headers if header[0] not in _NOT_RETURNED
        ]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raises `Failure` if it breaks off."""
        try:
            while chunk := await self._reply.read():
                yield chunk
        except Broken as e:
            raise Failure(
                "upstream_broke_off", "The Claude server broke off its answer.", status=502
            ) from e

    def cancel(self) -> None:
        """Close the connection, unless the answer was read to its end."""
        self._reply.close()


class _Server:
    """A Claude server and the connections to it."""

    def __init__(self, endpoint: Endpoint) -> None:
        url = URL(endpoint.base_url)
        is_tls = url.scheme == "https"
        self.path = url.raw_path.rstrip("/")
        self.host = url.raw_authority
        self.credential = endpoint.credential
        self.pool = Pool(
            host=url.host or "",
            port=url.port or 0,
            tls=ssl.create_default_context() if is_tls else None,
            keep_alive_s=KEEP_ALIVE_S,
        )


class Upstreams:
    """All endpoints, each with its pool of connections."""

    def __init__(self, endpoints: Mapping[str, Endpoint], *, answer_timeout_s: float) -> None:
        self._servers = {name: _Server(endpoint) for name, endpoint in endpoints.items()}
        self._answer_timeout_s = answer_timeout_s
        self.endpoints = tuple(endpoints)

    async def forward(
        self,
        endpoint: str,
        method: str,
        path: str,
        query: str,
        headers: Headers,
        body: bytes,
        gone: "asyncio.Future[None]",
    ) -> UpstreamAnswer:
        """Send a call and return its answer once status and headers are there.

        Raises:
            Failure: the server can't be reached, is too slow, or answers what can't be passed on.
            CallerGone: `gone` was done first; the call is cancelled.
        """
        server = self._servers[endpoint]
        head = _head(server, method, path, query, headers, len(body))
        connection = await _connect(server)
        if gone.done():
            server.pool.put(connection)
            raise CallerGone
        reply = connection.send(head, body, self._answer_timeout_s, renews=True)
        gone.add_done_callback(lambda _: reply.close())
        try:
            await reply.head()
            return _checked(reply)
        except Broken as e:
            if gone.done():
                raise CallerGone from None
            raise _unreachable(f"gave no answer: {e}") from e
        except BaseException:
            reply.close()
            raise

    def close(self) -> None:
        """Close all idle connections."""
        for server in self._servers.values():
            server.pool.close()


async def _connect(server: _Server) -> Connection:
    try:
        return await server.pool.take()
    except OSError as e:
        raise _unreachable("can't be reached") from e


def _head(
    server: _Server, method: str, path: str, query: str, headers: Headers, body_bytes: int
) -> bytes:
    """Return the head of a call; raises `Refusal` for a header that is not ASCII."""
    target = f"{server.path}{path}{'?' if query else ''}{query}"
    lines = [f"{method} {target} HTTP/1.1", f"host: {server.host}"]
    lines += [f"{name}: {value}" for name, value in _forwarded(headers)]
    lines += ["accept-encoding: identity", f"x-api-key: {server.credential}"]
    if method == "POST":
        lines.append(f"content-length: {body_bytes}")
    try:
        head = "\r\n".join([*lines, "", ""]).encode("ascii")
    except UnicodeEncodeError as e:
        raise Refusal("header.not_ascii", "A header holds other characters than ASCII.") from e
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
        raise Refusal("header.not_a_line", "A header holds a line break.")
    return head


def _checked(reply: Reply) -> UpstreamAnswer:
    """Return an answer that can be passed on."""
    answer = UpstreamAnswer(reply)
    encoding = next((value for name, value in answer.headers if name == "content-encoding"), "")
    if reply.status == 401:
        raise Failure(
            "upstream_credential",
            "The Claude server refused the gateway's own credential; tell the gateway's operators.",
            status=502,
        )
    if 300 <= reply.status < 400:
        raise _unreachable("answered with a redirect, which is never followed or passed on")
    if encoding.lower() not in ("", "identity"):
        raise _unreachable(f"answered in an encoding that was not asked for ({encoding[:32]})")
    return answer


def _forwarded(headers: Headers) -> Headers:
    """Return the caller's headers as the Claude server may see them."""
    dropped = _NOT_FORWARDED
    kept = []
    for name, value in headers:
        if name == "connection":
            dropped = dropped | {word.strip().lower() for word in value.split(",")}
        if name not in dropped and not name.startswith(_NOT_FORWARDED_PREFIXES):
            kept.append((name, value))
    if dropped is not _NOT_FORWARDED:
        kept = [(name, value) for name, value in kept if name not in dropped]
    return kept


def _unreachable(why: str) -> Failure:
    return Failure("upstream_unavailable", f"The Claude server {why}.", status=502)
