"""The tables, but for those of the batch and of alerts; `schema.py` puts all together.

A user's tables lead their keys with `user_id`, so that no query can forget whose rows it reads. The migrations make these tables; a test
holds the two against each other. Secrets (`*_sealed`) come out of the vault only.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INT8MULTIRANGE, JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(referred_table_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

_MOMENT = DateTime(timezone=True)


def _user_id(*, primary_key: bool = True) -> Column[str]:
    return Column("user_id", Text, primary_key=primary_key, nullable=False)


users = Table(
    "users",
    metadata,
    _user_id(),
    # The last offset handed out in this user's feed. Whoever changes anything of a user locks this row first:
    # so a user's transactions come one after the other, and their facts are numbered in the order of the commits.
    Column("feed_offset", BigInteger, nullable=False, server_default=text("0")),
    Column("person_sealed", LargeBinary, nullable=True),  # user_ci, name, phone number; NULL: never registered
    Column("created_at", _MOMENT, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    _user_id(),
    Column("offset", BigInteger, primary_key=True),  # the event's place in the feed, and its idempotency key
    Column("event", LargeBinary, nullable=False),  # the EVENT's bytes as clients receive them
    Column("created_at", _MOMENT, nullable=False),
    Index("outbox_created_at_idx", "created_at"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _user_id(),
    Column("key", String(255), primary_key=True),
    Column("body_digest", LargeBinary, nullable=False),  # SHA-256 of what was asked
    Column("status", SmallInteger, nullable=False),
    Column("location", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the first answer, byte for byte
    Column("created_at", _MOMENT, nullable=False),
    Index("idempotency_keys_created_at_idx", "created_at"),
)

registrations = Table(
    "registrations",
    metadata,
    _user_id(),
    Column("id", Text, primary_key=True),  # reg_ + ULID: sorts by age
    Column("status", String(16), nullable=False),
    Column("run", Integer, nullable=False),  # 1; each accepted retry starts the next
    Column("completed_as", String(16), nullable=True),  # the last status announced in this run; NULL: none yet
    Column("signature_status", String(16), nullable=False),
    Column("signature_run", Integer, nullable=False),  # the run that the signature below belongs to; 0: none
    Column("sign_tx_id", String(49), nullable=True),
    Column("cert_tx_id", String(40), nullable=True),
    Column("sign_web_url", Text, nullable=True),
    Column("sign_ios_url", Text, nullable=True),
    Column("sign_aos_url", Text, nullable=True),
    Column("sign_expires_at", _MOMENT, nullable=True),  # as the requested signature tells it
    Column("sign_before", _MOMENT, nullable=False),  # when an unsigned run expires
    Column("request_id", String(64), nullable=False),  # of the request that began this run
    Column("created_at", _MOMENT, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    # What the sweeper looks for.
    Index("registrations_open_idx", "updated_at", postgresql_where=text("status IN ('signing', 'collecting')")),
)

registration_items = Table(
    "registration_items",
    metadata,
    _user_id(),
    Column("registration_id", Text, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("position", SmallInteger, nullable=False),  # the order in which the person chose
    Column("status", String(16), nullable=False),
    Column("run", Integer, nullable=False),  # the run in which it was last begun
    Column("asset_ids", ARRAY(Text), nullable=False, server_default=text("'{}'")),  # every asset that it has shown
    Column("error_code", String(64), nullable=True),
    Column("retry_at", _MOMENT, nullable=True),  # deferred: when it is tried again
    Column("updated_at", _MOMENT, nullable=False),
    ForeignKeyConstraint(["user_id", "registration_id"], ["registrations.user_id", "registrations.id"], ondelete="CASCADE"),
    Index(
        "registration_items_open_idx", "updated_at", postgresql_where=text("status IN ('waiting', 'connecting', 'collecting', 'deferred')")
    ),
)

consents = Table(
    "consents",
    metadata,
    _user_id(),
    Column("registration_id", Text, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("run", Integer, nullable=False),
    Column("tx_id", String(74), nullable=False),
    Column("cert_tx_id", String(40), nullable=True),
    Column("ca_code", String(10), nullable=False),
    Column("document_sealed", LargeBinary, nullable=False),
    Column("signed_sealed", LargeBinary, nullable=True),  # NULL: not signed (yet)
    Column("ends_on", Date, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    ForeignKeyConstraint(["user_id", "registration_id"], ["registrations.user_id", "registrations.id"], ondelete="CASCADE"),
)

consent_history = Table(
    "consent_history",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    _user_id(primary_key=False),
    Column("org_code", String(10), nullable=False),
    Column("tx_id", String(74), nullable=False),
    Column("happened", String(16), nullable=False),  # granted, revoked, withdrawn (at the provider), expired
    Column("ends_on", Date, nullable=True),
    Column("at", _MOMENT, nullable=False),
    # What a day changed: its rows, consents that end on it, and what was before each, or came next.
    Index("consent_history_at_idx", "at"),
    Index("consent_history_ends_on_idx", "ends_on", postgresql_where=text("happened = 'granted'")),
    Index("consent_history_pair_idx", "user_id", "org_code", "at"),
)

# What became of consents on one day in Korea, of every provider that had ever any. `consent_days.py` adds it up.
consent_days = Table(
    "consent_days",
    metadata,
    Column("day", Date, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("granted", BigInteger, nullable=False),
    Column("revoked", BigInteger, nullable=False),  # here or at the provider
    Column("held", BigInteger, nullable=False),  # when the day ended
)

# The days that are added up: from the first of the history on, without a gap.
consent_days_done = Table(
    "consent_days_done",
    metadata,
    Column("day", Date, primary_key=True),
    Column("through_id", BigInteger, nullable=False),  # rows of the history up to this one are in the day's sums, and no others
)

links = Table(
    "links",
    metadata,
    _user_id(),
    Column("org_code", String(10), primary_key=True),
    Column("status", String(16), nullable=False),  # active, consent_expired, revoked
    Column("consent_tx_id", String(74), nullable=False),  # the consent that its tokens were given for
    Column("consent_ends_on", Date, nullable=False),
    Column("consented_at", _MOMENT, nullable=False),  # when that consent was drawn up
    Column("access_token_sealed", LargeBinary, nullable=True),
    Column("access_expires_at", _MOMENT, nullable=True),
    Column("refresh_token_sealed", LargeBinary, nullable=True),
    Column("refresh_expires_at", _MOMENT, nullable=True),
    Column("scope", Text, nullable=False),
    Column("last_refreshed_at", _MOMENT, nullable=True),  # NULL: never collected to the end
    Column("created_at", _MOMENT, nullable=False),
    Column("updated_at", _MOMENT, nullable=False),
    # What each list reached in the last reading of this consent that came to its end, by API code; {}: read everything.
    Column("search_timestamps", JSONB, nullable=False, server_default=text("'{}'")),
    Column("notice_on", Date, nullable=True),  # the day (in Korea) on which its end is told of next; NULL: there is nothing to tell
    Column("link_id", BigInteger, Identity(), nullable=False),  # its name in the batch: no person's, and short
    # By the end of which day (in Korea) the batch is to have read it; long ago: as soon as may be.
    Column("due_on", Date, nullable=False, server_default=text("'2000-01-01'")),
    # What the sweeper looks for.
    Index("links_notice_idx", "notice_on", postgresql_where=text("notice_on IS NOT NULL")),
    # Who is told of a provider's status.
    Index("links_linked_idx", "org_code", "user_id", postgresql_where=text("status = 'active'")),
    # In which order the batch reads: the positions of its commands.
    Index("links_due_idx", "org_code", "due_on", "link_id", postgresql_where=text("status = 'active'")),
)

# Links that their person ended, until the provider knows it. It outlives the link, and the user.
revocations = Table(
    "revocations",
    metadata,
    _user_id(),
    Column("org_code", String(10), primary_key=True),
    Column("token_sealed", LargeBinary, nullable=True),  # the access token, sealed as in the link; NULL: none is known
    Column("created_at", _MOMENT, nullable=False),
)

# Users that are erased, until their feed is, too.
erasures = Table("erasures", metadata, _user_id(), Column("created_at", _MOMENT, nullable=False))

refreshes = Table(
    "refreshes",
    metadata,
    _user_id(),
    Column("id", Text, primary_key=True),  # ref_ + ULID: sorts by age
    Column("request_id", String(64), nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    Column("completed_at", _MOMENT, nullable=True),  # NULL: some provider is still on its way
)

refresh_items = Table(
    "refresh_items",
    metadata,
    _user_id(),
    Column("refresh_id", Text, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("position", SmallInteger, nullable=False),
    Column("status", String(16), nullable=False),  # refreshing, completed, failed
    Column("error_code", String(64), nullable=True),
    Column("updated_at", _MOMENT, nullable=False),
    ForeignKeyConstraint(["user_id", "refresh_id"], ["refreshes.user_id", "refreshes.id"], ondelete="CASCADE"),
    # What the sweeper looks for.
    Index("refresh_items_open_idx", "updated_at", postgresql_where=text("status = 'refreshing'")),
)

assets = Table(
    "assets",
    metadata,
    _user_id(),
    Column("id", Text, primary_key=True),
    Column("org_code", String(10), nullable=False),
    Column("industry", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("name", Text, nullable=False),
    Column("number_masked", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("balance_amount", Numeric, nullable=True),
    Column("balance_currency", String(3), nullable=True),
    Column("as_of", _MOMENT, nullable=False),
    Column("details", JSONB, nullable=False),
    CheckConstraint("(balance_amount IS NULL) = (balance_currency IS NULL)", name="balance_whole"),
    Index("assets_user_id_org_code_idx", "user_id", "org_code"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),  # wh_ + ULID
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=True),  # NULL: every type, those to come too
    Column("description", Text, nullable=False),
    Column("status", String(16), nullable=False),  # active, disabled (the receiver said 410), deleted (until nothing is left of it)
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("old_secret_sealed", LargeBinary, nullable=True),  # signs too, until old_secret_until
    Column("old_secret_until", _MOMENT, nullable=True),
    Column("failures", Integer, nullable=False, server_default=text("0")),  # attempts that failed since the last that did not
    Column("rests_until", _MOMENT, nullable=True),  # ill: nothing is sent before, then one delivery tries
    Column("last_delivered_at", _MOMENT, nullable=True),  # to the second
    Column("last_failed_at", _MOMENT, nullable=True),
    Column("last_failure", String(64), nullable=True),
    Column("created_at", _MOMENT, nullable=False),
    Column("ended_at", _MOMENT, nullable=True),  # when it was disabled or deleted
)

# No foreign key: a key lock on the webhook's row by every transaction that publishes would cost more than orphans, which are swept.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    _user_id(),
    Column("webhook_id", Text, primary_key=True),
    Column("offset", BigInteger, primary_key=True),  # the event's place in the feed, and the order of sending; 0: an operator's test
    Column("id", Uuid, nullable=False),  # the receiver's idempotency key
    Column("event", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False, server_default=text("'pending'")),  # pending, failed; what was delivered is deleted
    Column("attempts", Integer, nullable=False, server_default=text("0")),  # that failed
    Column("due_at", _MOMENT, nullable=False),
    Column("leased_until", _MOMENT, nullable=True),
    Column("claims", Integer, nullable=False, server_default=text("0")),  # fencing token: the claim that may say how it ended
    Column("created_at", _MOMENT, nullable=False),
    Index("webhook_deliveries_due_idx", "webhook_id", "state", "due_at"),
    Index("webhook_deliveries_age_idx", "state", "created_at"),
)

# What operators set. It outlives Valkey, and every coordinator.
circuit_modes = Table(
    "circuit_modes",
    metadata,
    Column("org_code", String(10), primary_key=True),  # for every scope of this institution
    Column("mode", String(16), nullable=False),  # auto, forced_open, forced_closed
    Column("reason", Text, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("set_at", _MOMENT, nullable=False),
)

# What operators did. Append-only: triggers refuse all else (migration 0012).
operator_actions = Table(
    "operator_actions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("at", _MOMENT, nullable=False),
    Column("who", Text, nullable=False),  # the `sub` of their token
    Column("action", String(32), nullable=False),  # breaker.forced_open, batch.pause, webhook.added and the like
    Column("org_code", String(10), nullable=False),
    Column("reason", Text, nullable=False),
    Column("request_id", String(64), nullable=False),
    Index("operator_actions_org_code_id_idx", "org_code", "id"),
)

# --- traffic: what calls to institutions add up to (backend/storage/traffic.py) ---------------------------------------

# By hour first: whatever reads them asks for a day, and what is too old goes from the beginning.
traffic = Table(
    "traffic",
    metadata,
    Column("hour", _MOMENT, primary_key=True),  # its beginning, in UTC and in Korea alike
    Column("org_code", String(10), primary_key=True),
    Column("api_code", String(8), primary_key=True),
    Column("scheduled", Boolean, primary_key=True),  # by the weekly batch; false: for a person
    Column("calls", BigInteger, nullable=False),  # = successes + all failures + cancelled
    Column("successes", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False),  # ended by us; they are in no column below
    Column("slow", BigInteger, nullable=False),
    Column("ms", BigInteger, nullable=False),  # sum of the times
    Column("ms_squared", BigInteger, nullable=False),
    Column("histogram", ARRAY(BigInteger), nullable=False),
)

# A table of its own: sums of reasons are upserts like all others, and whoever wants totals reads none of it.
traffic_failures = Table(
    "traffic_failures",
    metadata,
    Column("hour", _MOMENT, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("api_code", String(8), primary_key=True),
    Column("scheduled", Boolean, primary_key=True),
    Column("reason", String(64), primary_key=True),
    Column("calls", BigInteger, nullable=False),
)

# Who was called for on which day (in Korea), by a keyed digest. Led by it, so that a person can be forgotten.
traffic_users = Table(
    "traffic_users",
    metadata,
    Column("user_key", String(22), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("scheduled", Boolean, primary_key=True),
    Index("traffic_users_day_idx", "day", postgresql_using="brin"),  # rows come day by day
)

# How many they were: stays right when one of them is forgotten.
traffic_days = Table(
    "traffic_days",
    metadata,
    Column("day", Date, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("scheduled", Boolean, primary_key=True),
    Column("users", BigInteger, nullable=False),
)

# Who is not to be written down again by a report that comes late.
traffic_forgotten = Table(
    "traffic_forgotten",
    metadata,
    Column("user_key", String(22), primary_key=True),
    Column("last_day", Date, nullable=False),  # later ones are those of a person who came back
    Column("forgotten_at", _MOMENT, nullable=False),
)

# Which reports of a node are in the sums.
traffic_nodes = Table(
    "traffic_nodes",
    metadata,
    Column("node", Text, primary_key=True),
    Column("counted", INT8MULTIRANGE, nullable=False),  # their numbers
    Column("uncounted", BigInteger, nullable=False),  # calls, or users of calls, for which the node had no room
    Column("heard_at", _MOMENT, nullable=False),
)

# How far the stream of reports is in the sums.
traffic_cursor = Table(
    "traffic_cursor",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("position", Text, nullable=False),
    Column("version", BigInteger, nullable=False),  # grows with each write, and with each person who is forgotten
)

# What the users of a provider were told of its status last, or are being told.
provider_statuses = Table(
    "provider_statuses",
    metadata,
    Column("org_code", String(10), primary_key=True),
    Column("status", String(16), nullable=False),  # available, resting, maintenance
    Column("retry_at", _MOMENT, nullable=True),
    Column("changed_at", _MOMENT, nullable=False),
    Column("told_to", Text, nullable=True),  # the last user, by name, who was told; NULL: everybody was
)

# What was decided about circuits, for operators to look back at. Kept for a while.
circuit_decisions = Table(
    "circuit_decisions",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("at", _MOMENT, nullable=False),  # since when it stands so; names the change
    Column("org_code", String(10), nullable=False),
    Column("scope", String(8), nullable=False),  # read, token, ca
    Column("state", String(16), nullable=False),  # closed, open, half_open
    Column("mode", String(16), nullable=False),  # auto, forced_open, forced_closed
    Column("reason", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Index("circuit_decisions_org_code_scope_at_idx", "org_code", "scope", "at", unique=True),
    Index("circuit_decisions_at_idx", "at"),
)

# Feeds that are no user's.
shared_feeds = Table(
    "shared_feeds",
    metadata,
    Column("name", Text, primary_key=True),  # longer than any `sub`
    Column("feed_offset", BigInteger, nullable=False),  # the last offset handed out
)
