"""What was decided about circuits, and the operators' feed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "circuit_decisions",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("circuit_decisions_pkey")),
    )
    op.create_index("circuit_decisions_org_code_scope_at_idx", "circuit_decisions", ["org_code", "scope", "at"], unique=True)
    op.create_index("circuit_decisions_at_idx", "circuit_decisions", ["at"], unique=False)
    op.create_table(
        "shared_feeds",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("feed_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("shared_feeds_pkey")),
    )
