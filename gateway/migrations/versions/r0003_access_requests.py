"""Approvals get a kind: asked for by a call, asked for beforehand, or taken in an emergency."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the kind; what is there was asked for by calls."""
    column = sa.Column("kind", sa.String(16), nullable=False, server_default="call")
    op.add_column("approvals", column)
