"""What became of consents, by day; and indexes that find what a day changed.

The indexes are made beside those who write, so outside of a transaction: what was broken off leaves one that is of no use, and is made
anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_INDEXES = {
    "consent_history_at_idx": "(at)",
    "consent_history_ends_on_idx": "(ends_on) WHERE happened = 'granted'",
    "consent_history_pair_idx": "(user_id, org_code, at)",
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, what in _INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON consent_history {what}")
    op.create_table(
        "consent_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "org_code", name=op.f("consent_days_pkey")),
    )
    op.create_table(
        "consent_days_done",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("through_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("consent_days_done_pkey")),
    )
