"""What is asked again and again reads what it looks for, and not the table that it lies in: as PostgreSQL plans it in our sessions."""

from __future__ import annotations

from backend.storage import (
    batch_commands,
    batch_pruning,
    batch_steering,
    consent_days,
    idempotency,
    outbox,
    provider_statuses,
    traffic,
    traffic_marks,
    webhooks,
)
from backend.storage.database import Database
from backend.storage.statements import Statement

_ROWS = 20_000
_FILLED = (
    "INSERT INTO users (user_id, created_at) SELECT 'u' || n, now() FROM generate_series(1, {rows}) n",
    """INSERT INTO links (user_id, org_code, status, consent_tx_id, consent_ends_on, consented_at, scope, created_at, updated_at)
      SELECT 'u' || n, 'A', 'active', 'tx', current_date, now(), '', now(), now() FROM generate_series(1, {rows}) n""",
    """INSERT INTO idempotency_keys (user_id, key, body_digest, status, location, body, created_at)
      SELECT 'u' || n, 'k', '', 202, '', repeat('x', 200)::bytea, now() - n * interval '1 second' FROM generate_series(1, {rows}) n""",
    """INSERT INTO outbox (user_id, "offset", event, created_at)
      SELECT 'u' || n, 1, repeat('x', 200)::bytea, now() - n * interval '1 second' FROM generate_series(1, {rows}) n""",
    """INSERT INTO webhook_deliveries (user_id, webhook_id, "offset", id, event, due_at, created_at)
      SELECT user_id, 'wh', 1, gen_random_uuid(), event, created_at, created_at FROM outbox""",
    """INSERT INTO batch_commands (org_code, minute, week, day, start_due, start_link, limit_due, limit_link, size, per_100ms, per_minute,
        state, at_due, at_link, created_at)
      SELECT 'A' || n % 8, date_trunc('minute', now()) - n / 8 * interval '1 minute', current_date - n / 2000, current_date, current_date,
        1, current_date, 2, 10, 1, 60, 'ended', current_date, 1, now() FROM generate_series(1, {rows}) n""",
    """INSERT INTO batch_refreshes (user_id, org_code, week, link_id, minute, run, attempt, state, sent_at)
      SELECT 'u' || n, 'A', current_date + n / 2000, n, now() + n * interval '1 second', 1, 1, 'recorded', now()
      FROM generate_series(1, {rows}) n""",
    """INSERT INTO traffic SELECT date_trunc('hour', now()) - n / 8 * interval '1 hour', 'A' || n % 8, 'BA01', false, 1, 1, 0, 0, 1, 1,
      array_fill(1::bigint, array[13]) FROM generate_series(1, {rows}) n""",
    """INSERT INTO consent_history (user_id, org_code, tx_id, happened, ends_on, at)
      SELECT 'u' || n, 'A', 'tx', 'granted', current_date + n / 200, now() - n * interval '5 minutes' FROM generate_series(1, {rows}) n""",
    "INSERT INTO traffic_failures SELECT hour, org_code, api_code, scheduled, 'timeout', calls FROM traffic",
)
_WHOLE = "Seq Scan on"
_ASKED: dict[str, tuple[Statement, str]] = {
    "answers to forget": (idempotency._FORGET, "idempotency_keys"),
    "deliveries to give up": (webhooks._GIVE_UP, "webhook_deliveries"),
    "deliveries to forget": (webhooks._FORGET, "webhook_deliveries"),
    "facts left behind": (outbox._LEFT_BEHIND, "outbox"),
    "a slice of users to tell": (provider_statuses._TELL, "users"),
    "what a course took": (batch_commands._TAKEN_SINCE, "batch_commands"),
    "what courses took": (batch_commands._TAKEN_BY_EACH, "batch_commands"),
    "what ended lately": (batch_commands._ENDED_SINCE, "batch_commands"),
    "what courses took so far": (batch_steering._SUM_SINCE, "batch_commands"),
    "the last commands": (batch_steering._RUNNING, "batch_commands"),
    "calls of people": (batch_commands._USER_CALLS, "traffic"),
    "failed calls": (traffic_marks._FAILED, "traffic_failures"),
    "old links of the batch": (batch_pruning._BY_WEEK[0][0], "batch_refreshes"),
    "old commands": (batch_pruning._BY_WEEK[1][0], "batch_commands"),
    "consents of a day": (consent_days._ADD_UP, "consent_history"),
    "consents since then": (consent_days._CHANGED, "consent_history"),
    "consents that came late": (consent_days._LATE, "consent_history"),
    "old sums": (traffic._BY_MOMENT[2][0], "traffic"),
}


async def test_what_is_asked_each_second_or_minute_goes_along_an_index(database: Database) -> None:
    async with database.reading() as connection:
        for each in _FILLED:
            await connection.execute(each.format(rows=_ROWS))
        await connection.execute("ANALYZE")
        whole = {}
        for number, (name, (asked, table)) in enumerate(_ASKED.items()):
            await connection.execute(f"PREPARE asked_{number} AS {asked.sql}")
            nothing = ", ".join(["NULL"] * len(asked._names))
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE asked_{number}({nothing})"))
            await connection.execute(f"DEALLOCATE asked_{number}")
            if f"{_WHOLE} {table} " in plan:
                whole[name] = plan
    assert not whole, "\n".join(whole)
