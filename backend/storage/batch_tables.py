"""Tables of the weekly batch: plans, commands, and what became of each link in each week. `schema.py` puts all tables together.

What links are due when lies in `links` itself (`tables.py`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Date, DateTime, Double, Index, Integer, SmallInteger, String, Table, Text, text

from backend.storage.tables import metadata

_MOMENT = DateTime(timezone=True)

# One provider's rest of a week, as it was planned last.
batch_plans = Table(
    "batch_plans",
    metadata,
    Column("week", Date, primary_key=True),  # its Sunday
    Column("org_code", String(10), primary_key=True),
    Column("links", BigInteger, nullable=False),  # that remained
    Column("calls_per_link", Integer, nullable=False),  # in thousandths
    Column("gap", BigInteger, nullable=False),  # calls of its peak above the lowest that is possible
    Column("impossible_on", Date, nullable=True),  # the first day by whose end not everything can be done; NULL: all can
    Column("missing", BigInteger, nullable=False),  # links that are too many by then
    Column("left_over", BigInteger, nullable=False),  # links that are left after the week
    Column("forecast_error", Double, nullable=True),  # of the last weeks, as a share; NULL: there is no history
    Column("planned_at", _MOMENT, nullable=False),
    Column("is_stale", Boolean, nullable=False, server_default=text("false")),  # whether it is to be made again at once
)

batch_days = Table(
    "batch_days",
    metadata,
    Column("week", Date, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("day", Date, primary_key=True),  # in Korea
    Column("links", BigInteger, nullable=False),  # to be begun on it from `planned_at` on
    Column("batch_calls", BigInteger, nullable=False),
    Column("user_calls", BigInteger, nullable=False),  # expected
    Column("already", BigInteger, nullable=False),  # calls that the batch had made on it before the plan
    Column("room", BigInteger, nullable=False),  # most calls that fit into its windows
    Column("reason", String(16), nullable=False),  # `batch.plan.Reason`
    Column("planned_at", _MOMENT, nullable=False),
)

# Windows that operators opened beside a provider's own, for rehearsals.
batch_windows = Table(
    "batch_windows",
    metadata,
    Column("org_code", String(10), primary_key=True),
    Column("begins", _MOMENT, primary_key=True),
    Column("ends", _MOMENT, nullable=False),
    Column("asked_by", Text, nullable=False),
    Column("asked_at", _MOMENT, nullable=False),
    Column("links", BigInteger, nullable=True),  # that were due at `counted_at`; NULL: they are not counted yet
    Column("counted_at", _MOMENT, nullable=True),
)

batch_pauses = Table(
    "batch_pauses",
    metadata,
    Column("org_code", String(10), primary_key=True),  # "": all
    Column("asked_by", Text, nullable=False),
    Column("asked_at", _MOMENT, nullable=False),
    Column("reason", String(16), nullable=False, server_default=text("'operator'")),  # operator, out_of_window, provider_busy
    Column("until", _MOMENT, nullable=True),  # when it ends by itself; NULL: an operator ends it
)

# One minute of one provider. Its range of positions (due_on, link_id) begins behind `start` and ends with `limit`.
batch_commands = Table(
    "batch_commands",
    metadata,
    Column("org_code", String(10), primary_key=True),
    Column("minute", _MOMENT, primary_key=True),  # when it begins
    Column("week", Date, nullable=False),
    Column("day", Date, nullable=False),  # whose plan it is part of
    Column("start_due", Date, nullable=False),
    Column("start_link", BigInteger, nullable=False),
    Column("limit_due", Date, nullable=False),
    Column("limit_link", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),  # links
    Column("per_100ms", Integer, nullable=False),  # most links of a tenth of a second
    Column("per_minute", Integer, nullable=False),  # most links that the provider takes in a minute
    Column("state", String(16), nullable=False),  # waiting, running, ended
    Column("run", Integer, nullable=False, server_default=text("0")),  # fencing token: how often it was begun
    Column("at_due", Date, nullable=False),  # how far it is
    Column("at_link", BigInteger, nullable=False),
    Column("sent", Integer, nullable=False, server_default=text("0")),  # first calls begun
    Column("recorded", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("skipped", Integer, nullable=False, server_default=text("0")),  # their person refreshed them this week
    Column("unknown", Integer, nullable=False, server_default=text("0")),  # attempts whose worker died
    Column("beat_at", _MOMENT, nullable=True),  # its last checkpoint
    Column("created_at", _MOMENT, nullable=False),
    Column("ended_at", _MOMENT, nullable=True),
    Column(
        "eased", Boolean, nullable=False, server_default=text("false")
    ),  # whether its provider asked for less, when it was heard of last
    Index("batch_commands_open_idx", "org_code", "minute", postgresql_where=text("state <> 'ended'")),
    Index("batch_commands_week_idx", "week", "org_code", "minute"),
)

# What became of each link in each week. Committed before the call is made: whoever finds `sent` of a worker that died knows no more.
batch_refreshes = Table(
    "batch_refreshes",
    metadata,
    Column("user_id", Text, primary_key=True),
    Column("org_code", String(10), primary_key=True),
    Column("week", Date, primary_key=True),
    Column("link_id", BigInteger, nullable=False),
    Column("minute", _MOMENT, nullable=False),  # of the command that sent it last
    Column("run", Integer, nullable=False),  # of that command
    Column("attempt", SmallInteger, nullable=False),  # 1 is the first
    Column("state", String(16), nullable=False),  # sent, recorded, failed, unknown, left (not again this week)
    Column("error_code", String(64), nullable=True),
    Column("sent_at", _MOMENT, nullable=False),
    Column("ended_at", _MOMENT, nullable=True),
    # The minute first: what looks for one link's row must never be led to all rows of its provider.
    Index("batch_refreshes_command_idx", "minute", "org_code"),
    Index("batch_refreshes_troubled_idx", "week", "org_code", "state", postgresql_where=text("state IN ('failed', 'unknown', 'left')")),
    Index("batch_refreshes_week_idx", "week", postgresql_using="brin"),  # what is old goes
)
