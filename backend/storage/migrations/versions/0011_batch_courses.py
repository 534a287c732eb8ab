"""What commands had taken before a plan or a rehearsal: from there its course is counted. And plans that are to be made again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch_plans", sa.Column("taken", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("batch_plans", sa.Column("is_stale", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("batch_windows", sa.Column("links", sa.BigInteger(), nullable=True))
    op.add_column("batch_windows", sa.Column("taken", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("batch_windows", sa.Column("counted_at", sa.DateTime(timezone=True), nullable=True))
