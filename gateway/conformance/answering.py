"""Checks of the way down: what the server answers comes back as it was answered."""

import gzip
import json

from gateway.conformance.bodies import ask
from gateway.conformance.checks import Bench, Checks, demand, demand_same
from gateway.conformance.upstream import JSON, Received, message, plain

CHECKS = Checks()

_ERRORS = {
    400: b'{"type":"error","error":{"type":"invalid_request_error",\n "message":"x: not allowed"}}',
    403: b'{"error": {"message": "capability_rejected: no", "type": "permission_error"}}\n',
    404: b'{"type":"error","error":{"type":"not_found_error","message":"model: x"},"new":[1.50]}',
    413: b'{"type":"error","error":{"type":"request_too_large","message":"Too large"}}',
    429: b'{"type":"error","error":{"type":"rate_limit_error","message":"Slow \\u2026"}}',
    500: b'{"type":"error","error":{"type":"api_error","message":"Internal"},"request_id":null}',
    502: b"<html><body>Bad gateway</body></html>",
    529: b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
}


@CHECKS.add
async def answer_unchanged(bench: Bench) -> str:
    """A plain answer comes back byte for byte, with its `content-type` and length."""
    body = b'{ "x_new":[1.50, 1e2],\n' + message()[1:] + b"\n"
    bench.upstream.answer_with(plain(body))
    answer = await bench.caller.post(ask(bench.model))
    demand(answer.status == 200 and answer.is_whole, f"got {answer}")
    demand_same(body, answer.body, "the body")
    kind = answer.header("content-type")
    demand(kind == "application/json", f"content-type became {kind!r}")
    return f"{len(body)} bytes"


@CHECKS.add
async def answer_headers_unchanged(bench: Bench) -> str:
    """`request-id`, rate limits and new `anthropic-…` headers of the server come back."""
    sent = [
        ("request-id", "req_of_the_server"),
        ("anthropic-ratelimit-unified-status", "allowed"),
        ("anthropic-ratelimit-requests-remaining", "7"),
        ("anthropic-organization-id", "org_1"),
        ("anthropic-x-new", "a"),
        ("x-new", "b"),
    ]
    bench.upstream.answer_with(plain(message(), headers=[JSON, *sent]))
    answer = await bench.caller.post(ask(bench.model))
    missing = [name for name, value in sent if answer.header(name) != value]
    demand(not missing, f"missing or changed: {', '.join(missing)}")
    return f"{len(sent)} headers"


@CHECKS.add
async def errors_unchanged(bench: Bench) -> str:
    """An error of the server comes back with its status, byte for byte, JSON or not."""
    for status, body in _ERRORS.items():
        kind = JSON if body.startswith(b"{") else ("content-type", "text/html")
        bench.upstream.answer_with(plain(body, status, [kind, ("request-id", "req_1")]))
        answer = await bench.caller.post(ask(bench.model, stream=status % 2 == 0))
        demand(answer.status == status, f"{status} became {answer}")
        demand_same(body, answer.body, f"the body of {status}")
        demand(answer.header("content-type") == kind[1], f"content-type of {status} changed")
    return ", ".join(map(str, _ERRORS))


@CHECKS.add
async def retry_headers_unchanged(bench: Bench) -> str:
    """`retry-after` and `x-should-retry` of an error come back, and are not invented."""
    variants: list[list[tuple[str, str]]] = [
        [],
        [("retry-after", "37")],
        [("x-should-retry", "true")],
        [("x-should-retry", "false"), ("retry-after", "1")],
    ]
    for sent in variants:
        bench.upstream.answer_with(plain(_ERRORS[429], 429, [JSON, *sent]))
        answer = await bench.caller.post(ask(bench.model))
        seen = [(name, answer.header(name)) for name in ("retry-after", "x-should-retry")]
        kept = sorted((name, value) for name, value in seen if value)
        demand(kept == sorted(sent), f"{list(sent)} became {kept}")
    return f"{len(variants)} variants"


async def _compress_if_asked(received: Received) -> None:
    body, coding = message("Compressed."), []
    if "gzip" in received.header("accept-encoding"):
        body, coding = gzip.compress(body), [("content-encoding", "gzip")]
    await plain(body, headers=[JSON, *coding])(received)


@CHECKS.add
async def codings_agree(bench: Bench) -> str:
    """A client gets an answer that it can decode, whatever it accepts."""
    seen = []
    for accepted in ("gzip, deflate, br, zstd", "br", "identity", ""):
        bench.upstream.answer_with(_compress_if_asked)
        headers = [("accept-encoding", accepted)] if accepted else []
        answer = await bench.caller.post(ask(bench.model), headers=headers)
        coding = answer.header("content-encoding")
        demand(coding in ("", "identity", "gzip"), f"answered in {coding}")
        demand(not coding or coding in accepted, f"{coding} for a client that accepts {accepted}")
        body = gzip.decompress(answer.body) if coding == "gzip" else answer.body
        demand_same(message("Compressed."), body, "the decoded body")
        seen.append(coding or "identity")
    return ", ".join(seen)


@CHECKS.add
async def redirects_stopped(bench: Bench) -> str:
    """A redirect of the server is neither followed nor passed on."""
    headers = [JSON, ("location", "http://127.0.0.1:9/v1/messages")]
    bench.upstream.answer_with(plain(b"{}", 307, headers))
    answer = await bench.caller.post(ask(bench.model))
    demand(answer.status >= 500 and not answer.header("location"), f"got {answer}")
    demand(len(bench.upstream.received) == 1, f"{len(bench.upstream.received)} calls arrived")
    return str(answer.status)


@CHECKS.add
async def server_401_kept(bench: Bench) -> str:
    """A 401 of the server is about the gateway's credential: no caller is told to log in."""
    body = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
    bench.upstream.answer_with(plain(body, 401))
    answer = await bench.caller.post(ask(bench.model))
    demand(answer.status >= 500, f"got {answer}")
    return str(answer.status)


@CHECKS.add
async def broken_server_told(bench: Bench) -> str:
    """A server that breaks off before it answers is an error in the API's shape."""

    async def reset(received: Received) -> None:
        received.reset()

    bench.upstream.answer_with(reset)
    answer = await bench.caller.post(ask(bench.model))
    demand(answer.status in (502, 503, 504, 529), f"got {answer}")
    error = json.loads(answer.body).get("error", {})
    demand(isinstance(error.get("message"), str), f"got {answer}")
    demand(answer.header("x-should-retry") != "false", "clients are told not to try again")
    return f"{answer.status} {error['message'][:60]}"
