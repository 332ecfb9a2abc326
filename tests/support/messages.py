"""Calls to a deployment with nothing but the standard library."""

import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple


class Response(NamedTuple):
    """What a caller got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The text of a message."""
        return "".join(block.get("text", "") for block in self.json["content"])

    @property
    def error(self) -> str:
        """The sentence of an error."""
        return str(self.json["error"]["message"])


def ask(base_url: str, token: str, prompt: str, **fields: Any) -> Response:
    """Send one user turn and return the answer, whatever its status."""
    headers = fields.pop("headers", {})
    timeout_s = fields.pop("timeout_s", 30)
    body = {"model": "claude-sonnet-4-5", "max_tokens": 200, **fields}
    body["messages"] = [{"role": "user", "content": prompt}]
    request = urllib.request.Request(
        f"{base_url}/v1/messages",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json", **headers},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return Response(response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as e:
        return Response(e.code, dict(e.headers), e.read())
