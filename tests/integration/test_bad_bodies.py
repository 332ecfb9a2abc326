"""Bodies that can't be read, or that two readers could read differently: refused and recorded."""

import gzip
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
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
from support.deployment import Deployment

AGENT = "bad-body"
MB = 1024 * 1024

Make = Callable[[str, str], bytes]
"""Makes a call from a token and a user agent."""


def _with(body: bytes, *headers: str, length: int | None = None) -> Make:
    return lambda token, agent: request(body, *headers, token=token, agent=agent, length=length)


def _chunked(body: bytes) -> Make:
    return _with(body, "transfer-encoding: chunked", length=-1)


def _field(text: str) -> bytes:
    """Return a good body with one more field, given as it stands in the JSON."""
    return encode(prompt())[:-1] + b", " + text.encode() + b"}"


def _of_size(size: int) -> bytes:
    return encode(prompt("x" * (size - len(encode(prompt(""))))))


def _deflated(body: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(body) + deflate.flush()


def _deep(depth: int) -> bytes:
    return _field(f'"metadata": {{"a": {"[" * depth}{"]" * depth}}}')


GOOD = encode(prompt())

CASES: Mapping[str, tuple[Make, str]] = {
    "empty": (_with(b""), "body.not_json"),
    "not JSON": (_with(b"hello"), "body.not_json"),
    "truncated JSON": (_with(GOOD[:-9]), "body.not_json"),
    "two documents": (_with(GOOD + GOOD), "body.not_json"),
    "a trailing comma": (_with(GOOD[:-1] + b",}"), "body.not_json"),
    "a comment": (_with(b"/* */" + GOOD), "body.not_json"),
    "single quotes": (_with(GOOD.replace(b'"', b"'")), "body.not_json"),
    "a line feed in a string": (_with(GOOD.replace(b"Hello", b"Hel\nlo")), "body.not_json"),
    "NaN": (_with(_field('"temperature": NaN')), "body.not_json"),
    "infinity": (_with(_field('"temperature": -Infinity')), "body.not_json"),
    "a number of 5,000 digits": (_with(_field(f'"top_k": {"9" * 5000}')), "body.not_json"),
    "an array": (_with(b"[" + GOOD + b"]"), "body.not_object"),
    "a string": (_with(encode("hello")), "body.not_object"),
    "null": (_with(b"null"), "body.not_object"),
    "not UTF-8": (_with(GOOD.replace(b"Hello", b"H\xffllo")), "body.not_utf8"),
    "overlong UTF-8": (_with(GOOD.replace(b"Hello", b"H\xc0\xa2llo")), "body.not_utf8"),
    "a surrogate in UTF-8": (_with(GOOD.replace(b"Hello", b"\xed\xa0\x80")), "body.not_utf8"),
    "UTF-16": (_with(GOOD.decode().encode("utf-16")), "body.not_utf8"),
    "UTF-16 without mark": (_with(GOOD.decode().encode("utf-16-le")), "body.not_json"),
    "UTF-32": (_with(GOOD.decode().encode("utf-32")), "body.not_utf8"),
    "a byte order mark": (_with(b"\xef\xbb\xbf" + GOOD), "body.not_json"),
    "half a surrogate pair": (_with(GOOD.replace(b"Hello", rb"\ud83d")), "body.not_unicode"),
    "a reversed surrogate pair": (
        _with(GOOD.replace(b"Hello", rb"\ude00\ud83d")),
        "body.not_unicode",
    ),
    "half a pair in a key": (_with(_field(r'"\udc00": 1')), "body.not_unicode"),
    "the model twice": (_with(_field('"model": "claude-mythos-1"')), "body.duplicate_key"),
    "the same model twice": (_with(_field(f'"model": "{MODEL}"')), "body.duplicate_key"),
    "the model twice, once escaped": (
        _with(_field(r'"mod\u0065l": "claude-mythos-1"')),
        "body.duplicate_key",
    ),
    "a nested key twice": (
        _with(_field('"metadata": {"user_id": "a", "user_id": "b"}')),
        "body.duplicate_key",
    ),
    "nested 201 deep": (_with(_deep(200)), "body.too_deep"),
    "nested 10,000 deep": (_with(_deep(10_000)), "body.too_deep"),
    "10,000 open brackets": (_with(b"[" * 10_000), "body.too_deep"),
    "a million values": (_with(_field(f'"a": [{"0," * 999_999}0]')), "body.too_many_values"),
    "a million empty arrays": (_with(_field(f'"a": [{"[]," * 999_999}0]')), "body.too_many_values"),
    "33 MB": (_with(_of_size(33 * MB)), "body.too_large"),
    "33 MB in chunks": (
        _chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (33 * MB, _of_size(33 * MB))),
        "body.too_large",
    ),
    "gzip": (_with(gzip.compress(GOOD), "content-encoding: gzip"), "body.compressed"),
    "deflate": (_with(_deflated(GOOD), "content-encoding: deflate"), "body.compressed"),
    "said to be gzip": (_with(GOOD, "content-encoding: gzip"), "body.compressed"),
    "identity and gzip": (_with(GOOD, "content-encoding: identity, gzip"), "body.compressed"),
    "identity and deflate in two headers": (
        _with(GOOD, "content-encoding: identity", "content-encoding: deflate"),
        "body.compressed",
    ),
    "a model that is a number": (_with(encode(prompt(model=5))), "body.wrong_type"),
    "a model that is a list": (_with(encode(prompt(model=[MODEL]))), "body.wrong_type"),
    "a stream that is a word": (_with(encode(prompt(stream="yes"))), "body.wrong_type"),
    "a stream that is 1": (_with(encode(prompt(stream=1))), "body.wrong_type"),
    "max_tokens that is true": (_with(encode(prompt(max_tokens=True))), "body.wrong_type"),
    "max_tokens that is a fraction": (_with(encode(prompt(max_tokens=1.5))), "body.wrong_type"),
    "messages that are an object": (_with(encode(prompt(messages={}))), "body.wrong_type"),
    "tools that are an object": (_with(encode(prompt(tools={"a": 1}))), "body.wrong_type"),
    "tools that are numbers": (_with(encode(prompt(tools=[5]))), "body.wrong_type"),
    "a server tool's type that is a list": (
        _with(encode(prompt(tools=[{"type": ["web_search_20250305"], "name": "web_search"}]))),
        "body.wrong_type",
    ),
    "mcp_servers that are an object": (
        _with(encode(prompt(mcp_servers={"url": "https://mcp.test"}))),
        "body.wrong_type",
    ),
    "max_tokens beyond 64 bits": (_with(encode(prompt(max_tokens=10**30))), "body.wrong_type"),
    "max_tokens below 0 beyond 64 bits": (
        _with(encode(prompt(max_tokens=-(10**30)))),
        "body.wrong_type",
    ),
}
"""By name: the call, and the code that it is refused with."""


def _agent(name: str) -> str:
    return f"{AGENT}/{list(CASES).index(name)}"


def _expected(code: str) -> Told:
    if code == "body.too_large":
        return Told(status=413, kind="request_too_large", code=code)
    return Told(status=400, kind="invalid_request_error", code=code)


@pytest.fixture(scope="module")
def replies(deployment: Deployment) -> dict[str, Reply]:
    token = token_for(deployment)
    return send_all(
        {
            name: partial(send, deployment, make(token, _agent(name)))
            for name, (make, _) in CASES.items()
        }
    )


@pytest.fixture(scope="module")
def records(deployment: Deployment, replies: dict[str, Reply]) -> dict[str, dict[str, Any]]:
    columns = (*RECORD, "subject", "route", "prompt_text")
    return fetch_records(deployment, [_agent(name) for name in replies], *columns)


@pytest.mark.parametrize("name", CASES)
def test_a_bad_body_is_refused(name: str, replies: dict[str, Reply]) -> None:
    assert read_told(replies[name]) == _expected(CASES[name][1])


@pytest.mark.parametrize("name", CASES)
def test_a_bad_body_is_recorded(name: str, records: dict[str, dict[str, Any]]) -> None:
    code = CASES[name][1]
    assert records[_agent(name)] == {
        "outcome": "undecided",
        "ending": "refused",
        "status": _expected(code).status,
        "error_code": code,
        "subject": "dev",
        "route": "messages",
        "prompt_text": None,
    }


BROKEN_OFF: Mapping[str, Make] = {
    "a length that is too long": _with(GOOD, length=len(GOOD) + 9),
    "no body at all": _with(b"", length=len(GOOD)),
    "chunks without an end": _chunked(b"%x\r\n%b\r\n" % (len(GOOD), GOOD)),
    "half a chunk": _chunked(b"%x\r\n%b" % (len(GOOD) + 9, GOOD)),
}


def test_a_body_that_is_broken_off_is_recorded_as_cancelled(deployment: Deployment) -> None:
    token = token_for(deployment)
    calls = {
        f"broken-body/{number}": partial(
            send, deployment, make(token, f"broken-body/{number}"), is_half_closed=True
        )
        for number, make in enumerate(BROKEN_OFF.values())
    }
    replies = send_all(calls)
    assert {(reply.raw, reply.is_closed) for reply in replies.values()} == {(b"", True)}
    ended = {"outcome": "undecided", "ending": "cancelled", "status": None, "error_code": None}
    assert fetch_records(deployment, list(calls)) == dict.fromkeys(calls, ended)


def test_a_length_that_is_too_short_cuts_the_body_and_the_rest_is_no_request(
    deployment: Deployment,
) -> None:
    agent = "short-length/one"
    cut = len(GOOD) - 9
    call = request(GOOD[:cut], token=token_for(deployment), agent=agent, connection="")
    reply = send(deployment, call, then=GOOD[cut:] + b"\r\n\r\n")
    assert read_told(reply) == _expected("body.not_json")
    rest = reply.raw.partition(reply.body)[2]
    assert rest.startswith(b"HTTP/1.0 400 ")
    assert b"[http.malformed, exch_" in rest
    ended = {"outcome": "undecided", "ending": "refused", "status": 400}
    assert fetch_records(deployment, [agent]) == {agent: {**ended, "error_code": "body.not_json"}}


def test_a_body_of_exactly_32_mb_reaches_the_claude_server(deployment: Deployment) -> None:
    agent = "whole-body/32"
    call = request(_of_size(32 * MB), token=token_for(deployment), agent=agent)
    assert send(deployment, call).status == 200
    assert fetch_records(deployment, [agent], "outcome", "ending", "request_bytes") == {
        agent: {"outcome": "allow", "ending": "delivered", "request_bytes": 32 * MB}
    }
