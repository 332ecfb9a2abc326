"""Checks of the way up: what a client sends arrives as it was sent."""

import json

from gateway.conformance.bodies import ask, ask_oddly, model_page
from gateway.conformance.caller import Answer
from gateway.conformance.checks import Bench, Checks, Unmet, demand, demand_same
from gateway.conformance.upstream import Received, message, plain
from gateway.conformance.wire import LAST_CHUNK, Headers, chunk

CHECKS = Checks()

LARGE_BYTES = 24 * 1024 * 1024
MAX_BYTES = 32 * 1024 * 1024
"""The largest request of the API."""


def arrived(bench: Bench, answer: Answer) -> Received:
    """Return the call that arrived, if it was also answered."""
    demand(answer.status == 200, f"the call was answered with {answer}")
    received = bench.upstream.last
    if received is None:
        raise Unmet("nothing arrived at the server")
    return received


async def carried(bench: Bench, body: bytes, headers: Headers = (), query: str = "") -> Received:
    """Make a call and return what arrived of it."""
    answer = await bench.caller.post(body, f"/v1/messages{query}", headers)
    return arrived(bench, answer)


@CHECKS.add
async def body_unchanged(bench: Bench) -> str:
    """A request body arrives byte for byte, with fields and blocks that are new."""
    sent = ask_oddly(bench.model)
    received = await carried(bench, sent)
    demand_same(sent, received.body, "the body")
    return f"{len(sent)} bytes"


@CHECKS.add
async def system_unchanged(bench: Bench) -> str:
    """The blocks of `system` arrive as they are, the first one in its place."""
    sent = ask_oddly(bench.model)
    received = await carried(bench, sent)
    system = json.loads(received.body).get("system")
    demand(system == json.loads(sent)["system"], f"system arrived as {json.dumps(system)[:200]}")
    return f"{len(system)} blocks"


@CHECKS.add
async def betas_unchanged(bench: Bench) -> str:
    """`anthropic-beta` arrives whole, also values that are new."""
    betas = "claude-code-20250219,x-new-feature-2099-01-01,context-1m-2025-08-07"
    seen = (await carried(bench, ask(bench.model), [("anthropic-beta", betas)])).header(
        "anthropic-beta"
    )
    demand(seen == betas, f"arrived as {seen!r}")
    return seen


@CHECKS.add
async def version_unchanged(bench: Bench) -> str:
    """`anthropic-version` arrives with whatever version the client speaks."""
    for version in ("2023-06-01", "2099-01-01"):
        received = await carried(bench, ask(bench.model), [("anthropic-version", version)])
        seen = received.header("anthropic-version")
        demand(seen == version, f"{version} arrived as {seen!r}")
    return "two versions"


@CHECKS.add
async def new_headers_arrive(bench: Bench) -> str:
    """Headers that are new arrive: `anthropic-…`, `x-claude-code-…` and all others."""
    sent = [
        ("anthropic-x-new", "a, b"),
        ("anthropic-workspace-id", "wrkspc_1"),
        ("x-claude-code-x-new", "1"),
        ("x-claude-code-session-id", "5f4c9a6e-0000-4000-8000-000000000000"),
        ("x-app", "cli"),
        ("x-stainless-retry-count", "0"),
        ("x-new", "yes"),
    ]
    received = await carried(bench, ask(bench.model), sent)
    missing = [name for name, value in sent if received.header(name) != value]
    demand(not missing, f"missing or changed: {', '.join(missing)}")
    return f"{len(sent)} headers"


@CHECKS.add
async def query_unchanged(bench: Bench) -> str:
    """The query arrives as it is, and does not hide the route."""
    query = "?beta=true&x=%2F%20+a"
    target = (await carried(bench, ask(bench.model), query=query)).target
    demand(target.endswith(f"/v1/messages{query}"), f"arrived as {target}")
    return target


@CHECKS.add
async def credential_in_either_header(bench: Bench) -> str:
    """The caller's credential is taken from `authorization`, `x-api-key`, or both."""
    key = ("x-api-key", bench.caller.token)
    arrived(bench, await bench.refused().post(ask(bench.model), headers=[key]))
    await carried(bench, ask(bench.model), [key])
    await carried(bench, ask(bench.model))
    return "accepted in either and in both"


@CHECKS.add
async def credential_stays(bench: Bench) -> str:
    """The caller's credential never reaches the server."""
    token = bench.caller.token
    key = ("x-api-key", token)
    received = await carried(bench, ask(bench.model), [key])
    names = [name for name, value in received.headers if token in value]
    demand(not names, f"arrived in {', '.join(names)}")
    demand(token.encode() not in received.head + received.body, "arrived outside the headers")
    return "in no byte that arrived"


@CHECKS.add
async def chunked_upload(bench: Bench) -> str:
    """A chunked request is taken, and arrives whole."""
    sent = ask_oddly(bench.model)
    headers = [("content-type", "application/json"), ("transfer-encoding", "chunked")]
    async with bench.caller.connected() as call:
        await call.send(bench.caller.head("POST", "/v1/messages", headers))
        for part in (sent[:1], sent[1:500], sent[500:]):
            await call.send(chunk(part))
        await call.send(LAST_CHUNK)
        received = arrived(bench, await call.end())
    demand_same(sent, received.body, "the body")
    return "three chunks"


@CHECKS.add
async def expect_continue(bench: Bench) -> str:
    """`Expect: 100-continue` is answered before the body is sent."""
    sent = ask(bench.model)
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(sent))),
        ("expect", "100-continue"),
    ]
    async with bench.caller.connected() as call:
        await call.send(bench.caller.head("POST", "/v1/messages", headers))
        demand(await call.until_status(100), f"got {call.answer}")
        await call.send(sent)
        received = arrived(bench, await call.end())
    demand_same(sent, received.body, "the body")
    return "100, then 200"


@CHECKS.add
async def large_body(bench: Bench) -> str:
    """A body of 24 MB is taken, and arrives whole."""
    sent = ask(bench.model, metadata={"user_id": "x"}, system="a b " * (LARGE_BYTES // 4))
    received = await carried(bench, sent)
    demand_same(sent, received.body, "the body")
    return f"{len(sent)} bytes"


@CHECKS.add
async def too_large_body(bench: Bench) -> str:
    """A body over the API's 32 MB is refused as `request_too_large`, before it is sent."""
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(MAX_BYTES + 1)),
        ("expect", "100-continue"),
    ]
    async with bench.caller.connected() as call:
        await call.send(bench.caller.head("POST", "/v1/messages", headers))
        answer = await call.end()
    seen = answer.status == 413 and b"request_too_large" in answer.body
    demand(seen and not answer.interim, f"got {answer}")
    return "413"


@CHECKS.add
async def compressed_body(bench: Bench) -> str:
    """A compressed body is refused in the API's shape, or arrives as it was sent."""
    sent = b"\x1f\x8b not for you to read"
    answer = await bench.caller.post(sent, headers=[("content-encoding", "gzip")])
    if answer.status == 200:
        received = arrived(bench, answer)
        demand_same(sent, received.body, "the body")
        demand(received.header("content-encoding") == "gzip", "arrived without its coding")
        return "passed"
    demand(400 <= answer.status < 500 and b'"error"' in answer.body, f"got {answer}")
    return f"{answer.status}"


@CHECKS.add
async def connection_kept(bench: Bench) -> str:
    """Several calls go over one connection, each with its own answer."""
    async with bench.caller.connected() as connection:
        for text in ("One.", "Two.", "Three."):
            bench.upstream.answer_with(plain(message(text)))
            sent = ask(bench.model)
            sizes = [("content-type", "application/json"), ("content-length", str(len(sent)))]
            call = connection.again()
            await call.send(bench.caller.head("POST", "/v1/messages", sizes) + sent)
            answer = await call.end()
            arrived(bench, answer)
            demand_same(message(text), answer.body, "the answer")
    return "three calls"


@CHECKS.add
async def tokens_counted(bench: Bench) -> str:
    """`POST /v1/messages/count_tokens` is carried."""
    counted = b'{"input_tokens": 14}'
    bench.upstream.answer_with(plain(counted))
    answer = await bench.caller.post(ask(bench.model), "/v1/messages/count_tokens?beta=true")
    received = arrived(bench, answer)
    demand(received.target.endswith("/v1/messages/count_tokens?beta=true"), received.target)
    demand_same(counted, answer.body, "the answer")
    return received.target


@CHECKS.add
async def models_listed(bench: Bench) -> str:
    """`GET /v1/models` is carried, and lists the models of the server."""
    bench.upstream.answer_with(plain(model_page(bench.model)))
    answer = await bench.caller.get("/v1/models?limit=1000", [("anthropic-version", "2023-06-01")])
    arrived(bench, answer)
    demand_same(model_page(bench.model), answer.body, "the list")
    return bench.model
