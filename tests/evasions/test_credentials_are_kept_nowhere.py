"""Credentials of callers and in requests: in no file, in no table, never sent upstream."""

import gzip
import zlib
from functools import partial
from pathlib import Path

import pytest
from support.deployment import Deployment

from evasions.calls import (
    CALL_S,
    Reply,
    Told,
    encode,
    fetch_records,
    prompt,
    read_told,
    request,
    send,
    send_all,
    token_for,
)

AGENT = "credential-evasion"
MCP_TOKEN = "mcp-secret-" + "q8Zt" * 6
MCP_SERVER = {
    "type": "url",
    "url": "https://mcp.payments.test/",
    "name": "m",
    "authorization_token": MCP_TOKEN,
}
HELD_S = 1.0
"""After which a caller that is held gives up."""


@pytest.fixture(scope="module")
def token(deployment: Deployment) -> str:
    return token_for(deployment, "carol")


@pytest.fixture(scope="module")
def replies(deployment: Deployment, token: str) -> dict[str, Reply]:
    granted = token_for(deployment, "pay", ("eng", "payments"))
    good = encode(prompt())
    calls = {
        "an MCP server nobody granted": (encode(prompt(mcp_servers=[MCP_SERVER])), (), token),
        "an MCP server that is granted, but held": (
            encode(prompt(mcp_servers=[MCP_SERVER])),
            (),
            granted,
        ),
        "an MCP server in a bad body": (
            encode(prompt(mcp_servers=[MCP_SERVER], model=5)),
            (),
            token,
        ),
        "a token as api key": (good, (f"x-api-key: {token}",), ""),
        "a token in both headers": (good, (f"x-api-key: {token}",), token),
        "a cookie and a proxy's password": (
            good,
            (f"cookie: a={token}", f"proxy-authorization: Bearer {token}"),
            token,
        ),
        "a header named by connection": (good, ("connection: x-hop", f"x-hop: {token}"), token),
    }
    return send_all(
        {
            name: partial(
                send,
                deployment,
                request(body, *headers, token=caller, agent=f"{AGENT}/{number}"),
                timeout_s=HELD_S if "held" in name else CALL_S,
            )
            for number, (name, (body, headers, caller)) in enumerate(calls.items())
        }
    )


@pytest.fixture(scope="module")
def recorded(deployment: Deployment, replies: dict[str, Reply]) -> list[str]:
    """The outcomes of the calls, in their order, once all are in the tables."""
    agents = [f"{AGENT}/{number}" for number in range(len(replies))]
    records = fetch_records(deployment, agents, "outcome")
    return [records[agent]["outcome"] for agent in agents]


def test_a_bearer_token_for_an_mcp_server_nobody_granted_is_refused(
    replies: dict[str, Reply],
) -> None:
    assert read_told(replies["an MCP server nobody granted"]) == Told(
        status=403, kind="permission_error", code="mcp.not_granted"
    )


def test_the_claude_server_gets_its_own_credential_and_no_other(
    replies: dict[str, Reply],
) -> None:
    forwarded = [name for name in replies if "MCP" not in name]
    assert {name: replies[name].status for name in forwarded} == dict.fromkeys(forwarded, 200)


def test_each_call_is_recorded(recorded: list[str]) -> None:
    assert recorded == ["deny", "hold", "undecided", *["allow"] * 4]


def test_no_credential_is_in_any_file(
    deployment: Deployment, token: str, recorded: list[str]
) -> None:
    secrets = (MCP_TOKEN.encode(), token.encode(), token.rpartition(".")[2].encode())
    found = {
        str(path.relative_to(deployment.folder))
        for path in deployment.folder.rglob("*")
        if path.is_file() and _holds(path, secrets)
    }
    assert found == set()


def test_no_credential_is_in_any_table(
    deployment: Deployment, token: str, recorded: list[str]
) -> None:
    signature = token.rpartition(".")[2]
    texts = {
        "exchanges": "to_json(exchanges)::varchar",
        "contents": "decode(data)",
        "events": "to_json(events)::varchar",
    }
    counts = [
        f"select '{table}' as name from {table} "
        f"where contains({text}, '{MCP_TOKEN}') or contains({text}, '{signature}')"
        for table, text in texts.items()
    ]
    assert deployment.sql(" union all ".join(counts)) == []


def test_the_search_in_files_finds_what_is_there(tmp_path: Path) -> None:
    for name, data in (("plain", b"a secret b"), ("zipped", gzip.compress(b"a secret b"))):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "other").write_bytes(zlib.compress(b"nothing"))
    found = {path.name for path in tmp_path.iterdir() if _holds(path, (b"secret",))}
    assert found == {"plain", "zipped"}


def _holds(path: Path, secrets: tuple[bytes, ...]) -> bool:
    """Whether a file holds one of the secrets, also where it is a gzip file as a whole.

    Parquet pages are compressed one by one: what is in them is asked by SQL.
    """
    if path.is_socket():
        return False
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # the recorder may remove one meanwhile
        return False
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    return any(secret in data for secret in secrets)
