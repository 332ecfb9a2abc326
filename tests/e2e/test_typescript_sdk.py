"""The TypeScript SDK through the whole product."""

import json

import pytest
from support.deployment import Deployment

from e2e.clients import NOTICE, all_recorded, recorded, typescript, untagged

pytestmark = pytest.mark.e2e

both_ways = pytest.mark.parametrize("how", ["plain", "stream"])


@both_ways
def test_an_answer_comes_masked(how: str, deployment: Deployment, user: str) -> None:
    prompt = "[[demo secret=aws]]"
    shown = typescript(deployment.base_url, deployment.token(user=user), how, prompt)
    told = f"{NOTICE} The access key id is [masked:aws_access_key], rotate it soon."
    assert json.loads(untagged(shown.text)) == [{"type": "text", "text": told}]
    assert recorded(deployment, user, "client_name, stream, ending, prompt_text") == [
        {
            "client_name": "Anthropic/JS",
            "stream": how == "stream",
            "ending": "delivered",
            "prompt_text": prompt,
        }
    ]


@both_ways
def test_a_denial_is_thrown_after_one_request(how: str, deployment: Deployment, user: str) -> None:
    token = deployment.token(user=user, groups="payments")
    shown = typescript(deployment.base_url, token, how, "Hello.")
    assert json.loads(shown.text) == {
        "class": "PermissionDeniedError",
        "status": 403,
        "type": "permission_error",
    }
    assert all_recorded(deployment, user, "outcome, ending, status") == [
        {"outcome": "deny", "ending": "refused", "status": 403}
    ]
