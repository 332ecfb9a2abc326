"""A Keycloak of the tests' own, on loopback: its process, its people, its keys, its forms."""

import html
import os
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, OpenerDirector, ProxyHandler, build_opener

import requests

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".tools" / "keycloak-26.7.3"
REALM = Path(__file__).with_name("realm.json")
PASSWORD = "of-this-test-alone"
START_S = 120.0
HTTP_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Keycloak:
    """A running Keycloak with the realm of `realm.json`."""

    base: str
    admin_password: str
    process: "subprocess.Popen[bytes]"

    @property
    def issuer(self) -> str:
        """The realm as an issuer."""
        return f"{self.base}/realms/acme"

    def token(self, client_id: str, realm: str = "acme", **asked: str) -> str:
        """Return an access token of the token endpoint."""
        answer = requests.post(
            f"{self.base}/realms/{realm}/protocol/openid-connect/token",
            data={"client_id": client_id, **asked},
            timeout=HTTP_S,
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def robot_token(self) -> str:
        """Return a token of the service account."""
        return self.token("ci", grant_type="client_credentials", client_secret=PASSWORD)

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API about the realm."""
        token = self.token(
            "admin-cli",
            "master",
            grant_type="password",
            username="admin",
            password=self.admin_password,
        )
        answer = requests.request(
            method,
            f"{self.base}/admin/realms/acme{path}",
            json=body,
            headers={"authorization": f"Bearer {token}"},
            timeout=HTTP_S,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def rotate_keys(self) -> None:
        """Sign with a new key from now on; the old one still verifies."""
        priority = str(1000 + time.monotonic_ns() // 10**9)
        self.admin(
            "POST",
            "/components",
            {
                "name": f"rsa-{priority}",
                "providerId": "rsa-generated",
                "providerType": "org.keycloak.keys.KeyProvider",
                "config": {"priority": [priority], "algorithm": ["RS256"]},
            },
        )

    def withdraw_key(self, kid: str) -> None:
        """No longer publish a key."""
        keys = self.admin("GET", "/keys")["keys"]
        provider = next(key["providerId"] for key in keys if key["kid"] == kid)
        component = self.admin("GET", f"/components/{provider}")
        component["config"] |= {"enabled": ["false"], "active": ["false"]}
        self.admin("PUT", f"/components/{provider}", component)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Let it answer nobody for a while."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)


def fill_forms(url: str, answers: dict[str, str], most: int = 4) -> str:
    """Go through an issuer's pages as a browser does, and return the last page's text."""
    # Loopback counts as secure without TLS, as it does for browsers.
    policy = DefaultCookiePolicy(secure_protocols=("http", "https"))
    browser = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar(policy)))
    text, url = _open(browser, url)
    for _ in range(most):
        form = re.search(r'<form[^>]*action="([^"]+)"', text)
        if form is None:
            break
        hidden = dict(re.findall(r'name="([^"]+)"[^>]*value="([^"]*)"', text))
        asked = set(re.findall(r'name="([^"]+)"', text))
        values = hidden | {name: value for name, value in answers.items() if name in asked}
        text, url = _open(browser, urljoin(url, html.unescape(form[1])), urlencode(values).encode())
    return text


def _open(browser: OpenerDirector, url: str, form: bytes | None = None) -> tuple[str, str]:
    """Return the text and the address of a page, also of one that says what is wrong."""
    try:
        page = browser.open(url, form, timeout=HTTP_S)
    except HTTPError as e:
        page = e
    with page:
        return page.read().decode(), page.url


@contextmanager
def running_keycloak(log: Path) -> Iterator[Keycloak]:
    """Start Keycloak with an empty database in memory, and end it."""
    assert HOME.exists(), "run `make test-integration`, which gets Keycloak first"
    imported = HOME / "data" / "import" / "realm.json"
    imported.parent.mkdir(parents=True, exist_ok=True)
    imported.write_bytes(REALM.read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base, password = f"http://127.0.0.1:{port}", secrets.token_hex(16)
    command = ["bash", str(HOME / "bin" / "kc.sh"), "start", "--optimized", "--import-realm"]
    options = ["--http-enabled=true", "--http-host=127.0.0.1", f"--http-port={port}"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *options, f"--hostname={base}", "--cache=local"],
            env={
                **os.environ,
                "KC_BOOTSTRAP_ADMIN_USERNAME": "admin",
                "KC_BOOTSTRAP_ADMIN_PASSWORD": password,
                "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1 -Xmx512m",
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    keycloak = Keycloak(base=base, admin_password=password, process=process)
    try:
        _wait_until_ready(keycloak, log)
        yield keycloak
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def _wait_until_ready(keycloak: Keycloak, log: Path) -> None:
    until = time.monotonic() + START_S
    url = f"{keycloak.issuer}/.well-known/openid-configuration"
    while time.monotonic() < until and keycloak.process.poll() is None:
        try:
            if requests.get(url, timeout=HTTP_S).status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.3)
    raise AssertionError(f"Keycloak did not start: {log.read_text(errors='replace')[-3000:]}")
