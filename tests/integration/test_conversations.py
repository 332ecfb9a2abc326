"""A conversation over one connection: recorded byte for byte, stored once, one session."""

import base64
import http.client
import json
from collections.abc import Mapping

from support.deployment import Deployment


def converse(
    deployment: Deployment, token: str, turns: int, headers: Mapping[str, str]
) -> list[bytes]:
    """Send a conversation turn by turn over one connection and return the bodies sent."""
    connection = http.client.HTTPConnection("127.0.0.1", deployment.base_port)
    common = {"authorization": f"Bearer {token}", "content-type": "application/json", **headers}
    messages: list[str] = []
    bodies = []
    for number in range(turns):
        messages.append(f'{{ "role":"user","content": "caf\\u00e9 ☕ {number} {"word " * 300}" }}')
        text = (
            f'{{"max_tokens": 100 ,"messages":[ {" , ".join(messages)} ],\n'
            f'"system":"{"s" * 4000}" , "model":"claude-sonnet-4-5", "n":{number}}}'
        )
        bodies.append(text.encode())
        connection.request("POST", "/v1/messages", bodies[-1], common)
        answer = json.loads(connection.getresponse().read())
        messages.append(json.dumps({"role": "assistant", "content": answer["content"]}))
    connection.close()
    return bodies


def recorded(deployment: Deployment, token: str, session_id: str) -> list[bytes]:
    """Return the request bodies of a session as the record has them."""
    lines = deployment.run("sessions", "show", session_id, "--json", token=token).splitlines()
    return [base64.b64decode(json.loads(line)["request_body"]) for line in lines]


def test_a_conversation_is_kept_whole_and_stored_once(deployment: Deployment) -> None:
    token = deployment.token("lin", "eng")
    bodies = converse(deployment, token, 6, {"x-claude-code-session-id": "s-lin"})
    deployment.wait_for("select 1 from exchanges where subject = 'lin'", count=6)
    assert recorded(deployment, token, "s-lin") == bodies
    rows = deployment.sql(
        "select request_body from bodies join exchanges using (exchange_id) "
        "where subject = 'lin' order by started_at"
    )
    assert [row["request_body"].encode() for row in rows] == bodies
    (stored,) = deployment.sql(
        "select sum(c.size)::bigint as size from contents c join exchanges e using (exchange_id) "
        "where e.subject = 'lin' and c.side = 'request'"
    )
    assert len(bodies[-1]) < stored["size"] < 2 * len(bodies[-1])


def test_a_conversation_without_a_name_is_one_session(deployment: Deployment) -> None:
    token = deployment.token("noa", "eng")
    bodies = converse(deployment, token, 3, {})
    rows = deployment.wait_for(
        "select exchange_id, session_id, session_source from exchanges where subject = 'noa' "
        "order by started_at",
        count=3,
    )
    first = rows[0]["exchange_id"]
    assert [(row["session_id"], row["session_source"]) for row in rows] == [
        (None, None),
        (first, "content"),
        (first, "content"),
    ]
    assert recorded(deployment, token, first) == bodies
