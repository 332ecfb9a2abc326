"""A client of the console's API, under the user's own token."""

import asyncio
import os
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import msgspec

from gateway.cli.logins import Login, valid_login
from gateway.cli.terminal import Complaint, settings_in_force, visible


class NotThere(Complaint):
    """What was asked for is not there."""


def call(method: str, path: str, body: Any = None, *, token: str | None, folder: Path) -> Any:
    """Return the JSON that the console answers.

    Raises:
        NotThere: the console has no such thing.
        Complaint: no token, no console, or what the console says against it.
    """
    base, token = _console(token, folder)
    return asyncio.run(_call(method, base + path, body, token))


def download(path: str, file: BinaryIO, *, token: str | None, folder: Path) -> None:
    """Write a document that the console answers into a file, part by part.

    Raises:
        Complaint: no token, no console, what it says against it, or the document was cut off.
    """
    base, token = _console(token, folder)
    asyncio.run(_download(base + path, file, token))


def token_of(token: str | None) -> str:
    """Return the user's token: as given, from the environment, or of their login."""
    if token := token or os.environ.get("COUNTERSIGN_TOKEN"):
        return token
    return _login().token


def _console(token: str | None, folder: Path) -> tuple[str, str]:
    """Return the console to ask and the token to ask it with.

    The token of a login goes nowhere but to the console that it was made for.
    """
    asked = os.environ.get("COUNTERSIGN_CONSOLE_URL")
    if token := token or os.environ.get("COUNTERSIGN_TOKEN"):
        return asked or settings_in_force(folder).console_url, token
    login = _login()
    if asked not in {None, "", login.console_url}:
        raise Complaint(f"the login is for {login.console_url}; log in again for {asked}")
    return login.console_url, login.token


def _login() -> Login:
    login = valid_login()
    if login is None:
        raise Complaint("no token: run countersign login, set COUNTERSIGN_TOKEN, or give --token")
    return login


async def _download(url: str, file: BinaryIO, token: str) -> None:
    timeout = aiohttp.ClientTimeout(total=None, connect=30, sock_read=30)
    headers = {"authorization": f"Bearer {token}"}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers) as response,
        ):
            if response.status >= 400:
                raise Complaint(_told(msgspec.json.decode(await response.read()), response.status))
            async for part in response.content.iter_any():
                file.write(part)
    except (aiohttp.ClientError, TimeoutError) as e:
        raise Complaint("the console broke off; the document is not whole") from e
    except msgspec.MsgspecError as e:
        raise Complaint("the console gave no JSON") from e


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
    if status == 404:
        raise NotThere(_told(answer, status))
    if status >= 400:
        raise Complaint(_told(answer, status))
    return answer


def _told(answer: Any, status: int) -> str:
    """Return what the console says against it."""
    return visible(answer.get("error", {}).get("message", status))
