"""Approvals get states, demands and scopes; `changes` tells workers what to read again."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what a request's life needs; requests from before it have ended."""
    columns: tuple[tuple[str, sa.types.TypeEngine[Any], str], ...] = (
        ("state", sa.String(16), "expired"),
        ("workflow", sa.String(256), ""),
        ("reason", sa.String(1000), ""),
        ("demands", sa.JSON(), "[]"),
        ("ttl_s", sa.BigInteger(), "0"),
    )
    for name, kind, before in columns:
        column = sa.Column(name, kind, nullable=False, server_default=before)
        op.add_column("approvals", column)
    op.create_index(
        "one_joined_approval",
        "approvals",
        ["key"],
        unique=True,
        sqlite_where=sa.text("state IN ('pending', 'approved', 'denied')"),
        postgresql_where=sa.text("state IN ('pending', 'approved', 'denied')"),
    )
    op.create_index("approvals_expiry", "approvals", ["state", "expires_at"])
    changes = op.create_table(
        "changes",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(changes, [{"kind": "approvals", "number": 0}])
