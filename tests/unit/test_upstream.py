"""What goes to the Claude server and what comes back."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from gateway.domain import Failure, Refusal
from gateway.ports import CallerGone, Headers
from gateway.upstream import Endpoint, UpstreamAnswer, Upstreams

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Forward = Callable[..., Awaitable[UpstreamAnswer]]


class Server:
    """A Claude server that notes what it got."""

    def __init__(self, server: AiohttpServer) -> None:
        self.start = server
        self.seen: list[web.Request] = []
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def forward(
        self,
        handler: Handler,
        headers: Headers = (),
        query: str = "",
        body: bytes = b"{}",
        timeout_s: float = 5,
    ) -> UpstreamAnswer:
        async def noting(request: web.Request) -> web.StreamResponse:
            self.seen.append(request)
            return await handler(request)

        app = web.Application(client_max_size=40 * 1024 * 1024)
        app.router.add_route("*", "/{tail:.*}", noting)
        started = await self.start(app)
        base_url = str(started.make_url("")).rstrip("/")
        endpoint = Endpoint(name="claude", base_url=base_url, credential="own-key")
        upstreams = Upstreams({"claude": endpoint}, answer_timeout_s=timeout_s)
        return await upstreams.forward(
            "claude", "POST", "/v1/messages", query, headers, body, self.gone
        )


@pytest.fixture
async def server(aiohttp_server: AiohttpServer) -> Server:
    return Server(aiohttp_server)


async def ok(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(text="{}", headers={"x-novel": "1", "set-cookie": "a=b"})


async def test_everything_but_the_callers_credentials_goes_along(server: Server) -> None:
    headers = [
        ("authorization", "Bearer secret"),
        ("x-api-key", "secret"),
        ("cookie", "secret"),
        ("x-countersign-repository", "acme/shop"),
        ("x-original-url", "/v1/files"),
        ("x-rewrite-url", "/v1/files"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-prefix", "/v1/files"),
        ("x-http-method-override", "DELETE"),
        ("forwarded", "for=10.0.0.1"),
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "secret"),
        ("accept-encoding", "br"),
        ("anthropic-beta", "a-1,b-2"),
        ("x-novel", "passes"),
        ("user-agent", "claude-cli/2.1"),
    ]
    await server.forward(ok, headers, query="beta=true&x=%2F")
    (request,) = server.seen
    assert request.raw_path == "/v1/messages?beta=true&x=%2F"
    names = {name.lower() for name in request.headers}
    assert names == {
        "accept-encoding",
        "anthropic-beta",
        "content-length",
        "host",
        "user-agent",
        "x-api-key",
        "x-novel",
    }
    assert request.headers["x-api-key"] == "own-key"
    assert request.headers["accept-encoding"] == "identity"
    assert "secret" not in str(request.headers)


async def test_a_large_body_arrives_whole(server: Server) -> None:
    body = b"x" * (5 * 1024 * 1024)
    sizes = []

    async def measure(request: web.Request) -> web.Response:
        sizes.append((request.headers["content-length"], len(await request.read())))
        return web.Response()

    await server.forward(measure, body=body)
    assert sizes == [(str(len(body)), len(body))]


async def test_cookies_and_hop_by_hop_headers_do_not_come_back(server: Server) -> None:
    answer = await server.forward(ok)
    names = {name.lower() for name, _ in answer.headers}
    assert "x-novel" in names
    assert not names & {"set-cookie", "content-length", "connection", "transfer-encoding"}


@pytest.mark.parametrize(
    ("response", "code"),
    [
        pytest.param(web.Response(status=401), "upstream_credential", id="its own credential"),
        pytest.param(
            web.Response(status=307, headers={"location": "/x"}),
            "upstream_unavailable",
            id="a redirect",
        ),
        pytest.param(
            web.Response(headers={"content-encoding": "br"}),
            "upstream_unavailable",
            id="an encoding",
        ),
    ],
)
async def test_what_cannot_be_passed_on_is_a_failure(
    server: Server, response: web.Response, code: str
) -> None:
    async def give(_: web.Request) -> web.StreamResponse:
        return response

    with pytest.raises(Failure) as failure:
        await server.forward(give)
    assert (failure.value.code, failure.value.status) == (code, 502)


async def test_a_server_that_is_silent_is_a_failure(server: Server) -> None:
    async def wait(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    with pytest.raises(Failure, match="silent for"):
        await server.forward(wait, timeout_s=0.05)


async def test_a_caller_that_leaves_cancels_the_call(server: Server) -> None:
    async def leave(_: web.Request) -> web.Response:
        server.gone.set_result(None)
        await asyncio.sleep(5)
        return web.Response()

    with pytest.raises(CallerGone):
        await server.forward(leave)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_server_that_is_not_there_is_a_failure() -> None:
    endpoint = Endpoint(name="claude", base_url="http://127.0.0.1:1", credential="k")
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    upstreams = Upstreams({"claude": endpoint}, answer_timeout_s=5)
    with pytest.raises(Failure, match="can't be reached"):
        await upstreams.forward("claude", "POST", "/v1/messages", "", (), b"{}", gone)


async def test_a_header_that_is_no_text_is_refused(server: Server) -> None:
    with pytest.raises(Refusal, match="ASCII"):
        await server.forward(ok, [("x-novel", "caf\u00e9")])
