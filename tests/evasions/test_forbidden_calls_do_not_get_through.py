"""A forbidden model or tool behind what another reader could understand differently: the decision.

Each case asks for something that the caller may not have, beside or inside a call that would be
granted. What is refused says so; what only pretends changes nothing, and says that too.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from support.deployment import Deployment

from evasions.calls import (
    MODEL,
    RECORD,
    Reply,
    encode,
    fetch_records,
    prompt,
    read_told,
    request,
    send,
    send_all,
    token_for,
)

AGENT = "disguise"
DENIED = "claude-mythos-1"
GOOD = encode(prompt())
ASKED = encode(prompt(model=DENIED))


def _beside(text: str) -> bytes:
    """Return a granted body with one more field, as it stands in the JSON, at its end."""
    return GOOD[:-1] + b", " + text.encode() + b"}"


def _before(text: str) -> bytes:
    """Return a granted body with one more field at its beginning."""
    return b"{" + text.encode() + b", " + GOOD[1:]


def _block(block: object) -> bytes:
    return encode(prompt(messages=[{"role": "user", "content": [block]}]))


def _typed(kind: str, body: bytes = ASKED) -> tuple[bytes, tuple[str, ...]]:
    return body, (f"content-type: {kind}",)


URL = {"type": "url", "url": "https://other.test/a.png"}
UTF7 = b'{"+AG0-odel": "claude-mythos-1", ' + GOOD[1:]

CASES: Mapping[str, tuple[bytes, tuple[str, ...], str]] = {
    # keys that some readers fold
    "the model again in capitals": (_beside(f'"MODEL": "{DENIED}"'), (), "body.disguised_key"),
    "the model before in capitals": (_before(f'"Model": "{DENIED}"'), (), "body.disguised_key"),
    "the model in escaped capitals": (
        _beside(f'"\\u004dodel": "{DENIED}"'),
        (),
        "body.disguised_key",
    ),
    "messages with a long s": (_beside('"me\u017f\u017fages": []'), (), "body.disguised_key"),
    "a system prompt in capitals": (_beside('"System": "Obey."'), (), "body.disguised_key"),
    "MCP servers in capitals": (
        _beside('"Mcp_Servers": [{"type": "url", "url": "https://mcp.other.test"}]'),
        (),
        "body.disguised_key",
    ),
    "tools in capitals": (
        _beside('"Tools": [{"type": "web_search_20250305"}]'),
        (),
        "body.disguised_key",
    ),
    "a tool with two types": (
        encode(prompt(tools=[{"name": "f", "Type": "web_search_20250305", "input_schema": {}}])),
        (),
        "body.disguised_key",
    ),
    "a source in capitals": (_block({"type": "image", "Source": URL}), (), "body.disguised_key"),
    "a source with two types": (
        _block({"type": "image", "source": {"type": "base64", "TYPE": "url", "url": "u"}}),
        (),
        "body.disguised_key",
    ),
    "a file id in capitals": (_block({"type": "new", "File_ID": "f"}), (), "body.disguised_key"),
    "an MCP server with two URLs": (
        encode(prompt(mcp_servers=[{"url": "https://mcp.payments.test", "URL": "https://b.test"}])),
        (),
        "body.disguised_key",
    ),
    # encodings that some readers honour
    "UTF-7 that names the model twice": (
        *_typed("application/json; charset=utf-7", UTF7),
        "body.not_utf8",
    ),
    "UTF-16 that is said": (*_typed("application/json; charset=utf-16", GOOD), "body.not_utf8"),
    "two charsets": (
        *_typed("application/json; charset=utf-8; charset=utf-7", UTF7),
        "body.not_utf8",
    ),
    "a charset with its own encoding": (
        *_typed("application/json; charset*=utf-8''utf-7", UTF7),
        "body.not_utf8",
    ),
    "a form": (
        *_typed("application/x-www-form-urlencoded", f"model={DENIED}&max_tokens=9".encode()),
        "body.not_json",
    ),
    "JSON said to be a form": (*_typed("application/x-www-form-urlencoded"), "models.not_granted"),
    "JSON said to be text": (*_typed("text/plain"), "models.not_granted"),
    "the model escaped": (
        ASKED.replace(b"mythos", rb"\u006dytho\u0073"),
        (),
        "models.not_granted",
    ),
    # another shape of the same call
    "not streamed": (encode(prompt(model=DENIED, stream=False)), (), "models.not_granted"),
    "streamed": (encode(prompt(model=DENIED, stream=True)), (), "models.not_granted"),
    "stream given as null": (encode(prompt(model=DENIED, stream=None)), (), "models.not_granted"),
    # headers that claim to be something else
    "a model in a header": (ASKED, (f"x-model: {MODEL}", f"anthropic-model: {MODEL}"), ""),
    "another peer": (ASKED, ("x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1"), ""),
    "another person": (ASKED, ("x-forwarded-user: root", "x-countersign-groups: research"), ""),
    "groups in a header": (ASKED, ("x-forwarded-groups: research", "x-groups: research"), ""),
    "a decision in a header": (ASKED, ("x-countersign-allow: true", "x-opa-decision: allow"), ""),
    "an approval in a header": (ASKED, ("x-countersign-approval: appr_1",), ""),
    "the client that is trusted most": (ASKED, ("x-app: cli", "x-stainless-lang: js"), ""),
}
"""By name: the body, headers, and the code of the refusal; empty: as without the headers."""

CARRIED: Mapping[str, tuple[bytes, tuple[str, ...]]] = {
    "another path": (GOOD, ("x-original-url: /v1/files", "x-rewrite-url: /v1/files")),
    "another method": (GOOD, ("x-http-method-override: DELETE", "x-http-method: DELETE")),
    "UTF-8 that is said": _typed('application/json; charset="UTF-8"', GOOD),
    "keys of a tool's own": (
        encode(
            prompt(
                tools=[
                    {
                        "name": "f",
                        "input_schema": {"type": "object", "properties": {"Model": {"Type": 1}}},
                    }
                ]
            )
        ),
        (),
    ),
    "keys in a tool's input": (
        encode(
            prompt(
                messages=[
                    {"role": "user", "content": "Go."},
                    {
                        "role": "assistant",
                        "content": [
                            {"type": "tool_use", "id": "t", "name": "f", "input": {"Type": "URL"}}
                        ],
                    },
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}],
                    },
                ]
            )
        ),
        (),
    ),
}
"""What only looks forbidden, or claims what has no effect: answered."""


def _code(name: str) -> str:
    return CASES[name][2] or "models.not_granted"


def _agent(name: str) -> str:
    return f"{AGENT}/{list(CASES).index(name)}"


def _call(deployment: Deployment, body: bytes, headers: tuple[str, ...], agent: str = "") -> Reply:
    data = request(body, *headers, token=token_for(deployment), agent=agent)
    if any(header.startswith("content-type:") for header in headers):
        data = data.replace(b"content-type: application/json\r\n", b"", 1)
    return send(deployment, data)


@pytest.fixture(scope="module")
def replies(deployment: Deployment) -> dict[str, Reply]:
    return send_all(
        {
            name: partial(_call, deployment, body, headers, _agent(name))
            for name, (body, headers, _) in CASES.items()
        }
    )


@pytest.fixture(scope="module")
def records(deployment: Deployment, replies: dict[str, Reply]) -> dict[str, dict[str, Any]]:
    columns = (*RECORD, "upstream_request_id")
    return fetch_records(deployment, [_agent(name) for name in replies], *columns)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(name: str, replies: dict[str, Reply]) -> None:
    told = read_told(replies[name])
    assert (told.code, told.retry) == (_code(name), "never")


@pytest.mark.parametrize("name", CASES)
def test_it_is_recorded_and_never_forwarded(name: str, records: dict[str, dict[str, Any]]) -> None:
    code = _code(name)
    is_undecided = code.startswith("body.")
    assert records[_agent(name)] == {
        "outcome": "undecided" if is_undecided else "deny",
        "ending": "refused",
        "status": 400 if is_undecided else 403,
        "error_code": code,
        "upstream_request_id": None,
    }


@pytest.mark.parametrize("name", CARRIED)
def test_what_has_no_effect_is_answered(name: str, deployment: Deployment) -> None:
    reply = _call(deployment, *CARRIED[name])
    assert (reply.status, b'"type":"message"' in reply.body) == (200, True), reply.body


MODELS: Mapping[str, tuple[str, str]] = {
    "the model itself": (f"/v1/models/{DENIED}", "models.not_granted"),
    "in capitals": (f"/v1/models/{MODEL.upper()}", "models.not_granted"),
    "with a query": (f"/v1/models/{DENIED}?id={MODEL}", "models.not_granted"),
    "in hexadecimal": ("/v1/models/claude%2Dmythos-1", "route.unknown"),
    "a way up": (f"/v1/models/{MODEL}/../{DENIED}", "route.unknown"),
    "a way up to files": ("/v1/models/../files", "route.unknown"),
    "a parameter": (f"/v1/models/{MODEL};{DENIED}", "route.unknown"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_not_granted_is_not_shown(name: str, deployment: Deployment) -> None:
    target, code = MODELS[name]
    call = request(method="GET", target=target, token=token_for(deployment))
    assert read_told(send(deployment, call)).code == code
