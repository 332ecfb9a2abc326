"""A person's login on their own machine: kept private, used only where it was made for."""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import requests

from gateway.cli import oauth
from gateway.cli.api import token_of
from gateway.cli.callback import Callback
from gateway.cli.login import prepare
from gateway.cli.logins import Login, changing_login, read_login, valid_login, write_login
from gateway.cli.terminal import Complaint

LOGIN = Login(
    console_url="https://console.test",
    proxy_url="https://gateway.test",
    issuer="https://idp.test",
    client_id="cli",
    token_endpoint="https://idp.test/token",
    revocation_endpoint="",
    kind="access",
    token="old",
    expires_at=0,
    refresh_token="r1",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("COUNTERSIGN_TOKEN", "COUNTERSIGN_CONSOLE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "countersign"


def keep(lasts_s: float) -> Login:
    login = msgspec.structs.replace(LOGIN, expires_at=time.time() + lasts_s)
    with changing_login():
        write_login(login)
    return login


def answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[Login], Login]) -> list[Login]:
    asked = list[Login]()

    def refresh(login: Login) -> Login:
        asked.append(login)
        return answer(login)

    monkeypatch.setattr(oauth, "refresh", refresh)
    return asked


def fail(_: Login) -> Login:
    raise Complaint("away")


def renew(login: Login) -> Login:
    return msgspec.structs.replace(
        login, token="new", refresh_token="r2", expires_at=time.time() + 300
    )


def test_a_login_is_kept_for_its_owner_alone(home: Path) -> None:
    login = keep(300)
    assert read_login() == login
    assert (home.stat().st_mode & 0o777, (home / "login.json").stat().st_mode & 0o777) == (
        0o700,
        0o600,
    )
    (home / "login.json").chmod(0o640)
    with pytest.raises(Complaint, match="read by others"):
        read_login()


def test_a_damaged_login_is_said(home: Path) -> None:
    keep(300)
    (home / "login.json").write_text("{")
    with pytest.raises(Complaint, match="damaged"):
        read_login()


def test_a_good_token_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, renew)
    login = keep(300)
    assert (valid_login(), asked) == (login, [])


def test_a_token_about_to_expire_is_refreshed_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, renew)
    login = keep(30)
    found = valid_login()
    assert (found, asked) == (read_login(), [login])
    assert found is not None
    assert (found.token, found.refresh_token) == ("new", "r2")


def test_without_the_issuer_a_token_serves_until_it_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, fail)
    assert valid_login() is None
    login = keep(30)
    assert valid_login() == login
    keep(-1)
    with pytest.raises(Complaint, match="away"):
        valid_login()


def test_two_at_once_refresh_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, renew)
    keep(0)
    with changing_login():
        threads = [threading.Thread(target=valid_login) for _ in range(3)]
        for each in threads:
            each.start()
    for each in threads:
        each.join(timeout=20)
    assert len(asked) == 1


def test_the_token_of_a_login_goes_to_no_other_console(monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.cli.api import _console

    keep(300)
    assert token_of(None) == "old"
    assert _console(None, Path("none")) == ("https://console.test", "old")
    monkeypatch.setenv("COUNTERSIGN_CONSOLE_URL", "https://other.test")
    with pytest.raises(Complaint, match=r"is for https://console\.test"):
        _console(None, Path("none"))


def test_only_the_answer_with_the_right_state_is_taken() -> None:
    with Callback(0, "right") as callback:
        for query in ("?state=wrong&code=1", "?code=1", "?state=right&state=wrong&code=1", ""):
            assert requests.get(callback.url + query, timeout=5).status_code == 400
        right = callback.url + "?code=2&state=right"
        assert requests.get(right.replace("/callback", "/other"), timeout=5).status_code == 400
        with pytest.raises(TimeoutError):
            callback.wait(0.01)
        assert requests.get(right, timeout=5).status_code == 200
        assert callback.wait(5) == right


@pytest.mark.parametrize(
    "url", ["http://idp.test", "ftp://127.0.0.1", "http://127.0.0.1.test", "http://10.0.0.1"]
)
def test_nobody_is_asked_where_others_could_read_along(url: str) -> None:
    with pytest.raises(Complaint, match="is not https"):
        oauth.discover(url)


def test_claude_code_gets_a_helper_and_no_token() -> None:
    environment = {"PATH": "/bin", "ANTHROPIC_API_KEY": "sk", "ANTHROPIC_AUTH_TOKEN": "other"}
    arguments, given = prepare(["claude", "-p", "Hello"], LOGIN, environment)
    helper = f"{sys.executable} -m gateway token"
    assert arguments == [
        "claude",
        "--settings",
        json.dumps({"apiKeyHelper": helper}),
        "-p",
        "Hello",
    ]
    assert given == {"PATH": "/bin", "ANTHROPIC_BASE_URL": "https://gateway.test"}
    with pytest.raises(Complaint, match="--settings of your own"):
        prepare(["claude", "--settings=mine.json"], LOGIN, environment)


def test_other_programs_get_the_token() -> None:
    assert prepare(["curl", "x"], LOGIN, {"ANTHROPIC_API_KEY": "sk"}) == (
        ["curl", "x"],
        {"ANTHROPIC_BASE_URL": "https://gateway.test", "ANTHROPIC_AUTH_TOKEN": "old"},
    )
