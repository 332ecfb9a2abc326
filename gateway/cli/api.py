"""A client of the console's API, under the user's own token."""

import asyncio
import os
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from gateway.cli.terminal import Complaint, settings_in_force, visible


def call(method: str, path: str, body: Any = None, *, token: str | None, folder: Path) -> Any:
    """Return the JSON that the console answers.

    Raises:
        Complaint: no token, no console, or what the console says against it.
    """
    token = token or os.environ.get("COUNTERSIGN_TOKEN")
    if not token:
        raise Complaint("no token: set COUNTERSIGN_TOKEN, or give --token")
    base = os.environ.get("COUNTERSIGN_CONSOLE_URL") or settings_in_force(folder).console_url
    return asyncio.run(_call(method, base + path, body, token))


async def _call(method: str, url: str, body: Any, token: str) -> Any:
    headers = {"authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.request(method, url, json=body, headers=headers) as response,
        ):
            answer = msgspec.json.decode(await response.read())
            status = response.status
    except (aiohttp.ClientError, TimeoutError, OSError) as e:
        raise Complaint(f"the console at {url} can't be reached; is the deployment running?") from e
    except msgspec.MsgspecError as e:
        raise Complaint(f"the console at {url} gave no JSON") from e
    if status >= 400:
        raise Complaint(visible(answer.get("error", {}).get("message", status)))
    return answer
