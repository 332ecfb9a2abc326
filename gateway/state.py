"""The state database: what several workers and hosts must agree on. SQLAlchemy Core only.

SQLite or Postgres; the same tests hold on both. The tables below are what the newest migration in
`gateway.migrations` leaves, which a test compares.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

_MIGRATION_LOCK = 0x636F756E746572
"""Number of the advisory lock under which one host at a time migrates a Postgres database."""

METADATA = sa.MetaData()

APPROVALS = sa.Table(
    "approvals",
    METADATA,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, index=True),
    sa.Column("exchange_id", sa.String(64), nullable=False),
    sa.Column("session_id", sa.String(128), nullable=False),
    sa.Column("issuer", sa.String(512), nullable=False),
    sa.Column("sub", sa.String(512), nullable=False),
    sa.Column("person", sa.String(512), nullable=False),
    sa.Column("model", sa.String(256), nullable=False),
    sa.Column("repositories", sa.JSON, nullable=False),
    sa.Column("approvers", sa.JSON, nullable=False),
    sa.Column("reasons", sa.JSON, nullable=False),
    sa.Column("scope", sa.String(16), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("workflow", sa.String(256), nullable=False),
    sa.Column("reason", sa.String(1000), nullable=False),
    sa.Column("demands", sa.JSON, nullable=False),
    sa.Column("ttl_s", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Index("approvals_expiry", "state", "expires_at"),
    comment="Approval requests; no prompt text. Times are nanoseconds since the epoch.",
)

_JOINED = sa.text("state IN ('pending', 'approved', 'denied')")
sa.Index(
    "one_joined_approval",
    APPROVALS.c.key,
    unique=True,
    sqlite_where=_JOINED,
    postgresql_where=_JOINED,
)

CHANGES = sa.Table(
    "changes",
    METADATA,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    comment="For each kind of thing a number that grows with every change of it.",
)

VERDICTS = sa.Table(
    "verdicts",
    METADATA,
    sa.Column("approval_id", sa.ForeignKey("approvals.id"), primary_key=True),
    sa.Column("person", sa.String(512), primary_key=True),
    sa.Column("issuer", sa.String(512), nullable=False),
    sa.Column("sub", sa.String(512), nullable=False),
    sa.Column("groups", sa.JSON, nullable=False),
    sa.Column("verdict", sa.String(8), nullable=False),
    sa.Column("comment", sa.String(1000), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    comment="One per person and approval, with the approver's groups at that time.",
)

LIMITS = sa.Table(
    "limits",
    METADATA,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("unit", sa.String(16), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("window_s", sa.Integer, nullable=False),
    sa.Column("counter", sa.LargeBinary, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    comment="What is used of each limit, by `gateway.leases`; as sized by the last call.",
)

CUTS = sa.Table(
    "cuts",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("issuer", sa.String(512), nullable=False),
    sa.Column("sub", sa.String(512), nullable=False),
    sa.Column("code", sa.String(64), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False, index=True),
    comment="Verdicts that cut a stream, for its re-send; about a minute each.",
)

KEYS = sa.Table(
    "keys",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
    comment="Random keys that all workers share.",
)


class BadState(Exception):
    """The state database can't be used; one line says why."""


def open_state(url: str) -> sa.Engine:
    """Return an engine on the state database, `sqlite:///PATH` or `postgresql+psycopg://…`."""
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _tune_sqlite)
    return engine


def create_state(url: str, revision: str = "head") -> None:
    """Bring the database to a revision, all or nothing, before the processes that share it start.

    Raises:
        BadState: it can't be reached, or a newer version of the gateway migrated it.
    """
    try:
        engine = open_state(url)
    except (SQLAlchemyError, ImportError) as e:
        raise BadState(f"{url.partition(':')[0]} is no database that can be used") from e
    config = Config()
    config.set_main_option("script_location", "gateway:migrations")
    config.set_main_option("path_separator", "os")
    try:
        with write(engine) as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except (SQLAlchemyError, CommandError) as e:
        raise BadState(" ".join(str(e.__cause__ or e).split())) from e
    finally:
        engine.dispose()


@contextmanager
def write(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a transaction that may write by what it read: SQLite locks at the first read."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def shared_key(engine: sa.Engine, name: str) -> bytes:
    """Return the key `name`, made by whoever asks first."""
    query = sa.select(KEYS.c.value).where(KEYS.c.name == name)
    with engine.connect() as connection:
        found = connection.execute(query).scalar()
    if found is not None:
        return bytes(found)
    try:
        with engine.begin() as connection:
            connection.execute(sa.insert(KEYS).values(name=name, value=secrets.token_bytes(32)))
    except IntegrityError:
        pass  # Another process was first; its key is the one.
    with engine.connect() as connection:
        return bytes(connection.execute(query).scalar_one())


def digest_call(secret: bytes, context: list[Any], value: Mapping[str, Any]) -> str:
    """Return an HMAC by which the same request body is known in the same context.

    Clients re-send a broken stream without `stream`, so that field does not count.
    """
    body = {name: inner for name, inner in value.items() if name != "stream"}
    text = json.dumps([*context, body], sort_keys=True).encode()
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


def _tune_sqlite(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
