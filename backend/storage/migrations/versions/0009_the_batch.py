"""The weekly batch: in which order links are due, plans, commands, and what became of each link in each week."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "batch_commands",
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("start_due", sa.Date(), nullable=False),
        sa.Column("start_link", sa.BigInteger(), nullable=False),
        sa.Column("limit_due", sa.Date(), nullable=False),
        sa.Column("limit_link", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("per_100ms", sa.Integer(), nullable=False),
        sa.Column("per_minute", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("run", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("at_due", sa.Date(), nullable=False),
        sa.Column("at_link", sa.BigInteger(), nullable=False),
        sa.Column("sent", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("recorded", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("skipped", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("unknown", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("org_code", "minute", name=op.f("batch_commands_pkey")),
    )
    op.create_index(
        "batch_commands_open_idx", "batch_commands", ["org_code", "minute"], unique=False, postgresql_where=sa.text("state <> 'ended'")
    )
    op.create_index("batch_commands_week_idx", "batch_commands", ["week", "org_code", "minute"], unique=False)
    op.create_table(
        "batch_days",
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("links", sa.BigInteger(), nullable=False),
        sa.Column("batch_calls", sa.BigInteger(), nullable=False),
        sa.Column("user_calls", sa.BigInteger(), nullable=False),
        sa.Column("already", sa.BigInteger(), nullable=False),
        sa.Column("room", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("week", "org_code", "day", name=op.f("batch_days_pkey")),
    )
    op.create_table(
        "batch_pauses",
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("org_code", name=op.f("batch_pauses_pkey")),
    )
    op.create_table(
        "batch_plans",
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("links", sa.BigInteger(), nullable=False),
        sa.Column("calls_per_link", sa.Integer(), nullable=False),
        sa.Column("gap", sa.BigInteger(), nullable=False),
        sa.Column("impossible_on", sa.Date(), nullable=True),
        sa.Column("missing", sa.BigInteger(), nullable=False),
        sa.Column("left_over", sa.BigInteger(), nullable=False),
        sa.Column("forecast_error", sa.Double(), nullable=True),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("week", "org_code", name=op.f("batch_plans_pkey")),
    )
    op.create_table(
        "batch_refreshes",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("week", sa.Date(), nullable=False),
        sa.Column("link_id", sa.BigInteger(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("user_id", "org_code", "week", name=op.f("batch_refreshes_pkey")),
    )
    op.create_index(
        "batch_refreshes_sent_idx", "batch_refreshes", ["org_code", "minute"], unique=False, postgresql_where=sa.text("state = 'sent'")
    )
    op.create_index(
        "batch_refreshes_troubled_idx",
        "batch_refreshes",
        ["week", "org_code", "state"],
        unique=False,
        postgresql_where=sa.text("state IN ('failed', 'unknown', 'left')"),
    )
    op.create_index("batch_refreshes_week_idx", "batch_refreshes", ["week"], unique=False, postgresql_using="brin")
    op.create_table(
        "batch_windows",
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("begins", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("org_code", "begins", name=op.f("batch_windows_pkey")),
    )
    op.add_column("links", sa.Column("link_id", sa.BigInteger(), sa.Identity(always=False), nullable=False))
    op.add_column("links", sa.Column("due_on", sa.Date(), server_default=sa.text("'2000-01-01'"), nullable=False))
    op.create_index(
        "links_due_idx", "links", ["org_code", "due_on", "link_id"], unique=False, postgresql_where=sa.text("status = 'active'")
    )
