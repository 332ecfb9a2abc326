"""curl through the whole product."""

import json
import re

import pytest
from support.deployment import Deployment

from e2e.clients import curl, question, recorded, untagged, without_ids
from gateway.demo.specimens import specimen

pytestmark = pytest.mark.e2e

DELTA = re.compile(r'"type":"text_delta","text":("(?:[^"\\\\]|\\\\.)*")')
COLUMNS = "client_name, stream, outcome, ending, status, prompt_chars, response_text"


def joined(stream: str) -> list[str]:
    """Return a stream's events with the text of its deltas in one, however it was cut."""
    text = "".join(json.loads(piece) for piece in DELTA.findall(stream))
    others = [event for event in without_ids(stream).split("\n\n") if not DELTA.search(event)]
    return [*others, text]


def test_a_plain_answer_is_the_one_that_claude_gives(
    deployment: Deployment, user: str, claude_url: str, claude_key: str
) -> None:
    body, token = question("Hello from curl."), deployment.token(user=user)
    ours, its = (
        curl(f"{url}/v1/messages", key, body)
        for url, key in ((deployment.base_url, token), (claude_url, claude_key))
    )
    assert (ours.status, without_ids(ours.text)) == (0, without_ids(its.text))
    text = json.loads(ours.text)["content"][0]["text"]
    assert recorded(deployment, user, COLUMNS) == [
        {
            "client_name": "curl",
            "stream": False,
            "outcome": "allow",
            "ending": "delivered",
            "status": 200,
            "prompt_chars": 16,
            "response_text": text,
        }
    ]


def test_a_stream_is_the_one_that_claude_gives(
    deployment: Deployment, user: str, claude_url: str, claude_key: str
) -> None:
    body, token = question("Hello from curl.", stream=True), deployment.token(user=user)
    ours, its = (
        curl(f"{url}/v1/messages", key, body, "--no-buffer")
        for url, key in ((deployment.base_url, token), (claude_url, claude_key))
    )
    assert joined(ours.text) == joined(its.text)
    assert recorded(deployment, user, "stream, outcome, ending, stop_reason") == [
        {"stream": True, "outcome": "allow", "ending": "delivered", "stop_reason": "end_turn"}
    ]


def test_a_large_body_is_continued_and_carried(deployment: Deployment, user: str) -> None:
    body = question("x" * 1_200_000)
    url, token = f"{deployment.base_url}/v1/messages", deployment.token(user=user)
    shown = curl(url, token, body, "--include")
    statuses = [line for line in shown.text.splitlines() if line.startswith("HTTP/")]
    assert statuses == ["HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"]
    assert recorded(deployment, user, "prompt_chars, ending") == [
        {"prompt_chars": 1_200_000, "ending": "delivered"}
    ]


def test_a_client_that_takes_compressed_answers_gets_them_masked(
    deployment: Deployment, user: str
) -> None:
    url, token = f"{deployment.base_url}/v1/messages", deployment.token(user=user)
    shown = curl(url, token, question("[[demo secret=github]]"), "--compressed")
    assert "[masked:github_token]" in untagged(json.loads(shown.text)["content"][0]["text"])
    assert specimen("github") not in shown.text


def test_a_wrong_token_is_turned_away(deployment: Deployment) -> None:
    url = f"{deployment.base_url}/v1/messages"
    shown = curl(url, "wrong", question("Hello."), "--include")
    head, _, body = shown.text.partition("\n\n")
    lines = head.splitlines()
    assert (lines[0], "x-should-retry: false" in lines) == ("HTTP/1.1 401 Unauthorized", True)
    assert json.loads(body)["error"]["type"] == "authentication_error"
