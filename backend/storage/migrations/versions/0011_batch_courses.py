"""How many links a rehearsal has to do, once they are counted; and which plans are to be made again at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch_plans", sa.Column("is_stale", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("batch_windows", sa.Column("links", sa.BigInteger(), nullable=True))
    op.add_column("batch_windows", sa.Column("counted_at", sa.DateTime(timezone=True), nullable=True))
