"""Names that look like a granted one, and content from elsewhere: refused and recorded."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from support.deployment import Deployment

from evasions.calls import (
    MODEL,
    RECORD,
    Reply,
    Told,
    encode,
    fetch_records,
    prompt,
    read_told,
    request,
    send,
    send_all,
    token_for,
)

AGENT = "grant-evasion"


def _model(model: str | None) -> bytes:
    return encode(prompt(model=model))


def _content(*blocks: object) -> bytes:
    return encode(prompt(messages=[{"role": "user", "content": list(blocks)}]))


def _source(kind: str, **fields: str) -> dict[str, object]:
    return {"type": "image", "source": {"type": kind, **fields}}


def _tool(kind: str, name: str) -> bytes:
    return encode(prompt(tools=[{"type": kind, "name": name}]))


URL = _source("url", url="https://other.test/a.png")
FILE = _source("file", file_id="file_1")
TEXT = {"type": "text", "text": "Hello"}

CASES: Mapping[str, tuple[bytes, str]] = {
    "no model": (encode({"max_tokens": 9, "messages": []}), "models.not_granted"),
    "a model that is null": (_model(None), "models.not_granted"),
    "an empty model": (_model(""), "models.not_granted"),
    "a model nobody granted": (_model("claude-mythos-1"), "models.not_granted"),
    "capitals": (_model(MODEL.upper()), "models.not_granted"),
    "a space after it": (_model(f"{MODEL} "), "models.not_granted"),
    "a space before it": (_model(f" {MODEL}"), "models.not_granted"),
    "a line end after it": (_model(f"{MODEL}\n"), "models.not_granted"),
    "NUL after it": (_model(f"{MODEL}\0"), "models.not_granted"),
    "a Cyrillic letter": (_model(MODEL.replace("a", "\u0430")), "models.not_granted"),
    "full-width letters": (_model(MODEL.replace("c", "\uff43")), "models.not_granted"),
    "a hyphen that is none": (_model(MODEL.replace("-", "\u2010")), "models.not_granted"),
    "a letter of no width": (_model(MODEL.replace("-", "\u200b-")), "models.not_granted"),
    "the suffix of a long context": (_model(f"{MODEL}[1m]"), "models.not_granted"),
    "a date after it": (_model(f"{MODEL}-20990101"), "models.not_granted"),
    "latest after it": (_model(f"{MODEL}-latest"), "models.not_granted"),
    "a provider before it": (_model(f"anthropic/{MODEL}"), "models.not_granted"),
    "two models in one": (_model(f"{MODEL},claude-mythos-1"), "models.not_granted"),
    "a path": (_model(f"claude-mythos-1/../{MODEL}"), "models.not_granted"),
    "percent signs": (_model("%s%d%n%v"), "models.not_granted"),
    "a wildcard": (_model("claude-*"), "models.not_granted"),
    "a model of 10,000 letters": (_model("a" * 10_000), "models.not_granted"),
    "an ungranted model beside the granted one in metadata": (
        encode(prompt(model="claude-mythos-1", metadata={"model": MODEL})),
        "models.not_granted",
    ),
    "an image by URL": (_content(URL), "sources.not_granted"),
    "an image by file": (_content(FILE), "sources.not_granted"),
    "an image of an unknown source": (_content(_source("s3", key="a")), "sources.not_granted"),
    "a source's type in capitals": (_content(_source("URL", url="u")), "sources.not_granted"),
    "a document by URL": (_content({**URL, "type": "document"}), "sources.not_granted"),
    "a block of an unknown type by URL": (_content({**URL, "type": "new"}), "sources.not_granted"),
    "a file id without a source": (
        _content({"type": "container_upload", "file_id": "file_1"}),
        "sources.not_granted",
    ),
    "a URL beside a source that is granted": (
        _content(_source("base64", media_type="image/png", data="aGk="), URL),
        "sources.not_granted",
    ),
    "a URL in a tool's result": (
        _content({"type": "tool_result", "tool_use_id": "t", "content": [URL]}),
        "sources.not_granted",
    ),
    "a URL in a document's content": (
        _content({"type": "document", "source": {"type": "content", "content": [URL]}}),
        "sources.not_granted",
    ),
    "a URL in an earlier turn": (
        encode(
            prompt(
                messages=[
                    {"role": "user", "content": [URL]},
                    {"role": "assistant", "content": "Hello"},
                    {"role": "user", "content": [TEXT]},
                ]
            )
        ),
        "sources.not_granted",
    ),
    "a URL in the system prompt": (encode(prompt(system=[TEXT, URL])), "sources.not_granted"),
    "a source whose type is a list": (
        _content({"type": "image", "source": {"type": ["url"], "url": "u"}}),
        "body.wrong_type",
    ),
    "the web search": (_tool("web_search_20250305", "web_search"), "server_tools.not_granted"),
    "a newer web search": (_tool("web_search_20990101", "web_search"), "server_tools.not_granted"),
    "code execution": (_tool("code_execution_20250825", "code"), "server_tools.not_granted"),
    "a server tool in capitals": (_tool("WEB_SEARCH_20250305", "w"), "server_tools.not_granted"),
    "custom in capitals": (_tool("Custom", "web_search"), "server_tools.not_granted"),
    "an MCP server": (
        encode(prompt(mcp_servers=[{"type": "url", "url": "https://mcp.other.test", "name": "m"}])),
        "mcp.not_granted",
    ),
    "an MCP server of another team": (
        encode(
            prompt(mcp_servers=[{"type": "url", "url": "https://mcp.payments.test", "name": "m"}])
        ),
        "mcp.not_granted",
    ),
    "an MCP server without a URL": (encode(prompt(mcp_servers=[{}])), "mcp.not_granted"),
    "an MCP server that is a string": (encode(prompt(mcp_servers=["m"])), "mcp.not_granted"),
    "a tool set of an MCP server": (
        encode(prompt(tools=[{"type": "mcp_toolset", "mcp_server_name": "m"}])),
        "server_tools.not_granted",
    ),
}
"""By name: the body, and the code of the refusal."""


def _agent(name: str) -> str:
    return f"{AGENT}/{list(CASES).index(name)}"


def _told(code: str) -> Told:
    if code.startswith("body."):
        return Told(status=400, kind="invalid_request_error", code=code)
    return Told(status=403, kind="permission_error", code=code)


@pytest.fixture(scope="module")
def replies(deployment: Deployment) -> dict[str, Reply]:
    token = token_for(deployment)
    return send_all(
        {
            name: partial(send, deployment, request(body, token=token, agent=_agent(name)))
            for name, (body, _) in CASES.items()
        }
    )


@pytest.fixture(scope="module")
def records(deployment: Deployment, replies: dict[str, Reply]) -> dict[str, dict[str, Any]]:
    columns = (*RECORD, "upstream_request_id")
    return fetch_records(deployment, [_agent(name) for name in replies], *columns)


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_one_sentence(name: str, replies: dict[str, Reply]) -> None:
    assert read_told(replies[name]) == _told(CASES[name][1])


@pytest.mark.parametrize("name", CASES)
def test_it_is_recorded_and_never_forwarded(name: str, records: dict[str, dict[str, Any]]) -> None:
    code = CASES[name][1]
    assert records[_agent(name)] == {
        "outcome": "undecided" if code.startswith("body.") else "deny",
        "ending": "refused",
        "status": _told(code).status,
        "error_code": code,
        "upstream_request_id": None,
    }


HELD_S = 2.0
"""A granted MCP server is held for approval; a caller that waited so long was not refused."""

LOOK_ALIKES: Mapping[str, str] = {
    "a user name before the granted host": "https://mcp.payments.test@mcp.other.test/",
    "the granted host as a path": "https://mcp.other.test/mcp.payments.test",
    "the granted host as a query": "https://mcp.other.test?mcp.payments.test",
    "the granted host as a fragment": "https://mcp.other.test#mcp.payments.test",
    "a longer host": "https://mcp.payments.test.other.test",
    "a backslash before the granted host": "https://mcp.other.test\\@mcp.payments.test/",
    "a space before the URL": " https://mcp.other.test/#@mcp.payments.test",
    "the host in full-width letters": "https://mcp.payments\uff0etest",
    "no scheme": "mcp.payments.test",
    "a file": "file://mcp.payments.test/a",
    "a broken address": "https://[mcp.payments.test/",
}


def test_a_url_that_only_looks_like_a_granted_mcp_server_is_refused(
    deployment: Deployment,
) -> None:
    token = token_for(deployment, "pay", ("eng", "payments"))
    replies = send_all(
        {
            name: partial(send, deployment, request(_mcp(url), token=token), timeout_s=HELD_S)
            for name, url in LOOK_ALIKES.items()
        }
    )
    refused = _told("mcp.not_granted")
    seen = {name: read_told(reply) if reply.status else "held" for name, reply in replies.items()}
    assert seen == dict.fromkeys(LOOK_ALIKES, refused)


def _mcp(url: str) -> bytes:
    return encode(prompt(mcp_servers=[{"type": "url", "url": url, "name": "m"}]))


def test_claude_code_is_refused_with_the_status_whose_sentence_it_shows(
    deployment: Deployment,
) -> None:
    call = request(_model("claude-mythos-1"), token=token_for(deployment), agent="claude-cli/2.1.0")
    assert read_told(send(deployment, call)) == Told(
        status=451, kind="permission_error", code="models.not_granted"
    )


ENDPOINTS: Mapping[str, str] = {
    "the endpoint that would serve it anyway": "x-countersign-endpoint: claude",
    "capitals in the header's name": "X-Countersign-ENDPOINT: claude",
    "capitals in the endpoint's name": "x-countersign-endpoint: CLAUDE",
    "an address": "x-countersign-endpoint: http://169.254.169.254/",
    "two at once": "x-countersign-endpoint: claude, spare",
    "another before it": "x-countersign-endpoint: spare\r\nx-countersign-endpoint: claude",
    "a wildcard": "x-countersign-endpoint: *",
}


def test_a_header_alone_chooses_no_endpoint(deployment: Deployment) -> None:
    token = token_for(deployment)
    replies = send_all(
        {
            name: partial(send, deployment, request(encode(prompt()), header, token=token))
            for name, header in ENDPOINTS.items()
        }
    )
    refused = [
        {"endpoint.not_granted", "endpoint.unavailable"} & {read_told(reply).code}
        for reply in replies.values()
    ]
    assert all(refused), replies
