"""What users were told of providers' statuses, and whom to tell."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "provider_statuses",
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("told_to", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("org_code", name=op.f("provider_statuses_pkey")),
    )
    op.create_index("links_linked_idx", "links", ["org_code", "user_id"], unique=False, postgresql_where=sa.text("status = 'active'"))
