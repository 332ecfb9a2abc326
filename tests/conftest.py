"""Settings and fixtures of all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from support.deployment import Deployment, running

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=200)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One whole deployment, shared by all tests that only make calls."""
    with running(tmp_path_factory.mktemp("deployment") / "var") as started:
        yield started


@pytest.fixture(scope="session")
def opa() -> Path:
    """The pinned OPA program."""
    path = Path(__file__).parents[1] / ".tools" / "opa-1.22.2" / "opa"
    assert path.exists(), "run `make setup` first"
    return path
