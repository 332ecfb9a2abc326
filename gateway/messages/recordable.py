"""The request as it may be recorded: byte for byte, but for bearer tokens of MCP servers."""

import json

import msgspec

_TOKEN = "authorization_token"  # noqa: S105 - the name of a field


def make_recordable(body: bytes) -> bytes:
    """Return `body` without the MCP servers' bearer tokens, which are never written anywhere."""
    if _TOKEN.encode() not in body and b"\\u" not in body:
        return body
    value = json.loads(body) if body else {}
    servers = value.get("mcp_servers")
    found = [
        server
        for server in (servers if isinstance(servers, list) else ())
        if isinstance(server, dict) and _TOKEN in server
    ]
    for server in found:
        server[_TOKEN] = "[masked:mcp_authorization_token]"
    return msgspec.json.encode(value) if found else body
