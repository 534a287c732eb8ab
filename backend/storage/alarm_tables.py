"""Tables of what operators are told: alerts, and messages on their way to their channels. `schema.py` puts all tables together."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, String, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from backend.storage.tables import metadata

_MOMENT = DateTime(timezone=True)

# What is wrong, since when, until when. One row for each time that it was wrong.
alerts = Table(
    "alerts",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False),  # what it is about: circuit:A1MOABK001:read
    Column("kind", String(32), nullable=False),  # `reporting.alarms.AlertKind`
    Column("facts", JSONB, nullable=False),  # for its words; nobody's person
    Column("opened_at", _MOMENT, nullable=False),
    Column("closed_at", _MOMENT, nullable=True),  # NULL: it is still so
    Column("told_at", _MOMENT, nullable=True),  # when a message was written that says so; NULL: none yet
    Column("end_told_at", _MOMENT, nullable=True),  # the same of its end
    Index("alerts_open_idx", "key", unique=True, postgresql_where=text("closed_at IS NULL")),
    Index("alerts_untold_idx", "kind", postgresql_where=text("told_at IS NULL OR (closed_at IS NOT NULL AND end_told_at IS NULL)")),
    Index("alerts_opened_at_idx", "opened_at"),
)

# Messages to operators' channels. A topic goes to a channel once.
notices = Table(
    "notices",
    metadata,
    Column("topic", Text, primary_key=True),  # morning:2024-04-02, alerts:circuit:17
    Column("channel", String(16), primary_key=True),  # a digest of its URL, which is a secret
    Column("line", String(32), nullable=False),  # messages of one line keep their order
    Column("id", Uuid, nullable=False),  # the receiver's idempotency key
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),  # pending, sent, given_up
    Column("attempts", Integer, nullable=False),  # that failed
    Column("claims", Integer, nullable=False),  # fencing token: the claim that may say how it ended
    Column("due_at", _MOMENT, nullable=False),
    Column("created_at", _MOMENT, nullable=False),
    Column("ended_at", _MOMENT, nullable=True),
    Index("notices_pending_idx", "channel", "line", "created_at", postgresql_where=text("state = 'pending'")),
    Index("notices_created_at_idx", "created_at"),
)

# How many users of a day each institution had been called for by an hour of that day: what makes a part of a day comparable.
traffic_marks = Table(
    "traffic_marks",
    metadata,
    Column("until", _MOMENT, primary_key=True),  # the beginning of an hour
    Column("org_code", String(10), primary_key=True),
    Column("scheduled", Boolean, primary_key=True),
    Column("users", BigInteger, nullable=False),
)
