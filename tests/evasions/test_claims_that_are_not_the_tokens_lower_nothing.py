"""What a header or the content says about workflow and repository can only tighten.

Each case is compared with the same call without it: what the token claims may lower recording,
what anybody can write may not.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from support.deployment import Deployment

from evasions.calls import Reply, encode, fetch_records, prompt, request, send, send_all, token_for

AGENT = "context-evasion"
COLUMNS = (
    "outcome",
    "reasons",
    "recording_content",
    "recording_durability",
    "retention_class",
    "approval_id",
    "prompt_text",
)

HAIKU = "claude-haiku-4-5-20251001"
SERVICE = {"kind": "service"}
EVAL = {"workflow": "nightly-eval"}

KEPT: dict[str, Any] = {
    "outcome": "allow",
    "reasons": [],
    "recording_content": "full",
    "recording_durability": "strict",
    "retention_class": "standard",
    "approval_id": None,
    "prompt_text": "Hello",
}
NOT_KEPT = {**KEPT, "recording_content": "none", "prompt_text": None}
REFUSED = {
    **KEPT,
    "outcome": "deny",
    "reasons": ["repositories.not_owner"],
    "retention_class": "production",
}
KEPT_LONG = {**KEPT, "retention_class": "production"}

CASES: Mapping[str, tuple[dict[str, str], tuple[str, ...], tuple[str, ...], dict[str, Any]]] = {
    "a service without a workflow is kept": (SERVICE, ("ci",), (), KEPT),
    "a service whose token claims the workflow is not kept": (
        {**SERVICE, **EVAL},
        ("ci",),
        (),
        NOT_KEPT,
    ),
    "a service whose header claims the workflow is kept": (
        SERVICE,
        ("ci",),
        ("x-countersign-workflow: nightly-eval",),
        KEPT,
    ),
    "a service whose header repeats the claim is not kept": (
        {**SERVICE, **EVAL},
        ("ci",),
        ("x-countersign-workflow: nightly-eval",),
        NOT_KEPT,
    ),
    "a service whose header hides the claimed workflow is kept by its claim": (
        {**SERVICE, "workflow": "other"},
        ("ci",),
        ("x-countersign-workflow: nightly-eval",),
        KEPT,
    ),
    "a workflow of another case is kept": (
        {**SERVICE, "workflow": "Nightly-Eval"},
        ("ci",),
        (),
        KEPT,
    ),
    "a user whose token claims the workflow is kept": (EVAL, ("ci",), (), KEPT),
    "a user whose header claims to be a service is kept": (
        EVAL,
        ("ci",),
        ("x-countersign-kind: service", "x-countersign-principal: service"),
        KEPT,
    ),
    "a kind that is neither is kept": ({"kind": "SERVICE", **EVAL}, ("ci",), (), KEPT),
    "a header that names production denies": (
        {},
        ("ci",),
        ("x-countersign-repository: acme/shop",),
        REFUSED,
    ),
    "a header that names production in capitals denies": (
        {},
        ("ci",),
        ("x-countersign-repository: ACME/Shop.git",),
        REFUSED,
    ),
    "a claim that names production denies": ({"repository": "acme/shop"}, ("ci",), (), REFUSED),
    "a header does not hide the repository that is claimed": (
        {"repository": "acme/shop"},
        ("ci",),
        ("x-countersign-repository: acme/docs",),
        REFUSED,
    ),
    "a workload on production is kept for long": (
        {**SERVICE, **EVAL, "repository": "acme/shop"},
        ("ci", "prod-writers"),
        (),
        KEPT_LONG,
    ),
    "a workload whose header names production is kept for long": (
        {**SERVICE, **EVAL},
        ("ci", "prod-writers"),
        ("x-countersign-repository: acme/shop",),
        KEPT_LONG,
    ),
    "a header that names a group grants nothing": (
        {},
        ("ci",),
        (
            "x-countersign-repository: acme/shop",
            "x-countersign-groups: prod-writers",
            "x-forwarded-groups: prod-writers",
        ),
        REFUSED,
    ),
}
"""By name: claims and groups of the token, headers, and the record."""


def _agent(name: str) -> str:
    return f"{AGENT}/{list(CASES).index(name)}"


@pytest.fixture(scope="module")
def replies(deployment: Deployment) -> dict[str, Reply]:
    body = encode(prompt(model=HAIKU))
    return send_all(
        {
            name: partial(
                send,
                deployment,
                request(
                    body,
                    *headers,
                    token=token_for(deployment, "bot", groups, **claims),
                    agent=_agent(name),
                ),
            )
            for name, (claims, groups, headers, _) in CASES.items()
        }
    )


@pytest.fixture(scope="module")
def records(deployment: Deployment, replies: dict[str, Reply]) -> dict[str, dict[str, Any]]:
    return fetch_records(deployment, [_agent(name) for name in replies], *COLUMNS)


@pytest.mark.parametrize("name", CASES)
def test_only_the_token_lowers(
    name: str, replies: dict[str, Reply], records: dict[str, dict[str, Any]]
) -> None:
    expected = CASES[name][3]
    status = 200 if expected["outcome"] == "allow" else 403
    assert (replies[name].status, records[_agent(name)]) == (status, expected)
