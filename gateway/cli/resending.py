"""A recorded request sent again through the gateway, and how its answer differs.

Sent under the caller's own token and to the gateway only; the endpoint is a wish that policy
decides about.
"""

import asyncio
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import click
import msgspec
from yarl import URL

from gateway.cli.terminal import Complaint, settings_in_force, show_table
from gateway.console.exports.transcript import read_turn
from gateway.decisions import ENDPOINT_HEADER, SESSION_HEADER
from gateway.display import visible
from gateway.messages.answers import AnswerFacts
from gateway.messages.facts import PATHS
from gateway.messages.sse import EventReader, NotEvents, Unreadable, read_json
from lake.shown import ExchangeDetail

ANSWER_S: Final = 600.0
"""For an answer to come, whole; as long as clients wait."""
LARGEST_ANSWER: Final = 64 * 1024 * 1024
LONGEST_DIFFERENCE: Final = 2_000
"""Lines of each answer that are compared: the time to compare grows with their square."""


def send_again(found: ExchangeDetail, endpoint: str, token: str, base_url: str) -> ExchangeDetail:
    """Return the exchange with the answer that its request gets now.

    Raises:
        Complaint: there is no recorded request to send, or no gateway that answers.
    """
    if found.request_body is None:
        raise Complaint("the request was not recorded, so it can't be sent again")
    if (found.method, found.path) not in PATHS:
        raise Complaint("only requests of the Messages API can be sent again")
    headers = {
        **{k: v for k, v in found.request_headers.items() if k.startswith("anthropic-")},
        "content-type": "application/json",
        "authorization": f"Bearer {token}",
        ENDPOINT_HEADER: endpoint,
        SESSION_HEADER: f"replay-{found.exchange_id}",
    }
    query = f"?{found.query}" if found.query else ""
    url = URL(base_url + found.path + query, encoded=True)
    try:
        return asyncio.run(_send(found, url, headers, found.request_body))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
        raise Complaint(f"the gateway at {base_url} gave no whole answer: {visible(e)}") from e


async def _send(
    found: ExchangeDetail, url: URL, headers: dict[str, str], body: bytes
) -> ExchangeDetail:
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, auto_decompress=True) as session,
        session.request(
            found.method, url, data=body, headers=headers, allow_redirects=False
        ) as response,
    ):
        parts, size = list[bytes](), 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > LARGEST_ANSWER:
                raise Complaint("the answer is larger than 64 MB")
        return msgspec.structs.replace(
            found,
            status=response.status,
            response_body=b"".join(parts),
            response_headers={k.lower(): v for k, v in response.headers.items()},
        )


def gateway_url(folder: Path) -> str:
    """Return where the gateway's proxy is; never what other clients call their base URL."""
    return os.environ.get("COUNTERSIGN_PROXY_URL") or settings_in_force(folder).proxy_url


def show_difference(before: ExchangeDetail, now: ExchangeDetail) -> None:
    """Print how the answer of now differs from the recorded one."""
    old, new = _facts(before), _facts(now)
    rows = [
        ("status", before.status or "", now.status or ""),
        ("model", old.model, new.model),
        ("stopped", old.stop_reason, new.stop_reason),
        ("tools", ", ".join(old.tool_calls), ", ".join(new.tool_calls)),
        ("tokens in", old.usage.input_tokens or "", new.usage.input_tokens or ""),
        ("tokens out", old.usage.output_tokens or "", new.usage.output_tokens or ""),
    ]
    show_table(("", "recorded", "now"), rows)
    lines = list(difference(before, now))
    for line in lines or ["The answers say the same."]:
        click.secho(line, fg={"+": "green", "-": "red"}.get(line[:1]))


def difference(before: ExchangeDetail, now: ExchangeDetail) -> Iterator[str]:
    """Yield the unified difference of what two answers say, made visible."""
    return difflib.unified_diff(_lines(before), _lines(now), "recorded", "now", lineterm="")


def _lines(found: ExchangeDetail) -> list[str]:
    lines = list[str]()
    for block in read_turn(found).answered:
        if block.kind != "text":
            lines.append(visible(f"[{block.kind} {block.title}]", one_line=True))
        lines += visible(block.text).split("\n")
    return lines[:LONGEST_DIFFERENCE]


def _facts(found: ExchangeDetail) -> AnswerFacts:
    """Return what an answer says about itself; nothing where it can't be read."""
    facts, body = AnswerFacts(), found.response_body or b""
    headers = found.response_headers or {}
    kind = next((v for name, v in headers.items() if name.lower() == "content-type"), "")
    try:
        if kind.startswith("text/event-stream"):
            for event in EventReader().feed(body):
                facts.read_event(event)
        else:
            message: Any = read_json(body)
            facts.read_message(message if isinstance(message, dict) else {})
    except (NotEvents, Unreadable):
        return AnswerFacts()
    return facts
