"""The request as it may be recorded: byte for byte, but for bearer tokens of MCP servers."""

import json
from typing import Any

_TOKEN = "authorization_token"  # noqa: S105 - the name of a field


def make_recordable(body: bytes, value: dict[str, Any]) -> bytes:
    """Return `body`, which parses to `value`, without the MCP servers' bearer tokens.

    These are never written anywhere.
    """
    servers = value.get("mcp_servers")
    if not isinstance(servers, list) or not any(_has_token(server) for server in servers):
        return body
    kept = [
        server | {_TOKEN: "[masked:mcp_authorization_token]"} if _has_token(server) else server
        for server in servers
    ]
    return json.dumps(value | {"mcp_servers": kept}, ensure_ascii=False).encode()


def _has_token(server: Any) -> bool:
    return isinstance(server, dict) and _TOKEN in server
