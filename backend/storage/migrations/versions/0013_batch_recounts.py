"""What a command recorded can be counted: its rows are found by its name, whatever became of them."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("batch_refreshes_sent_idx", table_name="batch_refreshes")
    op.create_index("batch_refreshes_command_idx", "batch_refreshes", ["minute", "org_code"], unique=False)
