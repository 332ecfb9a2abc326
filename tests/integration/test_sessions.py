"""Sessions for auditors, through the console's API and the command line."""

import base64
import json
import stat
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlencode

import fastjsonschema
import pytest
from support.deployment import Deployment
from support.messages import Response, ask

from gateway.console.api import Console

ALL = "scope=all"


@pytest.fixture(scope="module")
def said(deployment: Deployment) -> dict[str, str]:
    """Calls of `nia` and one of `oli`; returns their exchanges' ids by what they asked."""
    nia = {"x-claude-code-session-id": "s-nia"}
    token = deployment.token("nia", "eng")
    other = deployment.token("oli", "research")
    ask(deployment.base_url, token, "Describe the Harbour crane", headers=nia)
    ask(deployment.base_url, token, "[[demo secret=aws]] harbour", headers=nia, stream=True)
    ask(deployment.base_url, token, "harbour again", model="claude-mythos-1", headers=nia)
    ask(deployment.base_url, other, "harbour elsewhere", model="claude-mythos-1")
    rows = deployment.wait_for(
        "select exchange_id, prompt_text from exchanges where subject in ('nia', 'oli')", count=4
    )
    return {row["prompt_text"]: row["exchange_id"] for row in rows}


@pytest.fixture(scope="module")
def nia(deployment: Deployment) -> str:
    return deployment.token("nia", "eng")


@pytest.fixture(scope="module")
def ada(deployment: Deployment) -> str:
    return deployment.token("ada", "auditors")


@pytest.fixture(scope="module")
def document(deployment: Deployment) -> dict[str, Any]:
    """The OpenAPI document."""
    return dict(get(deployment, "/api/v1/openapi.json").json)


def get(deployment: Deployment, path: str, token: str = "") -> Response:
    """Return what the console answers."""
    request = urllib.request.Request(
        deployment.console_url + path, headers={"authorization": f"Bearer {token}"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return Response(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as e:
        return Response(e.code, dict(e.headers), e.read())


def found(deployment: Deployment, token: str, **query: str) -> list[str]:
    """Return the prompts or answers that a search finds."""
    answer = get(deployment, f"/api/v1/exchanges?{urlencode(query)}", token)
    assert answer.status == 200, answer.error
    return [hit["exchange_id"] for hit in answer.json["exchanges"]]


def test_each_filter_finds_what_it_says(
    deployment: Deployment, said: dict[str, str], ada: str
) -> None:
    crane, secret = said["Describe the Harbour crane"], said["[[demo secret=aws]] harbour"]
    denied, other = said["harbour again"], said["harbour elsewhere"]
    expected = {
        ("person", "nia"): [denied, secret, crane],
        ("group", "research"): [other],
        ("model", "claude-mythos-1"): [other, denied],
        ("outcome", "deny"): [denied],
        ("reason", "models.not_granted"): [denied],
        ("mask", "aws_access_key"): [secret],
        ("ending", "refused"): [denied],
        ("until", "1h"): [],
        ("tool", "Bash"): [],
    }
    expected["endpoint", "claude"] = [other, denied, secret, crane]
    for (name, value), ids in expected.items():
        seen = found(deployment, ada, scope="all", text="HARBOUR", since="1h", **{name: value})
        assert [each for each in seen if each in said.values()] == ids, name


def test_people_find_their_own_only(deployment: Deployment, said: dict[str, str], nia: str) -> None:
    own = found(deployment, nia, text="harbour")
    assert said["harbour elsewhere"] not in own
    assert len(own) == 3
    for path in ("sessions", "exchanges"):
        assert get(deployment, f"/api/v1/{path}?{ALL}", nia).status == 403
    other = said["harbour elsewhere"]
    for path in (
        f"exchanges/{other}",
        f"exchanges/{other}/replay",
        f"sessions/{other}/export?subject=oli",
    ):
        answer = get(deployment, f"/api/v1/{path}", nia)
        assert "sessions.not_granted" in answer.error


def test_pages_lead_on_and_a_cursor_of_another_filter_is_refused(
    deployment: Deployment, said: dict[str, str], nia: str
) -> None:
    whole, query = found(deployment, nia, text="harbour"), {"text": "harbour", "limit": "1"}
    paged, cursors = list[str](), list[str]()
    while True:
        page = get(deployment, f"/api/v1/exchanges?{urlencode(query)}", nia).json
        paged += [hit["exchange_id"] for hit in page["exchanges"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
        cursors.append(page["next"])
    assert paged == whole
    for changed in ({"text": "crane"}, {"text": "harbour", "outcome": "deny"}):
        refused = get(
            deployment, f"/api/v1/exchanges?{urlencode(changed | {'after': cursors[0]})}", nia
        )
        assert refused.status == 400


@pytest.mark.parametrize(
    "query",
    [
        "outcom=deny",
        "outcome=deny&outcome=allow",
        "person=",
        "limit=0",
        "limit=501",
        "limit=x",
        "since=tomorrow",
        "since=2026-01-01T00:00:00",
        "scope=mine",
        "after=x",
        f"text={'x' * 1001}",
    ],
)
def test_a_query_that_cannot_be_read_is_refused(
    deployment: Deployment, nia: str, query: str
) -> None:
    for path in ("sessions", "exchanges"):
        assert get(deployment, f"/api/v1/{path}?{query}", nia).status == 400


def test_the_command_line_finds_shows_and_replays(
    deployment: Deployment, said: dict[str, str], nia: str, ada: str
) -> None:
    crane = said["Describe the Harbour crane"]
    hits = deployment.run("sessions", "search", "harbour CRANE", token=nia)
    assert crane in hits
    assert "session s-nia" in hits
    assert "prompt: Describe the Harbour crane" in hits
    listed = deployment.run("sessions", "list", "--outcome", "deny", "--json", token=nia)
    (session,) = [json.loads(line) for line in listed.splitlines()]
    assert (session["session_id"], session["exchanges"]) == ("s-nia", 1)
    assert "Describe the Harbour crane" in deployment.run("sessions", "show", crane, token=ada)
    shown = deployment.run("sessions", "show", "s-nia", token=nia)
    assert "masked    aws_access_key" in shown
    assert "models.not_granted" in shown
    replayed = deployment.run("sessions", "replay", "s-nia", "--speed", "0", token=nia)
    assert "[masked:aws_access_key#" in replayed
    assert "[no answer to replay; None of your groups grants the model" in replayed
    raw = deployment.run(
        "sessions",
        "replay",
        said["[[demo secret=aws]] harbour"],
        "--raw",
        "--speed",
        "50",
        token=ada,
    )
    assert "event: message_stop" in raw
    assert "No such exchanges" in deployment.run("sessions", "search", "zeppelin", token=nia)


def test_a_request_is_sent_again_to_an_endpoint_that_policy_grants(
    deployment: Deployment, said: dict[str, str]
) -> None:
    crane, secret = said["Describe the Harbour crane"], said["[[demo secret=aws]] harbour"]
    auditor = deployment.token("ivo", "auditors,eng")
    same = deployment.run("sessions", "replay", "--against", "claude", crane, token=auditor)
    assert "The answers say the same." in same
    assert "status 200 200" in " ".join(same.split())
    (row,) = deployment.wait_for(
        f"select subject, session_id, endpoint from exchanges where session_id = 'replay-{crane}'"
    )
    assert (row["subject"], row["endpoint"]) == ("ivo", "claude")
    only_auditor = deployment.token("ivo", "auditors")
    refused = deployment.run(
        "sessions", "replay", "--against", "claude", secret, token=only_auditor
    )
    assert "models.not_granted" in refused
    assert "--- recorded\n+++ now" in refused
    elsewhere = deployment.run("sessions", "replay", "--against", "spare", crane, token=auditor)
    assert "endpoint.not_granted" in elsewhere
    session = deployment.run(
        "sessions", "replay", "--against", "claude", "s-nia", token=auditor, check=False
    )
    assert "one exchange" in session


def test_a_session_is_exported_whole(
    deployment: Deployment, said: dict[str, str], ada: str
) -> None:
    (row,) = deployment.sql("select distinct issuer from exchanges where subject = 'nia'")
    owner = ("--issuer", row["issuer"], "--subject", "nia")
    target, text = deployment.folder / "export.json", ""
    for form, mark in (("html", "<!doctype html>"), ("markdown", "# Session s"), ("json", "{")):
        command = ("sessions", "export", "s-nia", "--format", form, *owner)
        assert "Written" in deployment.run(*command, "--output", str(target), token=ada)
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        text = target.read_text()
        assert text.startswith(mark)
        assert deployment.run(*command, token=ada)[:20] == text[:20]
    value = json.loads(text)
    assert value["count"] == 3
    assert value["exchanges"][0]["request"]["messages"][0]["content"] == (
        "Describe the Harbour crane"
    )
    body = base64.b64decode(value["exchanges"][0]["request_body"])
    assert json.loads(body) == value["exchanges"][0]["request"]
    refused = deployment.run("sessions", "export", "s-none", token=ada, check=False)
    assert "no such session" in refused


def test_an_exported_page_is_served_as_a_file_that_may_do_nothing(
    deployment: Deployment, said: dict[str, str], nia: str
) -> None:
    answer = get(deployment, "/api/v1/sessions/s-nia/export?format=html", nia)
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


def test_every_act_leaves_an_event_with_its_filter_and_without_content(
    deployment: Deployment, said: dict[str, str]
) -> None:
    token = deployment.token("eva", "auditors")
    crane = said["Describe the Harbour crane"]
    session = "s-nia?" + urlencode({"subject": "nia"})
    paths = {
        "records.listed": f"sessions?{ALL}&person=nia",
        "records.searched": f"exchanges?{ALL}&text=hunter2",
        "records.read": f"exchanges/{crane}",
        "records.replayed": f"exchanges/{crane}/replay",
        "records.exported": "sessions/s-nia/export?format=json&subject=nia",
    }
    for path in paths.values():
        assert get(deployment, f"/api/v1/{path}", token).status == 200
    assert get(deployment, f"/api/v1/sessions/{session}", token).status == 200
    rows = deployment.wait_for(
        "select kind, exchange_id, session_id, detail_json from events where subject = 'eva'",
        count=len(paths) + 1,
    )
    assert {row["kind"] for row in rows} == set(paths)
    details = {row["kind"]: json.loads(row["detail_json"]) for row in rows}
    assert details["records.listed"] == {"scope": "all", "person": "nia", "count": "1"}
    assert details["records.searched"] == {"scope": "all", "text": "7 characters", "count": "0"}
    assert details["records.exported"] == {"format": "json"}
    assert "hunter2" not in json.dumps(rows)


# --- the document ---------------------------------------------------------------------------------


def test_every_route_is_in_the_document(document: dict[str, Any]) -> None:
    nothing: dict[str, Any] = dict.fromkeys(Console.__dataclass_fields__, None)
    routes = Console(**nothing).build_app().router.routes()
    served = {(r.method.lower(), r.resource.canonical) for r in routes if r.resource}
    described = {(method, path) for path, item in document["paths"].items() for method in item}
    assert {(method, path) for method, path in served if method != "head"} == described
    ids = [each["operationId"] for item in document["paths"].values() for each in item.values()]
    assert len(set(ids)) == len(ids)


def test_every_answer_is_as_the_document_says(
    deployment: Deployment, said: dict[str, str], document: dict[str, Any], nia: str
) -> None:
    crane = said["Describe the Harbour crane"]
    calls = {
        "/healthz": "/healthz",
        "/.well-known/countersign": "/.well-known/countersign",
        "/api/v1/whoami": "/api/v1/whoami",
        "/api/v1/openapi.json": "/api/v1/openapi.json",
        "/api/v1/sessions": "/api/v1/sessions?limit=1",
        "/api/v1/sessions/{session_id}": "/api/v1/sessions/s-nia",
        "/api/v1/exchanges": "/api/v1/exchanges?text=harbour",
        "/api/v1/exchanges/{exchange_id}": f"/api/v1/exchanges/{crane}",
        "/api/v1/exchanges/{exchange_id}/replay": f"/api/v1/exchanges/{crane}/replay",
        "/api/v1/approvals": "/api/v1/approvals",
        "/api/v1/approvals/{approval_id}": "/api/v1/approvals/none",
    }
    assert {path for path, item in document["paths"].items() if "get" in item} == (
        calls.keys() | {"/api/v1/sessions/{session_id}/export"}
    )
    for path, call in calls.items():
        answer = get(deployment, call, nia)
        described = document["paths"][path]["get"]["responses"][str(answer.status)]
        schema = described["content"]["application/json"]["schema"]
        whole = {**schema, "components": document["components"]}
        fastjsonschema.compile(whole)(answer.json)


def test_errors_are_as_the_document_says(
    deployment: Deployment, document: dict[str, Any], nia: str
) -> None:
    for path, status in (
        (f"/api/v1/sessions?{ALL}", 403),
        ("/api/v1/sessions?x=1", 400),
        ("/api/v1/sessions/none", 404),
        (f"/api/v1/sessions/{quote('none/x', safe='')}", 404),
    ):
        answer = get(deployment, path, nia)
        assert answer.status == status
        schema = {"$ref": "#/components/schemas/ErrorAnswer", "components": document["components"]}
        fastjsonschema.compile(schema)(answer.json)
