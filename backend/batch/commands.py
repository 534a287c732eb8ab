"""What the batch is told to do, and where in the order of links: commands, positions, and the job that carries one out. RULE: values.

In: what the coordinator decided for one minute of one provider. Out: a frozen `ScheduledSendCommand`, which is a row (`batch_commands`),
and a job that names the row. The job carries no range: a worker that begins it reads the row, and with it how far others came.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from msgspec import Struct

from backend.batch.calendar import DAYS_OF_A_WEEK
from backend.clock import iso
from backend.jobs.queue import Job

SCHEDULED_SEND = "scheduled_send"  # the job's function
NEVER_PLANNED = date(2000, 1, 1)  # `due_on` of a link that the batch never had: as soon as may be


class Position(Struct, frozen=True, order=True):
    """A place in a provider's order of links: those due first come first, those of one day by the link's number."""

    due_on: date
    link_id: int


BEGINNING = Position(NEVER_PLANNED, 0)  # before every link


class ScheduledSendCommand(Struct, frozen=True, kw_only=True):
    """One minute of one provider: the links behind `start`, up to and with `limit`."""

    org_code: str
    minute: datetime  # when it begins; names it, together with `org_code`
    week: date  # its Sunday
    start: Position
    limit: Position
    size: int  # links in between that were due when it was made
    per_100ms: int  # most links of a tenth of a second
    per_minute: int  # most links that the provider takes in a minute, at least `size`


def command_id(org_code: str, minute: datetime) -> str:
    """Names a command, and its job: asked for twice, there is one."""
    return f"batch:{org_code}:{iso(minute)}"


def command_job(org_code: str, minute: datetime) -> Job:
    """The job that carries a command out, for `QueueName.BATCH`."""
    return Job(SCHEDULED_SEND, {"org_code": org_code, "minute": iso(minute)}, command_id(org_code, minute))


def last_day(week: date) -> date:
    """The Saturday of the week that begins with this Sunday: what is due by then is this week's."""
    return week + timedelta(days=DAYS_OF_A_WEEK - 1)


def due_next(week: date, on: date, max_age_days: int = 0) -> date:
    """When a link that is done with on the day `on` of this week is due again: by the end of the next one, or sooner if it ages sooner.

    `max_age_days` 0: links may be as old as the week lets them. Never in this week, in which it is not read again, however soon it ages: it
    would stand in the way of all that are due.
    """
    by_week = last_day(week) + timedelta(days=DAYS_OF_A_WEEK)
    by_age = max(on + timedelta(days=max_age_days), week + timedelta(days=DAYS_OF_A_WEEK))
    return min(by_week, by_age) if max_age_days else by_week


class DueLink(Struct, frozen=True):
    """One link of a page."""

    position: Position
    user_id: str


class ScheduledSendOperator(Struct, frozen=True):
    """One page of a command: a second's links, on their way from whoever reads them to whoever sends them."""

    command: str  # `command_id`
    number: int  # of the page, in this run
    links: tuple[DueLink, ...]
