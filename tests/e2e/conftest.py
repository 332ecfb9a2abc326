"""Fixtures of the tests with real clients."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import anthropic
import pytest
from click.testing import CliRunner
from support.deployment import Deployment

from e2e.clients import MODULES, ClaudeCode
from gateway.cli import cli


class QuickDeployment(Deployment):
    """Mints and queries in this process: the tests do it often, and to start one takes long."""

    def run(self, *arguments: str, token: str = "", check: bool = True) -> str:
        if arguments[0] not in {"demo", "sql"}:
            return super().run(*arguments, token=token, check=check)
        environment = {"COUNTERSIGN_FOLDER": str(self.folder)}
        done = CliRunner().invoke(cli, arguments, env=environment, catch_exceptions=False)
        return done.output


@pytest.fixture(scope="session")
def deployment(deployment: Deployment) -> Deployment:
    return QuickDeployment(**vars(deployment))


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """Say what is missing before anything is started."""
    missing = [program for program in ("curl", "node") if shutil.which(program) is None]
    assert not missing, f"install {', '.join(missing)} first"
    assert (MODULES / ".installed").exists(), "run tests/e2e/install first"


@pytest.fixture
def user() -> str:
    """A user of this test alone, by whom its records are found."""
    return f"user-{uuid4().hex[:12]}"


@pytest.fixture
def claude_code(deployment: Deployment, tmp_path: Path) -> ClaudeCode:
    return ClaudeCode(home=tmp_path, base_url=deployment.base_url)


@pytest.fixture
def client(deployment: Deployment, user: str) -> Iterator[anthropic.Anthropic]:
    """The Python SDK, pointed at the gateway."""
    with anthropic.Anthropic(
        base_url=deployment.base_url, auth_token=deployment.token(user=user)
    ) as sdk:
        yield sdk


@pytest.fixture(scope="session")
def claude_key(deployment: Deployment) -> str:
    return (deployment.folder / "demo" / "claude.key").read_text()


@pytest.fixture(scope="session")
def claude_url(deployment: Deployment) -> str:
    """Where the demo Claude is, with no gateway in front."""
    return f"http://127.0.0.1:{deployment.base_port + 5}"


@pytest.fixture(scope="session")
def direct(claude_url: str, claude_key: str) -> Iterator[anthropic.Anthropic]:
    """The Python SDK, pointed at the demo Claude itself."""
    with anthropic.Anthropic(base_url=claude_url, auth_token=claude_key) as sdk:
        yield sdk
