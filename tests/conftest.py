"""Settings and fixtures of all tests."""

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings
from support import postgres
from support.deployment import Deployment, running

from gateway.state import create_state, open_state

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


@pytest.fixture(scope="session")
def databases() -> Iterator[str]:
    """The URL of databases of a Postgres cluster, to be formatted with a name."""
    binaries = postgres.find_binaries()
    if binaries is None:
        pytest.skip("no initdb: install Postgres (Debian: postgresql) to test the state on it too")
    with postgres.cluster(binaries) as url:
        yield url


@pytest.fixture
def empty_postgres_url(databases: str) -> str:
    """The URL of an empty state database on Postgres, which several hosts may share."""
    name = f"state_{secrets.token_hex(8)}"
    maintenance = sa.create_engine(databases.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with maintenance.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    maintenance.dispose()
    return databases.format(name=name)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_state_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty state database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture
def state_url(empty_state_url: str) -> str:
    """The URL of a state database of the newest revision, of each kind."""
    create_state(empty_state_url)
    return empty_state_url


@pytest.fixture
def engine(state_url: str) -> Iterator[sa.Engine]:
    """An engine on a state database, of each kind."""
    engine = open_state(state_url)
    yield engine
    until = time.monotonic() + 10
    while isinstance(engine.pool, sa.QueuePool) and engine.pool.checkedout():
        assert time.monotonic() < until, "a thread never gave its connection back"
        time.sleep(0.01)
    engine.dispose()
