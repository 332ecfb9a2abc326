"""However an answer is cut, a well-known secret is masked wherever in it it stands."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from support.deployment import Deployment

from evasions.calls import (
    RECORD,
    Reply,
    encode,
    fetch_records,
    prompt,
    read_events,
    request,
    send,
    send_all,
    token_for,
)
from gateway.demo.specimens import KINDS, specimen

AGENT = "mask-evasion"
RULES: Mapping[str, str] = {
    "aws": "aws_access_key",
    "github": "github_token",
    "slack": "slack_token",
    "private-key": "private_key",
    "jwt": "jwt",
    "field": "credential_fields",
    "email": "email",
}
"""By kind of secret: the rule that masks it."""
ON_REQUEST = {"field", "email"}
"""Masked for the group `support` only, all others for everyone."""

TOOL = {"name": "Bash", "description": "Run.", "input_schema": {"type": "object"}}
MODEL = "claude-haiku-4-5-20251001"
THINKING = {"type": "enabled", "budget_tokens": 1024}

Case = tuple[str, str, dict[str, object]]
"""Kind of the secret, prompt, and further fields of the body."""


def _text_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for kind in RULES:
        cases[f"{kind}, plain"] = (kind, f"[[demo secret={kind}]]", {})
        for split in (*range(1, 8), 1000):
            said = f"[[demo secret={kind} split={split}]]"
            cases[f"{kind}, streamed by {split}"] = (kind, said, {"stream": True})
    return cases


def _other_cases() -> dict[str, Case]:
    """Return cases with the secret elsewhere than in text, named by place."""
    cases: dict[str, Case] = {}
    thinking: dict[str, object] = {"thinking": THINKING, "max_tokens": 2000}
    tools: dict[str, object] = {"tools": [TOOL]}
    for kind in RULES:
        for place, directive, fields in (
            ("tool_input", f"tool-secret={kind}", tools),
            ("tool_input", f"tool-secret={kind} escaped", tools),
            ("thinking", f"thinking-secret={kind}", thinking),
            ("block", f"result-secret={kind}", {}),
            ("citation", f"citation-secret={kind}", {}),
        ):
            plain = "text" if place == "citation" else place
            said = f"[[demo {directive}]]"
            cases[f"{plain}: {directive}, plain"] = (kind, said, fields)
            for split in (1, 2, 3, 5, 7, 11, 1000):
                said = f"[[demo {directive} split={split}]]"
                name = f"{place}: {directive}, streamed by {split}"
                cases[name] = (kind, said, {**fields, "stream": True})
    return cases


def _error_cases() -> dict[str, Case]:
    return {f"{kind} in an error": (kind, f"[[demo fail=400 secret={kind}]]", {}) for kind in RULES}


MASKED = _text_cases()
ELSEWHERE = _other_cases()
ERRORS = _error_cases()
CASES = {**MASKED, **ELSEWHERE, **ERRORS}


def _body(said: str, fields: dict[str, object]) -> bytes:
    return encode(prompt(said, **{"model": MODEL, **fields}))


def _agent(name: str) -> str:
    return f"{AGENT}/{list(CASES).index(name)}"


@pytest.fixture(scope="module")
def replies(deployment: Deployment) -> dict[str, Reply]:
    tokens = {
        kind: token_for(deployment, groups=("support" if kind in ON_REQUEST else "eng",))
        for kind in RULES
    }
    return send_all(
        {
            name: partial(
                send,
                deployment,
                request(_body(said, fields), token=tokens[kind], agent=_agent(name)),
            )
            for name, (kind, said, fields) in CASES.items()
        }
    )


@pytest.fixture(scope="module")
def records(deployment: Deployment, replies: dict[str, Reply]) -> dict[str, dict[str, Any]]:
    columns = (*RECORD, "response_text", "masks_applied")
    return fetch_records(deployment, [_agent(name) for name in replies], *columns)


def _readings(reply: Reply) -> list[str]:
    """Return everything a client could read in an answer: its bytes, and its decoded strings.

    Deltas are joined by block, and partial JSON is read with its escapes decoded as far as it goes.
    """
    text = reply.raw.decode()
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return [text, *_strings(json.loads(reply.body))]
    events = read_events(reply)
    deltas: dict[tuple[int, str], str] = {}
    for event in events:
        for field, value in event.get("delta", {}).items():
            if isinstance(value, str) and field != "type" and "index" in event:
                key = (event["index"], field)
                deltas[key] = deltas.get(key, "") + value
    return [text, *_strings(events), *deltas.values(), *map(_unescape, deltas.values())]


def _strings(value: object) -> list[str]:
    match value:
        case str():
            return [value, _unescape(value)]
        case list():
            return [text for item in value for text in _strings(item)]
        case dict():
            return [text for item in value.values() for text in _strings(item)]
        case _:
            return []


def _unescape(text: str) -> str:
    for escape, character in (("\\n", "\n"), ('\\"', '"'), ("\\/", "/"), ("\\u002d", "-")):
        text = text.replace(escape, character)
    return text


def _secrets(kind: str) -> list[str]:
    """Return the secret and, of a key of several lines, each of them."""
    whole = specimen(kind)
    return [whole, *(line for line in whole.splitlines() if not line.startswith("-----"))]


def _leaks(kind: str, texts: list[str]) -> list[str]:
    return [secret for secret in _secrets(kind) if any(secret in text for text in texts)]


def test_there_is_a_case_for_every_kind_of_secret() -> None:
    assert set(RULES) == set(KINDS)


@pytest.mark.parametrize("name", MASKED)
def test_a_secret_in_text_is_masked(name: str, replies: dict[str, Reply]) -> None:
    kind = MASKED[name][0]
    reply = replies[name]
    assert (reply.status, reply.is_whole, _leaks(kind, _readings(reply))) == (200, True, [])


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_answer_is_recorded_as_it_was_released(
    name: str, records: dict[str, dict[str, Any]]
) -> None:
    kind = MASKED[name][0]
    record = records[_agent(name)]
    text = record.pop("response_text")
    assert (record, _leaks(kind, [text]), "[masked:" in text) == (
        {
            "outcome": "allow",
            "ending": "delivered",
            "status": 200,
            "error_code": None,
            "masks_applied": [{"rule": RULES[kind], "place": "text", "count": 1}],
        },
        [],
        True,
    )


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_secret_elsewhere_is_masked_where_it_stands(name: str, replies: dict[str, Reply]) -> None:
    kind, _, fields = ELSEWHERE[name]
    reply = replies[name]
    assert (reply.status, reply.is_whole, _leaks(kind, _readings(reply))) == (200, True, [])
    if "stream" in fields:
        events = read_events(reply)
        assert events[-1]["type"] == "message_stop"
        inputs = [event["delta"].get("partial_json", "") for event in events if "delta" in event]
        if name.startswith("tool_input"):
            assert "[masked:" in str(json.loads("".join(inputs)))


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_was_masked_elsewhere_is_recorded_with_its_place(
    name: str, records: dict[str, dict[str, Any]]
) -> None:
    kind = ELSEWHERE[name][0]
    record = records[_agent(name)]
    text = record.pop("response_text") or ""
    assert (record, _leaks(kind, [text])) == (
        {
            "outcome": "allow",
            "ending": "delivered",
            "status": 200,
            "error_code": None,
            "masks_applied": [{"rule": RULES[kind], "place": name.partition(":")[0], "count": 1}],
        },
        [],
    )


@pytest.mark.parametrize("name", ERRORS)
def test_a_secret_in_an_error_is_masked(
    name: str, replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    kind = ERRORS[name][0]
    reply, record = replies[name], records[_agent(name)]
    assert (reply.status, reply.is_whole, _leaks(kind, _readings(reply))) == (400, True, [])
    assert record["masks_applied"] == [{"rule": RULES[kind], "place": "error", "count": 1}]


def test_no_secret_is_in_the_recorded_pieces(
    deployment: Deployment, records: dict[str, dict[str, Any]]
) -> None:
    rows = deployment.sql(
        "select decode(c.data) as data from contents c join exchanges e using (exchange_id) "
        f"where e.user_agent like '{AGENT}/%' and c.side = 'response'"
    )
    texts = [row["data"] for row in rows]
    assert len(texts) >= len(MASKED)
    assert [leak for kind in RULES for leak in _leaks(kind, texts)] == []


@pytest.mark.parametrize("kind", RULES)
def test_what_is_masked_for_a_group_only_is_seen_by_others(
    kind: str, deployment: Deployment
) -> None:
    body = _body(f"[[demo secret={kind} split=3]]", {"stream": True})
    reply = send(deployment, request(body, token=token_for(deployment)))
    assert bool(_leaks(kind, _readings(reply))) == (kind in ON_REQUEST)
