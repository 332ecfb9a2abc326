"""What auditors and operators see, and what is theirs to see."""

import json
import shutil
import time
from pathlib import Path

import pytest
from support.deployment import ROOT, Deployment, running
from support.messages import ask


@pytest.fixture(scope="module")
def seen(deployment: Deployment) -> str:
    """A session of `mia` with a hostile prompt; returns its exchange's id."""
    token = deployment.token("mia", "eng")
    prompt = "ring \x1b]0;owned\x07 the \u202ebell"
    ask(deployment.base_url, token, prompt, headers={"x-claude-code-session-id": "s-mia"})
    (row,) = deployment.wait_for("select exchange_id from exchanges where subject = 'mia'")
    return str(row["exchange_id"])


def test_people_list_and_show_their_own_sessions(deployment: Deployment, seen: str) -> None:
    token = deployment.token("mia", "eng")
    assert "s-mia" in deployment.run("sessions", "list", token=token)
    shown = deployment.run("sessions", "show", "s-mia", "--bodies", token=token)
    assert seen in shown
    assert "demo Claude" in shown


def test_nothing_recorded_reaches_the_terminal_as_control_characters(
    deployment: Deployment, seen: str
) -> None:
    token = deployment.token("mia", "eng")
    commands = (
        ("sessions", "show", "s-mia", "--bodies"),
        ("sessions", "show", "s-mia", "--json"),
        ("sql", f"select prompt_text from exchanges where exchange_id = '{seen}'"),
    )
    for command in commands:
        shown = deployment.run(*command, token=token)
        assert not set("\x1b\x07\u202e") & set(shown), command
    assert r"\x1b]0;owned\x07" in deployment.run("sessions", "show", "s-mia", token=token)


def test_others_sessions_are_for_auditors_and_reading_is_an_event(
    deployment: Deployment, seen: str
) -> None:
    (row,) = deployment.sql(f"select issuer from exchanges where exchange_id = '{seen}'")
    command = ("sessions", "show", "s-mia", "--issuer", row["issuer"], "--subject", "mia")
    eve = deployment.token("eve", "eng")
    assert "sessions.not_granted" in deployment.run(*command, token=eve, check=False)
    assert "sessions.not_granted" in deployment.run(
        "sessions", "list", "--all", token=eve, check=False
    )
    ada = deployment.token("ada", "auditors")
    assert seen in deployment.run(*command, token=ada)
    assert "s-mia" in deployment.run("sessions", "list", "--all", token=ada)
    events = deployment.wait_for(
        f"select subject from events where kind = 'records.read' and exchange_id = '{seen}' "
        "and subject = 'ada'"
    )
    assert events
    assert deployment.wait_for(
        "select reason from events where kind = 'access.denied' and subject = 'eve'"
    )


def test_sql_only_reads_the_tables(deployment: Deployment) -> None:
    for query in (
        "select * from '/etc/passwd'",
        "create table x as select 1",
        "select 1; select 2",
    ):
        assert "countersign: " in deployment.run("sql", query, check=False)


def test_every_decision_can_be_asked_again(deployment: Deployment, seen: str) -> None:
    (row,) = deployment.sql(
        "select decision_input, decision_result, policy_revision, prompt_text "
        f"from exchanges where exchange_id = '{seen}'"
    )
    case = deployment.folder / "case.json"
    case.write_text(row["decision_input"])
    again = json.loads(deployment.run("policy", "try", str(case)))
    assert again == json.loads(row["decision_result"])
    assert row["policy_revision"] in deployment.run("policy", "status")
    assert row["prompt_text"] not in row["decision_input"]


def test_what_policy_says_not_to_record_leaves_a_decision_without_content(
    deployment: Deployment,
) -> None:
    robot = deployment.token("robot", "ci", workflow="nightly-eval", kind="service")
    model = "claude-haiku-4-5-20251001"
    assert ask(deployment.base_url, robot, "secret eval", model=model).status == 200
    (row,) = deployment.wait_for(
        "select recording_content, outcome, ending, prompt_text, response_text, request_parts, "
        "array_to_string(recording_reasons, ',') why from exchanges where subject = 'robot'"
    )
    assert row == {
        "recording_content": "none",
        "outcome": "allow",
        "ending": "delivered",
        "prompt_text": None,
        "response_text": None,
        "request_parts": row["request_parts"],
        "why": row["why"],
    }
    assert not row["request_parts"]
    assert "workloads.not_kept" in row["why"]
    for path in deployment.folder.rglob("*.segment"):
        assert b"secret eval" not in path.read_bytes()


def test_a_new_policy_is_live_within_seconds_and_a_broken_one_never(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", policies)
    config = policies / "gateway" / "config" / "data.json"
    with running(
        tmp_path / "var", environment={"COUNTERSIGN_POLICY__SOURCE": str(policies)}
    ) as deployment:
        token = deployment.token()

        def status() -> int:
            return ask(deployment.base_url, token, "hello", model="claude-sonnet-4-6").status

        assert status() == 403
        (policies / "gateway" / "broken.rego").write_text("package gateway.broken\nallow if {")
        config.write_text(config.read_text().replace("claude-opus-4-8", "claude-sonnet-4-6"))
        time.sleep(3)
        assert status() == 403
        (policies / "gateway" / "broken.rego").unlink()
        until = time.monotonic() + 10
        while status() != 200:
            assert time.monotonic() < until
            time.sleep(0.2)
        revisions = deployment.wait_for("select distinct policy_revision from exchanges", count=2)
        assert len(revisions) == 2
