"""Claude Code through the whole product: what it shows, and what is on record."""

import json
import re
import time
from pathlib import Path
from uuid import uuid4

import pytest
from support.deployment import Deployment

from e2e.clients import NOTICE, ClaudeCode, Shown, all_recorded, finish, recorded, untagged
from gateway.demo.specimens import specimen

pytestmark = pytest.mark.e2e

COLUMNS = """session_id, session_source, client_name, outcome, ending, status, reasons,
    right(prompt_text, 24) as prompt, approval_id, masks_applied"""
PROMPT = "Say hello to the harbour."
LISTED = re.compile(r"^(appr_\w+) +call +pending +(\S+) ", re.MULTILINE)


def row(session: str, **fields: object) -> dict[str, object]:
    """Return the record of an ordinary call, but for some fields."""
    ordinary = {
        "session_id": session,
        "session_source": "header",
        "client_name": "claude-cli",
        "outcome": "allow",
        "ending": "delivered",
        "status": 200,
        "reasons": [],
        "prompt": PROMPT[-24:],
        "approval_id": None,
        "masks_applied": [],
    }
    return ordinary | fields


@pytest.fixture
def session() -> str:
    return str(uuid4())


@pytest.fixture
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a table has each row on one line."""
    monkeypatch.setenv("COLUMNS", "300")


def wait_for_approval(deployment: Deployment, lead: str, user: str) -> str:
    """Return the id of the user's approval request as soon as an approver sees it."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        listed = deployment.run("approvals", "list", "--all", token=lead)
        for approval_id, who in LISTED.findall(listed):
            if who == user:
                return str(approval_id)
    raise AssertionError(f"no approval request of {user}")


def test_an_allowed_prompt_is_answered(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str
) -> None:
    token = deployment.token(user=user)
    shown = claude_code.ask(PROMPT, "--session-id", session, ANTHROPIC_AUTH_TOKEN=token)
    assert shown == Shown(status=0, text=f"{NOTICE} You said: {PROMPT}\n")
    assert recorded(deployment, user, COLUMNS) == [row(session)]


def test_a_token_from_a_helper_is_taken(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text(deployment.token(user=user))
    settings = json.dumps({"apiKeyHelper": f"cat {secret}"})
    shown = claude_code.ask(PROMPT, "--session-id", session, "--settings", settings)
    assert shown == Shown(status=0, text=f"{NOTICE} You said: {PROMPT}\n")
    assert recorded(deployment, user, COLUMNS) == [row(session)]


def test_a_denial_is_shown_as_our_sentence_after_one_request(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str
) -> None:
    token = deployment.token(user=user, groups="payments")
    shown = claude_code.ask(PROMPT, "--session-id", session, ANTHROPIC_AUTH_TOKEN=token)
    (only,) = all_recorded(deployment, user, f"exchange_id, {COLUMNS}")
    tail = f"[models.not_granted, {only.pop('exchange_id')}]"
    sentence = 'None of your groups grants the model "claude-opus-4-8".'
    assert shown == Shown(status=1, text=f"API Error: {only['status']} {sentence} {tail}\n")
    refused = {"outcome": "deny", "ending": "refused", "status": only["status"]}
    assert only == row(session, reasons=["models.not_granted"], **refused)


@pytest.mark.usefixtures("wide_terminal")
def test_a_prompt_that_a_second_person_approves_is_answered(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str
) -> None:
    token = deployment.token(user=user, groups="eng,shop", repository="acme/shop")
    lead = deployment.token(user=f"lead-of-{user}", groups="shop-leads")
    waiting = claude_code.start(PROMPT, "--session-id", session, ANTHROPIC_AUTH_TOKEN=token)
    approval_id = wait_for_approval(deployment, lead, user)
    said = deployment.run("approvals", "approve", approval_id, "--comment", "Go on.", token=lead)
    assert said == f"Approved: {approval_id}\n"
    assert finish(waiting) == Shown(status=0, text=f"{NOTICE} You said: {PROMPT}\n")
    assert recorded(deployment, user, COLUMNS) == [row(session, approval_id=approval_id)]


@pytest.mark.usefixtures("wide_terminal")
def test_a_prompt_that_a_second_person_denies_is_refused_with_the_comment(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str
) -> None:
    token = deployment.token(user=user, groups="eng,shop", repository="acme/shop")
    lead = deployment.token(user=f"lead-of-{user}", groups="shop-leads")
    waiting = claude_code.start(PROMPT, "--session-id", session, ANTHROPIC_AUTH_TOKEN=token)
    approval_id = wait_for_approval(deployment, lead, user)
    deployment.run("approvals", "deny", approval_id, "--comment", "Not today.", token=lead)
    shown = finish(waiting, timeout_s=10)
    (only,) = all_recorded(deployment, user, f"exchange_id, {COLUMNS}")
    tail = f"[approval.denied, {only.pop('exchange_id')}]"
    sentence = "An approver denied this: Not today."
    assert shown == Shown(status=1, text=f"API Error: {only['status']} {sentence} {tail}\n")
    refused = {"outcome": "deny", "ending": "refused", "status": only["status"]}
    assert only == row(session, reasons=["approval.denied"], approval_id=approval_id, **refused)


def test_a_secret_in_the_answer_is_shown_masked(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str
) -> None:
    token, prompt = deployment.token(user=user), f"[[demo secret=aws]] {PROMPT}"
    shown = claude_code.ask(prompt, "--session-id", session, ANTHROPIC_AUTH_TOKEN=token)
    told = "The access key id is [masked:aws_access_key], rotate it soon."
    assert untagged(shown.text) == f"{NOTICE} {told} You said: {PROMPT}\n"
    assert shown.status == 0
    assert specimen("aws") not in shown.text
    masks = [{"rule": "aws_access_key", "place": "text", "count": 1}]
    assert recorded(deployment, user, COLUMNS) == [row(session, masks_applied=masks)]


def test_a_tool_is_used_and_its_result_comes_back(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str
) -> None:
    token = deployment.token(user=user)
    prompt = '[[demo tool=Bash input={"command": "echo hi"}]]'
    arguments = ("--allowedTools", "Bash", "--session-id", session)
    shown = claude_code.ask(prompt, *arguments, ANTHROPIC_AUTH_TOKEN=token)
    assert shown == Shown(status=0, text=f"{NOTICE} The tool answered: hi\n")
    columns = "session_id, outcome, ending, tool_calls, stop_reason, response_text"
    turn = {"session_id": session, "outcome": "allow", "ending": "delivered"}
    used = {"tool_calls": ["Bash"], "stop_reason": "tool_use", "response_text": NOTICE}
    answered = {"tool_calls": [], "stop_reason": "end_turn", "response_text": shown.text.strip()}
    assert recorded(deployment, user, columns, 2) == [turn | used, turn | answered]


def test_an_edit_leaves_the_real_value_on_disk(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str, tmp_path: Path
) -> None:
    """The value reaches the model in what a tool read, and comes back in what a tool writes."""
    file = tmp_path / ".env"
    file.write_text(f"KEY={specimen('aws')}\nDEBUG=0\n")
    edit = {
        "file_path": str(file),
        "old_string": "KEY=<secret=aws>\nDEBUG=0",
        "new_string": "KEY=<secret=aws>\nDEBUG=1",
    }
    prompt = (
        f"[[demo tool=Read input={json.dumps({'file_path': str(file)})}]][[demo then]]"
        f"[[demo tool=Edit input={json.dumps(edit)}]]"
    )
    arguments = ("--allowedTools", "Read,Edit", "--session-id", session)
    token = deployment.token(user=user)
    shown = claude_code.ask(prompt, *arguments, ANTHROPIC_AUTH_TOKEN=token)
    assert shown.status == 0, shown.text
    assert file.read_text() == f"KEY={specimen('aws')}\nDEBUG=1\n"
    masks = [
        {"rule": "aws_access_key", "place": "text", "count": 1},
        {"rule": "aws_access_key", "place": "tool_input.echo_allow", "count": 2},
    ]
    rows = recorded(deployment, user, "tool_calls, ending, masks_applied", 3)
    assert rows[:2] == [
        {"tool_calls": ["Read"], "ending": "delivered", "masks_applied": []},
        {"tool_calls": ["Edit"], "ending": "delivered", "masks_applied": masks},
    ]


def test_a_new_secret_is_not_written_to_disk(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str, tmp_path: Path
) -> None:
    file = tmp_path / "new.env"
    write = {"file_path": str(file), "content": 'KEY="<secret=github>"\n'}
    prompt = f"[[demo tool=Write input={json.dumps(write)}]]"
    arguments = ("--allowedTools", "Write", "--session-id", session)
    token = deployment.token(user=user)
    shown = claude_code.ask(prompt, *arguments, ANTHROPIC_AUTH_TOKEN=token)
    assert shown.status == 0, shown.text
    assert re.fullmatch(r'KEY="\[masked:github_token[^"]*\]"\n', file.read_text())


def test_masked_thinking_goes_on_in_a_loop_of_tools(
    claude_code: ClaudeCode, deployment: Deployment, user: str, session: str
) -> None:
    """The server takes its thinking back only as it signed it."""
    prompt = '[[demo thinking-secret=aws tool=Bash input={"command": "echo hi"}]]'
    arguments = ("--allowedTools", "Bash", "--session-id", session)
    token = deployment.token(user=user)
    shown = claude_code.ask(prompt, *arguments, ANTHROPIC_AUTH_TOKEN=token)
    assert shown == Shown(status=0, text=f"{NOTICE} The tool answered: hi\n")
    masks = [{"rule": "aws_access_key", "place": "thinking", "count": 1}]
    assert recorded(deployment, user, "ending, status, masks_applied", 2) == [
        {"ending": "delivered", "status": 200, "masks_applied": masks},
        {"ending": "delivered", "status": 200, "masks_applied": []},
    ]


def test_a_stream_that_is_cut_is_refused_again_with_the_same_sentence(
    claude_code: ClaudeCode, deployment: Deployment, user: str
) -> None:
    token = deployment.token(user=user)
    prompt = '[[demo tool=Bash input={"<secret=github>": 1}]] List it.'
    shown = claude_code.ask(prompt, "--allowedTools", "Bash", ANTHROPIC_AUTH_TOKEN=token)
    columns = "exchange_id, ending, status, error_code, stream"
    cut, again = all_recorded(deployment, user, columns)
    assert cut | {"exchange_id": ""} == {
        "exchange_id": "",
        "ending": "failed",
        "status": 200,
        "error_code": "masking_blocked",
        "stream": True,
    }
    assert again | {"exchange_id": ""} == {
        "exchange_id": "",
        "ending": "refused",
        "status": 451,
        "error_code": "masking_blocked",
        "stream": False,
    }
    assert shown.status == 1
    assert f"[masking_blocked, {again['exchange_id']}]" in shown.text
