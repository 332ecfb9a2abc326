"""People log in at a real identity provider, and their token gets them through the gateway."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from support.deployment import COUNTERSIGN, ROOT, Deployment

from idp.keycloak import PASSWORD, fill_forms

ADA = {"username": "ada", "password": PASSWORD, "accept": "Yes"}
MODEL = "claude-sonnet-4-5"


@pytest.fixture
def log_in(company: Deployment, home: Path) -> Callable[..., None]:
    """Return what logs Ada in with `countersign login` and the options that it is given."""

    def run(*options: str) -> None:
        command = [*COUNTERSIGN, "login", "--console", company.console_url, *options]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            said = list[str]()
            watchdog = threading.Timer(40, process.kill)
            watchdog.start()
            try:
                assert process.stderr is not None
                said += [process.stderr.readline(), process.stderr.readline()]
                assert said[1].startswith("http"), said
                fill_forms(said[1].strip(), ADA)
                said += process.stderr.readlines()
            except BaseException:
                process.kill()
                raise
            finally:
                watchdog.cancel()
        assert process.returncode == 0, said
        assert said[-1].startswith("You are logged in.")

    return run


@pytest.fixture
def ada(log_in: Callable[..., None]) -> None:
    log_in("--no-browser")


def ask(company: Deployment, token: str) -> requests.Response:
    return requests.post(
        f"{company.base_url}/v1/messages",
        headers={"authorization": f"Bearer {token}", "user-agent": "idp-test/1"},
        json={
            "model": MODEL,
            "max_tokens": 50,
            "messages": [{"role": "user", "content": "Hello from the login"}],
        },
        timeout=30,
    )


def change_login(home: Path, **changes: Any) -> None:
    file = home / "login.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    "options",
    [pytest.param(["--no-browser"], id="browser"), pytest.param(["--device"], id="device")],
)
def test_who_logs_in_gets_through_the_gateway_with_their_groups(
    company: Deployment, log_in: Callable[..., None], home: Path, options: list[str]
) -> None:
    log_in(*options)
    assert (home / "login.json").stat().st_mode & 0o777 == 0o600
    token = company.run("token").strip()
    answer = ask(company, token)
    assert (answer.status_code, answer.json()["type"]) == (200, "message")
    shown = company.run("whoami", "--model", MODEL, "--repository", "acme/shop")
    assert re.search(r"person +ada@acme\.test *\n", shown)
    assert re.search(r"groups +(?=.*\beng\b)(?=.*\bshop\b)", shown)
    assert re.search(rf"messages +{MODEL} +waits for approval +one of shop-leads must agree", shown)


def test_the_call_of_who_logged_in_is_recorded_under_their_person(
    company: Deployment, ada: None
) -> None:
    assert ask(company, company.run("token").strip()).status_code == 200
    query = "select distinct person from exchanges where user_agent = 'idp-test/1'"
    assert company.wait_for(query) == [{"person": "ada@acme.test"}]


def test_a_token_about_to_expire_is_refreshed_once_however_many_ask(
    company: Deployment, ada: None, home: Path
) -> None:
    first = company.run("token")
    assert company.run("token") == first
    change_login(home, expires_at=time.time() + 10)
    with ThreadPoolExecutor(4) as pool:
        tokens = set(pool.map(lambda _: company.run("token"), range(4)))
    assert len(tokens) == 1
    assert tokens != {first}
    assert ask(company, tokens.pop().strip()).status_code == 200


def test_a_login_that_was_ended_gives_no_token(company: Deployment, ada: None, home: Path) -> None:
    kept = (home / "login.json").read_text()
    assert company.run("logout") == "You are logged out.\n"
    assert not (home / "login.json").exists()
    (home / "login.json").touch(mode=0o600)
    (home / "login.json").write_text(kept)
    change_login(home, expires_at=0)
    said = company.run("token", check=False)
    assert said.startswith("countersign: the identity provider refused: invalid_grant")


def test_a_command_runs_against_the_gateway(company: Deployment, ada: None) -> None:
    token = company.run("token").strip()
    printed = company.run("exec", "--", "env").splitlines()
    assert f"ANTHROPIC_BASE_URL={company.base_url}" in printed
    assert f"ANTHROPIC_AUTH_TOKEN={token}" in printed


def test_a_wrong_password_logs_nobody_in(company: Deployment, home: Path) -> None:
    command = [*COUNTERSIGN, "login", "--console", company.console_url, "--no-browser"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        url = process.stderr.readline().strip()
        page = fill_forms(url, ADA | {"password": "wrong"}, most=1)
        assert "Invalid username or password" in page
        assert process.poll() is None
        process.kill()
    assert not (home / "login.json").exists()
