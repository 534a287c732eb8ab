"""Messages to operators' channels as rows: a topic goes to a channel once, however many processes write and send.

In: messages, each under a topic that names it for good. Out: claims by lease for whoever sends; what became of them. Messages of one line
of a channel leave in their order: an end is not told before its beginning. A row stays for a while after it was sent, which is what keeps a
process that starts again from writing it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import Struct

from backend.storage.statements import Connection, statement

KEPT = timedelta(days=30)

_ADD = statement(
    """
    INSERT INTO notices (topic, channel, line, id, body, state, attempts, claims, due_at, created_at)
    SELECT :topic, channel, :line, gen_random_uuid(), :body, 'pending', 0, 0, :now, :now
    FROM unnest(CAST(:channels AS text[])) AS channel
    ON CONFLICT DO NOTHING
    """
)
_NOTE = statement(
    """
    INSERT INTO notices (topic, channel, line, id, body, state, attempts, claims, due_at, created_at, ended_at)
    VALUES (:topic, '', :line, gen_random_uuid(), :body, 'sent', 0, 0, :now, :now, :now) ON CONFLICT DO NOTHING
    """
)
# Whoever waited for a row's lock finds it leased, and leaves it alone: what is looked at again is the row as it is then.
_CLAIM = statement(
    """
    WITH first AS (
      SELECT DISTINCT ON (channel, line) topic, channel FROM notices
      WHERE state = 'pending' AND channel = ANY(CAST(:channels AS text[])) ORDER BY channel, line, created_at, topic),
    mine AS (
      SELECT notices.topic, notices.channel FROM notices JOIN first ON first.topic = notices.topic AND first.channel = notices.channel
      WHERE notices.state = 'pending' AND notices.due_at <= :now FOR UPDATE OF notices SKIP LOCKED)
    UPDATE notices SET claims = notices.claims + 1, due_at = :until FROM mine
    WHERE notices.topic = mine.topic AND notices.channel = mine.channel
    RETURNING notices.topic, notices.channel, notices.id, notices.body, notices.attempts, notices.claims, notices.created_at
    """
)
_OLDEST = statement("SELECT min(created_at) FROM notices WHERE state = 'pending' AND channel = ANY(CAST(:channels AS text[]))")
_SENT = statement("UPDATE notices SET state = 'sent', ended_at = :now WHERE topic = :topic AND channel = :channel AND state = 'pending'")
_AGAIN = statement(
    """
    UPDATE notices SET attempts = attempts + 1, due_at = :due_at
    WHERE topic = :topic AND channel = :channel AND claims = :claims AND state = 'pending'
    """
)
_GIVE_UP = statement(
    """
    UPDATE notices SET state = 'given_up', attempts = attempts + 1, ended_at = :now
    WHERE topic = :topic AND channel = :channel AND claims = :claims AND state = 'pending'
    """
)
_FORGET = statement(
    """
    DELETE FROM notices WHERE (topic, channel) IN (
      SELECT topic, channel FROM notices WHERE created_at < :before ORDER BY created_at LIMIT 1000)
    """
)


class Claim(Struct, frozen=True, kw_only=True):
    """One message in somebody's hands until its lease ends."""

    topic: str
    channel: str
    id: UUID  # the receiver's idempotency key: the same in every attempt
    body: str
    attempts: int  # that failed before
    claims: int  # fencing token
    created_at: datetime


async def add(connection: Connection, topic: str, line: str, channels: Sequence[str], body: str, now: datetime) -> int:
    """For how many of the channels it is new; for the others nothing changes."""
    return await _ADD.run(connection, {"topic": topic, "line": line, "channels": list(channels), "body": body, "now": now})


async def note(connection: Connection, topic: str, line: str, body: str, now: datetime) -> bool:
    """A message for nobody, which is not sent. False: it was noted before."""
    return await _NOTE.run(connection, {"topic": topic, "line": line, "body": body, "now": now}) > 0


async def claim(connection: Connection, channels: Sequence[str], *, now: datetime, until: datetime) -> list[Claim]:
    """Takes what may be sent now, at most one message of each line of each channel; it is ours until `until`."""
    return [Claim(**row) for row in await _CLAIM.rows(connection, {"channels": list(channels), "now": now, "until": until})]


async def sent(connection: Connection, taken: Claim, now: datetime) -> None:
    """The receiver has it, whoever claims it meanwhile."""
    await _SENT.run(connection, {"topic": taken.topic, "channel": taken.channel, "now": now})


async def oldest(connection: Connection, channels: Sequence[str]) -> datetime | None:
    """When the oldest message was written that waits for one of these; None: none does."""
    moment: datetime | None = await _OLDEST.value(connection, {"channels": list(channels)})
    return moment


async def again(connection: Connection, taken: Claim, due_at: datetime) -> bool:
    """It is tried again. False: the lease had gone to somebody else."""
    return await _AGAIN.run(connection, {**_key(taken), "due_at": due_at}) > 0


async def give_up(connection: Connection, taken: Claim, now: datetime) -> bool:
    """It is never tried again. False: the lease had gone to somebody else."""
    return await _GIVE_UP.run(connection, {**_key(taken), "now": now}) > 0


async def forget(connection: Connection, *, before: datetime) -> int:
    """Deletes some of what is older."""
    return await _FORGET.run(connection, {"before": before})


def _key(taken: Claim) -> dict[str, object]:
    return {"topic": taken.topic, "channel": taken.channel, "claims": taken.claims}
