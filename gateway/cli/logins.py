"""The login of this user: one file of mode 600, changed whole, by one process at a time."""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec

from gateway.cli.terminal import Complaint
from gateway.domain import NOT_JSON, Fact

LOCK_S: Final = 30.0
"""How long one process waits while another refreshes; longer than a refresh may take."""
MARGIN_S: Final = 60
"""A token that expires sooner is refreshed, so that a call made with it is still on time."""


class Login(Fact, frozen=True, kw_only=True):
    """Where this user logged in, and what they were given."""

    console_url: str
    proxy_url: str
    issuer: str
    client_id: str
    token_endpoint: str
    revocation_endpoint: str
    kind: Literal["access", "id"]
    token: str
    """What the gateway is shown."""
    expires_at: float
    """Seconds since the epoch."""
    refresh_token: str

    def lasts(self, seconds: float) -> bool:
        """Return whether the token is still good that much later."""
        return self.expires_at > time.time() + seconds


def login_folder() -> Path:
    """Return the user's configuration folder (XDG base directories)."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "countersign"


def _file() -> Path:
    return login_folder() / "login.json"


def read_login() -> Login | None:
    """Return the login, None if there is none.

    Raises:
        Complaint: others can read its file, or it can't be read.
    """
    path = _file()
    try:
        if path.stat().st_mode & 0o077:
            raise Complaint(f"{path} can be read by others; log in again after: chmod 600 {path}")
        return msgspec.json.decode(path.read_bytes(), type=Login)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise Complaint(f"{path} can't be read: {e.strerror}") from e
    except NOT_JSON as e:
        raise Complaint(f"{path} is damaged; log in again") from e


def valid_login() -> Login | None:
    """Return the login with a token that is still good, refreshed if it takes that.

    While the issuer can't be asked, a token serves until it really expires.

    Raises:
        Complaint: it has expired and no fresh one is to be had.
    """
    login = read_login()
    if login is None or login.lasts(MARGIN_S):
        return login
    from gateway.cli import oauth  # most calls need no issuer, and it takes long to load

    with changing_login():
        login = read_login()
        if login is None or login.lasts(MARGIN_S):
            return login
        try:
            login = oauth.refresh(login)
        except Complaint:
            if not login.lasts(0):
                raise
        else:
            write_login(login)
        return login


def write_login(login: Login) -> None:
    """Keep a login in place of the one before; after a crash there is one of the two."""
    path = _file()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(login))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def remove_login() -> None:
    """Forget the login."""
    _file().unlink(missing_ok=True)


@contextmanager
def changing_login() -> Iterator[None]:
    """Be the one process that changes the login; a refresh token may be good only once.

    Raises:
        Complaint: another process does not come to an end.
    """
    folder = login_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "login.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    until = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            if time.monotonic() > until:
                raise Complaint("another countersign is changing the login; try again") from e
            time.sleep(0.05)
        else:
            return
