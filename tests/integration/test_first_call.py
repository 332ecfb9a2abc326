"""The main job: a call through everything, and its record in the table."""

import json
import urllib.request

from support.deployment import Deployment


def test_a_call_is_answered_and_recorded(deployment: Deployment) -> None:
    body = {"model": "claude-sonnet-4-5", "max_tokens": 50}
    body["messages"] = [{"role": "user", "content": "Hello, first call"}]
    request = urllib.request.Request(
        f"{deployment.base_url}/v1/messages",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {deployment.token()}"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer = json.loads(response.read())
    assert "Hello, first call" in answer["content"][0]["text"]
    where = "prompt_text = 'Hello, first call'"
    rows = deployment.wait_for(
        f"select outcome, ending, status, subject, request_model from exchanges where {where}"
    )
    assert rows == [
        {
            "outcome": "allow",
            "ending": "delivered",
            "status": 200,
            "subject": "dev",
            "request_model": "claude-sonnet-4-5",
        }
    ]
