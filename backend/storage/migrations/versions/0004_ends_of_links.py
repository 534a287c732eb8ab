"""How links end: notices before, revocations after, erasures of whole users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("links", sa.Column("notice_on", sa.Date(), nullable=True))
    op.execute("UPDATE links SET notice_on = consent_ends_on - 30 WHERE status = 'active'")
    op.create_index("links_notice_idx", "links", ["notice_on"], unique=False, postgresql_where=sa.text("notice_on IS NOT NULL"))
    op.create_table(
        "revocations",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("token_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "org_code", name=op.f("revocations_pkey")),
    )
    op.create_table(
        "erasures",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("erasures_pkey")),
    )
