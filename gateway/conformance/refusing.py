"""Checks of refusals: what must not pass does not, and clients understand why and do not storm."""

import json

from gateway.conformance.bodies import ask, model_page
from gateway.conformance.caller import Answer
from gateway.conformance.checks import Bench, Checks, Skipped, demand
from gateway.conformance.upstream import message, plain

CHECKS = Checks()

_ODD_PATHS = (
    "/v1/%6dessages",
    "/v1%2Fmessages",
    "//v1/messages",
    "/v1/models/../messages",
    "/v1/messages/",
    "/v1/messages;a=b",
    "/V1/MESSAGES",
)
_SHARED = (
    ("POST", "/v1/messages/batches"),
    ("GET", "/v1/messages/batches/msgbatch_1/results"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/file_1/content"),
)
_RETRIED = (401, 404, 408, 409, 413, 529)
"""Statuses that clients answer with more requests, or whose sentence Claude Code does not show."""


def _demand_refusal(bench: Bench, answer: Answer) -> str:
    """Demand an error that every client can show, and that nothing was passed on."""
    demand(not bench.upstream.received, "it reached the server")
    demand(400 <= answer.status < 500, f"got {answer}")
    demand(answer.header("content-type").startswith("application/json"), f"got {answer}")
    try:
        value = json.loads(answer.body)
        kind, text = value["error"]["type"], value["error"]["message"]
    except (ValueError, KeyError, TypeError):
        value, kind, text = {}, "", ""
    demand(kind and text and value.get("type") == "error", f"not in the API's shape: {answer}")
    demand("\n" not in text, "its sentence has several lines")
    return f"{answer.status} {text[:80]}"


def _demand_no_retry(answer: Answer) -> None:
    demand(answer.header("x-should-retry") == "false", "x-should-retry: false is missing")


@CHECKS.add
async def no_credential(bench: Bench) -> str:
    """A call without a credential is a 401 that no client repeats."""
    answer = await bench.refused().post(ask(bench.model))
    demand(answer.status == 401, f"got {answer}")
    _demand_no_retry(answer)
    return _demand_refusal(bench, answer)


@CHECKS.add
async def bad_credential(bench: Bench) -> str:
    """A credential that nobody issued is a 401 that no client repeats."""
    answer = await bench.refused("not-a-token").post(ask(bench.model))
    demand(answer.status == 401, f"got {answer}")
    _demand_no_retry(answer)
    return _demand_refusal(bench, answer)


@CHECKS.add
async def expired_credential(bench: Bench) -> str:
    """A token that has only expired is a 401 upon which a client fetches a fresh one."""
    if not bench.expired_token:
        raise Skipped("no --expired-token was given")
    answer = await bench.refused(bench.expired_token).post(ask(bench.model))
    demand(answer.status == 401, f"got {answer}")
    demand(answer.header("x-should-retry") != "false", "x-should-retry: false stops the client")
    return _demand_refusal(bench, answer)


@CHECKS.add
async def two_credentials(bench: Bench) -> str:
    """Two different credentials in one call are refused."""
    answer = await bench.caller.post(ask(bench.model), headers=[("x-api-key", "another")])
    return _demand_refusal(bench, answer)


@CHECKS.add
async def denial_reads_well(bench: Bench) -> str:
    """A model that the caller may not use is refused, and clients show the sentence."""
    answer = await bench.caller.post(ask(bench.denied_model))
    demand(answer.status not in _RETRIED, f"got {answer}")
    _demand_no_retry(answer)
    demand(answer.header("request-id"), "request-id is missing")
    return _demand_refusal(bench, answer)


@CHECKS.add
async def ambiguous_body(bench: Bench) -> str:
    """A body that names its model twice is refused, in either order."""
    seen = ""
    names = [bench.model, bench.denied_model]
    for one, two in (names, names[::-1]):
        body = ask("").replace(b'"model": ""', f'"model": "{one}", "model": "{two}"'.encode())
        seen = _demand_refusal(bench, await bench.caller.post(body))
    return seen


@CHECKS.add
async def models_filtered(bench: Bench) -> str:
    """A list of models shows none that the caller may not use."""
    bench.upstream.answer_with(plain(model_page(bench.denied_model, bench.model)))
    answer = await bench.caller.get("/v1/models")
    demand(answer.status == 200, f"got {answer}")
    listed = [model["id"] for model in json.loads(answer.body)["data"]]
    demand(listed == [bench.model], f"lists {', '.join(listed)}")
    return bench.model


@CHECKS.add
async def unknown_route(bench: Bench) -> str:
    """A route that the gateway does not know is refused, never passed."""
    seen = ""
    for target in ("/v1/complete", "/v1/skills", "/v1/organizations/me", "/metrics"):
        seen = _demand_refusal(bench, await bench.caller.post(ask(bench.model), target))
    return seen


@CHECKS.add
async def odd_paths(bench: Bench) -> str:
    """A path that readers understand differently is refused."""
    seen = ""
    for target in _ODD_PATHS:
        seen = _demand_refusal(bench, await bench.caller.post(ask(bench.model), target))
    return seen


@CHECKS.add
async def shared_routes(bench: Bench) -> str:
    """Batches and files, which all callers would share, are refused."""
    seen = ""
    for method, target in _SHARED:
        seen = _demand_refusal(bench, await bench.caller.get(target, method=method))
    return seen


@CHECKS.add
async def probes_answered(bench: Bench) -> str:
    """Clients' probes without a credential are answered, and not passed on."""
    statuses = [
        (await bench.refused().get(target, method="HEAD")).status for target in ("/", "/api/hello")
    ]
    demand(all(200 <= status < 500 for status in statuses), f"answered with {statuses}")
    demand(not bench.upstream.received, "they reached the server")
    bench.upstream.answer_with(plain(message()))
    return ", ".join(map(str, statuses))
