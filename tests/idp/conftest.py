"""One Keycloak and one deployment that trusts it, for all tests of this folder."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from support.deployment import Deployment, running

from gateway.demo import claude
from idp.keycloak import Keycloak, running_keycloak

CLAUDE_KEY = "of-this-test-alone"
MODELS = ("claude-sonnet-4-5",)


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    with running_keycloak(tmp_path_factory.mktemp("keycloak") / "log") as started:
        yield started


@pytest.fixture(scope="session")
def company(keycloak: Keycloak, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment whose people log in at Keycloak."""
    folder = tmp_path_factory.mktemp("company")
    with _demo_claude() as claude_url:
        settings = {
            "issuers": [
                {
                    "url": keycloak.issuer,
                    "audiences": ["countersign"],
                    "groups_claim": "realm_access.roles",
                    "person_claim": "email",
                }
            ],
            "login": {"client_id": "countersign-cli"},
            "endpoints": {"claude": {"base_url": claude_url, "credential": "env:CLAUDE_KEY"}},
            "proxy": {"workers": 1},
            "lake": {"commit_every_s": 1},
        }
        config = folder / "countersign.yaml"
        config.write_text(json.dumps(settings))
        environment = {"CLAUDE_KEY": CLAUDE_KEY, "XDG_CONFIG_HOME": str(folder / "config")}
        with running(folder / "var", config=config, environment=environment) as started:
            yield started


@contextmanager
def _demo_claude() -> Iterator[str]:
    """Serve the demo Claude from a thread of its own."""
    url: Future[str] = Future()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        runner = web.AppRunner(claude.build(CLAUDE_KEY, models=MODELS), shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        yield url.result(timeout=10)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)
        loop.close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of this test alone, as its commands see it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "countersign"
