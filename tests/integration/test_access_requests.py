"""Access asked for before a call needs it, and emergency access that is reviewed afterwards."""

import re
import time

import pytest
from support.deployment import Deployment
from support.messages import ask

REPOSITORY = "acme/shop"


@pytest.fixture(scope="module")
def lead(deployment: Deployment) -> str:
    return deployment.token("lea", "shop-leads")


def request_access(deployment: Deployment, token: str, *more: str, check: bool = True) -> str:
    command = ("access", "request", "--repository", REPOSITORY, "--reason", "release 7", *more)
    return deployment.run(*command, token=token, check=check)


def id_in(said: str) -> str:
    (found,) = re.findall(r"appr_[0-9a-f]+", said)
    return str(found)


def passes(deployment: Deployment, token: str, prompt: str) -> None:
    """Ask until a change that has been made is known everywhere; it takes a second at most."""
    time.sleep(0.6)
    answer = ask(deployment.base_url, token, prompt, timeout_s=10)
    assert (answer.status, prompt in answer.text) == (200, True)


def test_access_that_was_approved_beforehand_lets_calls_pass_at_once(
    deployment: Deployment, lead: str
) -> None:
    token = deployment.token("abe", "eng,shop", repository=REPOSITORY)
    said = request_access(deployment, token, "--for", "2h")
    assert said.startswith("Pending: appr_")
    listed = deployment.run("approvals", "list", "--all", token=lead)
    assert (id_in(said) in listed, "release 7" in listed) == (True, True)
    deployment.run("approvals", "approve", id_in(said), "--comment", "go", token=lead)
    passes(deployment, token, "first of the release")
    passes(deployment, token, "second of the release")
    (row,) = deployment.wait_for(
        "select approval_id, array_to_string(approvers, ',') as approvers from exchanges "
        "where prompt_text = 'second of the release'"
    )
    assert row["approval_id"] == id_in(said)


def test_access_is_refused_beyond_what_policy_lets_one_ask_for(deployment: Deployment) -> None:
    member = deployment.token("abe", "eng,shop")
    assert "access.too_long" in request_access(deployment, member, "--for", "9h", check=False)
    stranger = deployment.token("sam", "eng")
    assert "access.not_owner" in request_access(deployment, stranger, "--for", "1h", check=False)
    taken = request_access(deployment, member, "--for", "1h", "--emergency", check=False)
    assert "access.no_emergency" in taken


def test_emergency_access_is_there_at_once_is_an_event_and_ends_with_a_bad_review(
    deployment: Deployment, lead: str
) -> None:
    token = deployment.token("ona", "eng,shop,shop-oncall", repository=REPOSITORY)
    said = request_access(deployment, token, "--for", "1h", "--emergency")
    assert said.startswith("Approved: appr_")
    passes(deployment, token, "the shop is down")
    own = ("approvals", "approve", id_in(said), "--comment", "mine")
    lead_too = deployment.token("ona", "shop-leads")
    assert "approvals.own_request" in deployment.run(*own, token=lead_too, check=False)
    deployment.run("approvals", "deny", id_in(said), "--comment", "no outage", token=lead)
    assert "revoked" in deployment.run("approvals", "list", token=token)
    rows = deployment.wait_for(
        f"select kind from events where detail_json like '%{id_in(said)}%'", count=3
    )
    assert {row["kind"] for row in rows} == {
        "access.emergency",
        "access.reviewed",
        "approval.revoked",
    }
