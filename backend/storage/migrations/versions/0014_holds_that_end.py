"""A pause may end by itself, with why it is there; a command says whether its provider asked for less."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch_pauses", sa.Column("reason", sa.String(length=16), server_default=sa.text("'operator'"), nullable=False))
    op.add_column("batch_pauses", sa.Column("until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("batch_commands", sa.Column("eased", sa.Boolean(), server_default=sa.text("false"), nullable=False))
