"""Alerts, messages to operators' channels, and how many users a day had by each hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _alerts()
    _notices()
    op.create_table(
        "traffic_marks",
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("scheduled", sa.Boolean(), nullable=False),
        sa.Column("users", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("until", "org_code", "scheduled", name=op.f("traffic_marks_pkey")),
    )


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("facts", postgresql.JSONB(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("end_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("alerts_pkey")),
    )
    op.create_index("alerts_open_idx", "alerts", ["key"], unique=True, postgresql_where=sa.text("closed_at IS NULL"))
    untold = sa.text("told_at IS NULL OR (closed_at IS NOT NULL AND end_told_at IS NULL)")
    op.create_index("alerts_untold_idx", "alerts", ["kind"], unique=False, postgresql_where=untold)
    op.create_index("alerts_opened_at_idx", "alerts", ["opened_at"], unique=False)


def _notices() -> None:
    op.create_table(
        "notices",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("line", sa.String(length=32), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claims", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("topic", "channel", name=op.f("notices_pkey")),
    )
    pending = sa.text("state = 'pending'")
    op.create_index("notices_pending_idx", "notices", ["channel", "line", "created_at"], unique=False, postgresql_where=pending)
    op.create_index("notices_created_at_idx", "notices", ["created_at"], unique=False)
