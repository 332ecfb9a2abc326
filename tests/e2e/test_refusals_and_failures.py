"""What people see when the gateway knows them not, or can't decide, and how often clients try."""

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest
from evasions.calls import issuer
from support.deployment import Deployment, running

from e2e.clients import NOTICE, ClaudeCode, all_recorded, curl, question, typescript
from e2e.conftest import QuickDeployment
from gateway.demo_setup import AUDIENCE

pytestmark = pytest.mark.e2e

UNDECIDED = "The policy engine could not decide"
LEEWAY_S = 30


@pytest.fixture(scope="module")
def undecided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment whose policy engine does not answer any more."""
    with running(tmp_path_factory.mktemp("undecided") / "var") as started:
        opa = started.processes["opa"].pid
        os.kill(opa, signal.SIGSTOP)
        try:
            yield QuickDeployment(**vars(started))
        finally:
            os.kill(opa, signal.SIGCONT)


def tries(deployment: Deployment, user: str) -> list[tuple[str, int]]:
    """Return how each call of a user ended."""
    rows = all_recorded(deployment, user, "error_code, status")
    return [(row["error_code"], row["status"]) for row in rows]


# --- a credential that nobody issued --------------------------------------------------------------


def test_claude_code_shows_a_bad_token_after_one_request(claude_code: ClaudeCode) -> None:
    shown = claude_code.ask("Hello.", ANTHROPIC_AUTH_TOKEN="nobodys")
    assert (shown.status, "API Error: 401" in shown.text) == (1, True), shown.text
    assert "[token." in shown.text


def test_the_python_sdk_raises_a_bad_token(deployment: Deployment) -> None:
    sdk = anthropic.Anthropic(base_url=deployment.base_url, auth_token="nobodys")
    with sdk, pytest.raises(anthropic.AuthenticationError, match=r"\[token\.") as caught:
        sdk.messages.create(**question("Hello."))
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_the_typescript_sdk_throws_a_bad_token(deployment: Deployment) -> None:
    shown = typescript(deployment.base_url, "nobodys", "plain", "Hello.")
    thrown = {"class": "AuthenticationError", "status": 401, "type": "authentication_error"}
    assert json.loads(shown.text) == thrown


# --- a decision that can't be taken ---------------------------------------------------------------


def test_claude_code_tries_again_later_and_then_shows_the_failure(
    undecided: Deployment, user: str, tmp_path: Path
) -> None:
    claude = ClaudeCode(home=tmp_path, base_url=undecided.base_url)
    token = undecided.token(user=user)
    began = time.monotonic()
    shown = claude.ask("Hello.", ANTHROPIC_AUTH_TOKEN=token, CLAUDE_CODE_MAX_RETRIES="1")
    waited_s = time.monotonic() - began
    assert (shown.status, UNDECIDED in shown.text) == (1, True), shown.text
    assert tries(undecided, user) == [("policy_unavailable", 503)] * 2
    assert waited_s > 5  # as retry-after says


def test_the_python_sdk_tries_again_and_then_raises_the_failure(
    undecided: Deployment, user: str
) -> None:
    token = undecided.token(user=user)
    sdk = anthropic.Anthropic(base_url=undecided.base_url, auth_token=token, max_retries=1)
    with sdk, pytest.raises(anthropic.InternalServerError, match=UNDECIDED) as caught:
        sdk.messages.create(**question("Hello."))
    assert caught.value.response.headers["retry-after"] == "5"
    assert tries(undecided, user) == [("policy_unavailable", 503)] * 2


def test_the_typescript_sdk_tries_again_and_then_throws_the_failure(
    undecided: Deployment, user: str
) -> None:
    shown = typescript(undecided.base_url, undecided.token(user=user), "plain", "Hello.")
    thrown = {"class": "ServiceUnavailableError", "status": 503, "type": "api_error"}
    assert json.loads(shown.text) == thrown
    assert tries(undecided, user) == [("policy_unavailable", 503)] * 3


def test_curl_shows_the_failure_and_when_to_try_again(undecided: Deployment, user: str) -> None:
    url, token = f"{undecided.base_url}/v1/messages", undecided.token(user=user)
    shown = curl(url, token, question("Hello."), "--include")
    head, _, body = shown.text.partition("\n\n")
    assert head.splitlines()[0] == "HTTP/1.1 503 Service Unavailable"
    assert "retry-after: 5" in head.splitlines()
    assert "x-should-retry" not in head
    assert UNDECIDED in json.loads(body)["error"]["message"]


# --- a denial -------------------------------------------------------------------------------------


def test_curl_shows_a_denial(deployment: Deployment, user: str) -> None:
    url, token = f"{deployment.base_url}/v1/messages", deployment.token(user=user)
    shown = curl(url, token, question("Hello.", model="claude-mythos-1"))
    error = json.loads(shown.text)["error"]
    assert error["type"] == "permission_error"
    assert error["message"].startswith('None of your groups grants the model "claude-mythos-1". [')


# --- a token that expires -------------------------------------------------------------------------


def test_claude_code_fetches_a_fresh_token_when_its_own_expires_in_a_session(
    claude_code: ClaudeCode, deployment: Deployment, user: str, tmp_path: Path
) -> None:
    """The first call uses the old token; while a tool runs it expires, and the second is a 401."""
    ends = int(time.time()) + 12
    claims, groups = {"person": user}, ["eng"]
    old = issuer(deployment).mint(user, groups, claims, 3600, AUDIENCE, ends - LEEWAY_S - 3600)
    (tmp_path / "old").write_text(old)
    (tmp_path / "fresh").write_text(deployment.token(user=user))
    calls = tmp_path / "calls"
    where = shlex.quote(str(tmp_path))
    helper = tmp_path / "helper"
    helper.write_text(
        f"#!/bin/sh\ncd {where}\n"
        f'[ "$(date +%s)" -lt {ends} ] && name=old || name=fresh\n'
        'echo "$name" >> calls\ncat "$name"\n'
    )
    helper.chmod(0o700)
    prompt = '[[demo tool=Bash input={"command": "sleep 14; echo rested"}]]'
    settings = json.dumps({"apiKeyHelper": str(helper)})
    shown = claude_code.ask(prompt, "--allowedTools", "Bash", "--settings", settings)
    assert shown.text == f"{NOTICE} The tool answered: rested\n"
    used = calls.read_text().split()
    assert (used[0], used[-1]) == ("old", "fresh")
    (counted,) = deployment.wait_for(
        "select sum(count) as refused from events where reason = 'token.expired' having refused > 0"
    )
    assert counted["refused"] == 1
    rows = all_recorded(deployment, user, "outcome, ending")
    assert rows == [{"outcome": "allow", "ending": "delivered"}] * 2
