"""The configured Claude servers: a call goes out with the endpoint's own credential.

The caller's credentials and this gateway's own headers never go along; everything else does,
unchanged and in order.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache

import aiohttp
from yarl import URL

from gateway.domain import Fact, Failure, Refusal, Route
from gateway.ports import CallerGone, Headers

LARGE_BODY_BYTES = 1024 * 1024
KEEP_ALIVE_S = 4.0
"""Shorter than common servers' own 5 s, so that no call meets a connection just being closed."""

_PATHS = {
    Route.MESSAGES: ("POST", "/v1/messages"),
    Route.COUNT_TOKENS: ("POST", "/v1/messages/count_tokens"),
    Route.MODELS: ("GET", "/v1/models"),
}
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
    "x-forwarded-for",
    "x-real-ip",
}
_NOT_RETURNED = _HOP_BY_HOP | {"content-length", "set-cookie"}
_OWN_PREFIX = "x-countersign-"


class Endpoint(Fact, frozen=True, kw_only=True):
    """A Claude server inside the company."""

    name: str
    base_url: str
    credential: str
    """Sent as `x-api-key`."""


class UpstreamAnswer:
    """An answer under way."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = [
            (lower, value)
            for name, value in response.headers.items()
            if (lower := name.lower()) not in _NOT_RETURNED
        ]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; raises `Failure` if it breaks off."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as e:
            raise Failure(
                "upstream_broke_off", "The Claude server broke off its answer.", status=502
            ) from e

    def cancel(self) -> None:
        """Close the connection, unless the answer was read to its end."""
        self._response.close()


class Upstreams:
    """All endpoints over one pool of connections."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoints: Mapping[str, Endpoint],
        *,
        answer_timeout_s: float,
    ) -> None:
        self._session = session
        self._endpoints = endpoints
        self._answer_timeout_s = answer_timeout_s
        self.endpoints = tuple(endpoints)

    async def forward(
        self,
        endpoint: str,
        route: Route,
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
        target = self._endpoints[endpoint]
        method, path = _PATHS[route]
        task = asyncio.current_task()
        if task is None or gone.done():
            raise CallerGone

        def cancel(_: object) -> None:
            task.cancel()

        gone.add_done_callback(cancel)
        try:
            async with asyncio.timeout(self._answer_timeout_s):
                response = await self._session.request(
                    method,
                    _url(target.base_url, path, query),
                    data=_payload(body),
                    headers=_forwarded(headers, target.credential),
                    allow_redirects=False,
                    skip_auto_headers=("user-agent", "accept", "content-type"),
                )
        except asyncio.CancelledError:
            if gone.done() and task.uncancel() == 0:
                raise CallerGone from None
            raise
        except TimeoutError as e:
            raise _unreachable(f"did not answer within {self._answer_timeout_s:.0f} s") from e
        except (aiohttp.ClientError, OSError) as e:
            raise _unreachable("can't be reached") from e
        finally:
            gone.remove_done_callback(cancel)
        return _checked(response)


@lru_cache(maxsize=1024)
def _url(base_url: str, path: str, query: str) -> URL:
    return URL(f"{base_url}{path}{'?' if query else ''}{query}", encoded=True)


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """Return a body as it is sent without blocking the loop: a large one in parts."""
    return io.BytesIO(body) if len(body) > LARGE_BODY_BYTES else body or None


def _checked(response: aiohttp.ClientResponse) -> UpstreamAnswer:
    encoding = response.headers.get("content-encoding", "identity")
    if response.status == 401:
        response.close()
        raise Failure(
            "upstream_credential",
            "The Claude server refused the gateway's own credential; tell the gateway's operators.",
            status=502,
        )
    if 300 <= response.status < 400:
        response.close()
        raise _unreachable("answered with a redirect, which is never followed or passed on")
    if encoding.lower() != "identity":
        response.close()
        raise _unreachable(f"answered in an encoding that was not asked for ({encoding[:32]})")
    return UpstreamAnswer(response)


def _forwarded(headers: Headers, credential: str) -> list[tuple[str, str]]:
    """Return the caller's headers as the Claude server may see them."""
    dropped = _NOT_FORWARDED
    kept = []
    for name, value in headers:
        if name == "connection":
            dropped = dropped | {word.strip().lower() for word in value.split(",")}
        if name not in dropped and not name.startswith(_OWN_PREFIX):
            kept.append((name, value))
    if dropped is not _NOT_FORWARDED:
        kept = [(name, value) for name, value in kept if name not in dropped]
    if not all(value.isascii() for _, value in kept):
        raise Refusal("header.not_ascii", "A header holds other characters than ASCII.")
    return [*kept, ("accept-encoding", "identity"), ("x-api-key", credential)]


def _unreachable(why: str) -> Failure:
    return Failure("upstream_unavailable", f"The Claude server {why}.", status=502)


def make_session(silence_timeout_s: float) -> aiohttp.ClientSession:
    """Return the pool of connections to Claude servers.

    An answer may take as long as it takes, but not be silent for longer than the bound.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=silence_timeout_s),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=256 * 1024,
    )
