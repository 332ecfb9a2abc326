"""A call on a production repository waits for a second person."""

import re
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from support.deployment import Deployment
from support.messages import Response, ask


@pytest.fixture(scope="module")
def requester(deployment: Deployment) -> str:
    return deployment.token("rae", "eng,shop", repository="acme/shop")


@pytest.fixture(scope="module")
def lead(deployment: Deployment) -> str:
    return deployment.token("lea", "shop-leads")


def hold(deployment: Deployment, token: str, prompt: str) -> "tuple[Future[Response], str]":
    """Make a call that is held; returns it and the id of its approval."""
    known = pending(deployment, token)
    with_one = ThreadPoolExecutor(1)
    waiting = with_one.submit(ask, deployment.base_url, token, prompt)
    with_one.shutdown(wait=False)
    return waiting, wait_for_new(deployment, token, known)


def wait_for_new(deployment: Deployment, token: str, known: set[str]) -> str:
    """Return the id of an approval that was not known."""
    until = time.monotonic() + 20
    while not (new := pending(deployment, token) - known):
        assert time.monotonic() < until
        time.sleep(0.1)
    return new.pop()


def pending(deployment: Deployment, token: str) -> set[str]:
    return set(re.findall(r"appr_[0-9a-f]+", deployment.run("approvals", "list", token=token)))


def test_an_approved_call_goes_on(deployment: Deployment, requester: str, lead: str) -> None:
    waiting, approval_id = hold(deployment, requester, "please deploy")
    listed = deployment.run("approvals", "list", "--all", token=lead)
    assert approval_id in listed
    assert "please deploy" not in listed
    said = deployment.run("approvals", "approve", approval_id, "--comment", "go", token=lead)
    assert said == f"Approved: {approval_id}\n"
    assert "please deploy" in waiting.result(20).text
    (row,) = deployment.wait_for(
        "select outcome, ending, approval_id, retention_class, array_to_string(approvers, ',') a "
        "from exchanges where prompt_text = 'please deploy'"
    )
    assert row == {
        "outcome": "allow",
        "ending": "delivered",
        "approval_id": approval_id,
        "retention_class": "production",
        "a": row["a"],
    }
    assert "lea" in row["a"]
    kinds = deployment.wait_for(
        "select v.kind from events v join exchanges e using (exchange_id) where e.prompt_text = "
        "'please deploy' and v.kind like 'approval.%' order by v.occurred_at",
        count=4,
    )
    assert [kind["kind"] for kind in kinds] == [
        "approval.opened",
        "approval.verdict",
        "approval.approved",
        "approval.used",
    ]


def test_an_approval_of_one_request_covers_no_second_one(
    deployment: Deployment, requester: str, lead: str
) -> None:
    for _ in range(2):
        waiting, approval_id = hold(deployment, requester, "twice")
        deployment.run("approvals", "approve", approval_id, "--comment", "go", token=lead)
        assert "twice" in waiting.result(20).text


def test_an_approved_session_of_a_coding_agent_goes_on_until_it_is_revoked(
    deployment: Deployment, requester: str, lead: str
) -> None:
    agent = {"user-agent": "claude-cli/2.1.197 (external, cli)"}

    def ask_in(session: str, prompt: str) -> Response:
        headers = agent | {"x-claude-code-session-id": session}
        return ask(deployment.base_url, requester, prompt, headers=headers, timeout_s=30)

    known = pending(deployment, requester)
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(ask_in, "s-1", "one")
        second = callers.submit(ask_in, "s-1", "two")
        approval_id = wait_for_new(deployment, requester, known)
        said = ("--comment", "go")
        deployment.run("approvals", "approve", approval_id, *said, token=lead)
        assert [first.result().status, second.result().status] == [200, 200]
    assert pending(deployment, requester) - known == {approval_id}
    assert ask_in("s-1", "three").status == 200
    revoked = deployment.run("approvals", "revoke", approval_id, "--comment", "no", token=lead)
    assert revoked == f"Revoked: {approval_id}\n"
    time.sleep(0.6)
    with ThreadPoolExecutor(1) as callers:
        fourth = callers.submit(ask_in, "s-1", "four")
        again = wait_for_new(deployment, requester, known | {approval_id})
        deployment.run("approvals", "withdraw", again, "--comment", "x", token=requester)
        assert "approval.ended" in fourth.result().error


def test_a_denied_call_reads_why(deployment: Deployment, requester: str, lead: str) -> None:
    waiting, approval_id = hold(deployment, requester, "drop all")
    deployment.run("approvals", "deny", approval_id, "--comment", "not today", token=lead)
    answer = waiting.result(20)
    assert (answer.status, answer.headers["x-should-retry"]) == (403, "false")
    assert "approval.denied" in answer.error


@pytest.mark.parametrize(
    ("user", "groups", "why"),
    [
        pytest.param("rae", "shop-leads", "approvals.own_request", id="one's own"),
        pytest.param("eve", "eng", "approvals.not_an_approver", id="not an approver"),
    ],
)
def test_who_may_not_decide(
    deployment: Deployment, requester: str, lead: str, user: str, groups: str, why: str
) -> None:
    waiting, approval_id = hold(deployment, requester, f"by {user}")
    other = deployment.token(user, groups)
    command = ("approvals", "approve", approval_id, "--comment", "x")
    assert why in deployment.run(*command, token=other, check=False)
    deployment.run("approvals", "deny", approval_id, "--comment", "end", token=lead)
    assert waiting.result(20).status == 403


def test_those_who_write_to_production_run_directly_and_strangers_are_denied(
    deployment: Deployment,
) -> None:
    writer = deployment.token("wes", "eng,prod-writers", repository="acme/shop")
    assert ask(deployment.base_url, writer, "direct", timeout_s=10).status == 200
    stranger = deployment.token("sam", "eng", repository="acme/shop")
    assert "repositories.not_owner" in ask(deployment.base_url, stranger, "no").error


def test_a_repository_named_by_header_or_content_only_tightens(deployment: Deployment) -> None:
    token = deployment.token("sam", "eng")
    header = {"x-countersign-repository": "acme/shop"}
    named = ask(deployment.base_url, token, "hello", headers=header)
    assert (named.status, "repositories.not_owner" in named.error) == (403, True)
    content = ask(deployment.base_url, token, "see git@github.com:acme/shop.git please")
    assert (content.status, "repositories.not_owner" in content.error) == (403, True)
