"""However an answer is cut, a well-known secret in it is masked, or the answer is stopped."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from support.deployment import Deployment

from evasions.calls import (
    RECORD,
    Reply,
    Told,
    encode,
    fetch_records,
    prompt,
    read_events,
    read_told,
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


def _blocked_cases() -> dict[str, Case]:
    cases: dict[str, Case] = {}
    for kind in RULES:
        tool: Case = (kind, f"[[demo tool-secret={kind}]]", {"tools": [TOOL]})
        cases[f"{kind} in a tool's input, plain"] = tool
        for split in (1, 2, 3, 5, 7, 1000):
            said = f"[[demo tool-secret={kind} split={split}]]"
            cases[f"{kind} in a tool's input, streamed by {split}"] = (
                kind,
                said,
                {"tools": [TOOL], "stream": True},
            )
            said = f"[[demo thinking-secret={kind} split={split}]]"
            cases[f"{kind} in thinking, streamed by {split}"] = (
                kind,
                said,
                {"thinking": THINKING, "max_tokens": 2000, "stream": True},
            )
        said = f"[[demo thinking-secret={kind}]]"
        cases[f"{kind} in thinking, plain"] = (
            kind,
            said,
            {"thinking": THINKING, "max_tokens": 2000},
        )
    return cases


MASKED = _text_cases()
BLOCKED = _blocked_cases()
CASES = {**MASKED, **BLOCKED}


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
            if event["type"] == "content_block_delta" and field != "type":
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


@pytest.mark.parametrize("name", BLOCKED)
def test_a_secret_where_nothing_can_be_replaced_stops_the_answer(
    name: str, replies: dict[str, Reply]
) -> None:
    kind, _, fields = BLOCKED[name]
    reply = replies[name]
    assert _leaks(kind, _readings(reply)) == []
    if "stream" not in fields:
        assert read_told(reply) == Told(
            status=502, kind="api_error", code="masking_blocked", retry="later"
        )
        return
    last = read_events(reply)[-1]
    message = last["error"]["message"]
    assert last == {"type": "error", "error": {"type": "api_error", "message": message}}
    assert "[masking_blocked, exch_" in message
    assert reply.is_whole
    assert not {"message_stop"} & {event["type"] for event in read_events(reply)}


@pytest.mark.parametrize("name", BLOCKED)
def test_a_stopped_answer_is_recorded_as_failed(
    name: str, records: dict[str, dict[str, Any]]
) -> None:
    kind, _, fields = BLOCKED[name]
    record = records[_agent(name)]
    place = "thinking" if "thinking" in fields else "tool_input"
    text = record.pop("response_text") or ""
    assert (record, _leaks(kind, [text])) == (
        {
            "outcome": "allow",
            "ending": "failed",
            "status": 200 if "stream" in fields else 502,
            "error_code": "masking_blocked",
            "masks_applied": [{"rule": RULES[kind], "place": place, "count": 1}],
        },
        [],
    )


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
