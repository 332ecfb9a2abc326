"""The state database: migrations, on SQLite and on Postgres alike."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.state import METADATA, BadState, create_state, open_state, shared_key

APPROVAL_0001 = {
    "id": "appr_1",
    "key": "k",
    "exchange_id": "exch_1",
    "session_id": "s",
    "issuer": "i",
    "sub": "s",
    "person": "p",
    "model": "m",
    "repositories": "[]",
    "approvers": '["leads"]',
    "reasons": "[]",
    "scope": "request",
    "created_at": 1,
    "expires_at": 2,
}


def test_migrations_leave_the_tables_that_the_code_declares(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), METADATA)
    assert [change for change in found if change[0] != "add_table_comment"] == []


def test_migrating_again_changes_nothing(state_url: str, engine: sa.Engine) -> None:
    key = shared_key(engine, "a")
    create_state(state_url)
    assert shared_key(engine, "a") == key


def test_several_hosts_migrate_at_once(empty_postgres_url: str) -> None:
    with ThreadPoolExecutor(4) as hosts:
        list(hosts.map(create_state, [empty_postgres_url] * 4))


def test_rows_of_the_first_revision_are_kept(empty_state_url: str) -> None:
    create_state(empty_state_url, "0001")
    engine = open_state(empty_state_url)
    names = ", ".join(APPROVAL_0001)
    values = ", ".join(f":{name}" for name in APPROVAL_0001)
    with engine.begin() as connection:
        connection.execute(
            sa.text(f"INSERT INTO approvals ({names}) VALUES ({values})"), APPROVAL_0001
        )
    create_state(empty_state_url)
    with engine.connect() as connection:
        kept = connection.execute(sa.text(f"SELECT {names} FROM approvals")).mappings().one()
    engine.dispose()
    assert (kept["id"], kept["key"], kept["expires_at"]) == ("appr_1", "k", 2)


def test_a_database_of_a_newer_version_is_refused(state_url: str, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BadState, match="9999"):
        create_state(state_url)


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    before = sqlite3.connect(path)
    before.execute("CREATE TABLE keys (name TEXT)")
    before.commit()
    with pytest.raises(BadState, match="keys already exists"):
        create_state(f"sqlite:///{path}")
    assert before.execute("SELECT name FROM sqlite_master").fetchall() == [("keys",)]
    before.close()


@pytest.mark.parametrize("url", ["nonsense", "mongodb://x", "sqlite:////no/such/folder/state.db"])
def test_what_is_no_usable_database_is_said(url: str) -> None:
    with pytest.raises(BadState):
        create_state(url)


def test_all_processes_share_one_key(engine: sa.Engine) -> None:
    with ThreadPoolExecutor(8) as processes:
        keys = set(processes.map(lambda _: shared_key(engine, "a"), range(8)))
    assert len(keys) == 1
    assert shared_key(engine, "b") not in keys
