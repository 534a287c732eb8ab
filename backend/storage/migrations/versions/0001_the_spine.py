"""The spine: users, outbox, registrations, consents, links, assets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "assets",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("industry", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number_masked", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("balance_amount", sa.Numeric(), nullable=True),
        sa.Column("balance_currency", sa.String(length=3), nullable=True),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("(balance_amount IS NULL) = (balance_currency IS NULL)", name=op.f("assets_balance_whole_check")),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("assets_pkey")),
    )
    op.create_index("assets_user_id_org_code_idx", "assets", ["user_id", "org_code"], unique=False)
    op.create_table(
        "consent_history",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("tx_id", sa.String(length=74), nullable=False),
        sa.Column("happened", sa.String(length=16), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("consent_history_pkey")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("body_digest", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("idempotency_keys_pkey")),
    )
    op.create_index("idempotency_keys_created_at_idx", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "links",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("consent_tx_id", sa.String(length=74), nullable=False),
        sa.Column("consent_ends_on", sa.Date(), nullable=False),
        sa.Column("consented_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("access_token_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("access_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refresh_token_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("refresh_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("last_refreshed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "org_code", name=op.f("links_pkey")),
    )
    op.create_table(
        "outbox",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "offset", name=op.f("outbox_pkey")),
    )
    op.create_index("outbox_created_at_idx", "outbox", ["created_at"], unique=False)
    op.create_table(
        "registrations",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("completed_as", sa.String(length=16), nullable=True),
        sa.Column("signature_status", sa.String(length=16), nullable=False),
        sa.Column("signature_run", sa.Integer(), nullable=False),
        sa.Column("sign_tx_id", sa.String(length=49), nullable=True),
        sa.Column("cert_tx_id", sa.String(length=40), nullable=True),
        sa.Column("sign_web_url", sa.Text(), nullable=True),
        sa.Column("sign_ios_url", sa.Text(), nullable=True),
        sa.Column("sign_aos_url", sa.Text(), nullable=True),
        sa.Column("sign_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sign_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("registrations_pkey")),
    )
    op.create_index(
        "registrations_open_idx",
        "registrations",
        ["updated_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('signing', 'collecting')"),
    )
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("feed_offset", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("person_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("users_pkey")),
    )
    op.create_table(
        "consents",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("tx_id", sa.String(length=74), nullable=False),
        sa.Column("cert_tx_id", sa.String(length=40), nullable=True),
        sa.Column("ca_code", sa.String(length=10), nullable=False),
        sa.Column("document_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("signed_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("ends_on", sa.Date(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "registration_id"],
            ["registrations.user_id", "registrations.id"],
            name=op.f("consents_registrations_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "registration_id", "org_code", name=op.f("consents_pkey")),
    )
    op.create_table(
        "registration_items",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.Column("org_code", sa.String(length=10), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("asset_ids", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "registration_id"],
            ["registrations.user_id", "registrations.id"],
            name=op.f("registration_items_registrations_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("user_id", "registration_id", "org_code", name=op.f("registration_items_pkey")),
    )
    op.create_index(
        "registration_items_open_idx",
        "registration_items",
        ["updated_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('waiting', 'connecting', 'collecting', 'deferred')"),
    )
