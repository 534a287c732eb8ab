"""How the batch goes, and why it was planned so, as operators are shown. RULE: values from rows.

In: a provider's plan, its sums of the week, its last command, the moment. Out: the contract's figures. What is due is counted while it is
little, else it is what the plan counted less what has gone since, so that it and what is done are never more than there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from msgspec import Struct

from backend.batch.calendar import Closures, day_of, in_korea
from backend.batch.courses import Task, lag, task_of_day
from backend.batch.pace import MINUTE, SECONDS_OF_MINUTE
from backend.batch.plan import Plan, PlannedDay, Reason, Shortfall
from backend.batch.terms import Terms, midnight
from backend.batch.words import because, missing
from backend.clock import iso
from backend.providers.contract import Provider

FEW = 100  # links of each provider up to which they are counted whenever somebody looks
MOST_COUNTED = 10_000  # links of all of them, those first that have little left: a look takes no longer than some ten milliseconds
LATELY = timedelta(minutes=2)  # and the minute that runs: so long a pace is looked at that is not the planned one
SETTLED = timedelta(seconds=5)  # of a minute, after which its own pace is known


class Row(Protocol):
    """A row of a table, or what has its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


class OfProvider(Struct, frozen=True, kw_only=True):
    """What is known of a provider at one moment."""

    provider: Provider
    plan: Row | None = None  # of `batch_plans.plans`; None: it is not planned yet
    days: Sequence[Row] = ()  # of `batch_days`
    sums: Row | None = None  # of `batch_steering.sums`; None: it had no command
    troubled: Row | None = None  # of `batch_steering.troubled`
    latest: Row | None = None  # its last command of a minute that has begun lately
    remains: int = 0  # links of its plan
    counted: int = 0  # links that are due, or as far as they were counted
    is_exact: bool = True  # whether there are no more
    task: Task | None = None  # what it is doing; None: nothing
    taken: int = 0  # of the task
    lately: int = 0  # of that, since `recent`
    hold: Row | None = None  # of `batch_steering.paused`; None: it is not held


def shown(of: OfProvider, terms: Terms, now: datetime) -> dict[str, Any]:
    """The contract's row of a provider."""
    due, task = due_now(of), of.task
    ends = None if of.hold is not None or not due else finish(of, terms, now)
    return {
        "org_code": of.provider.org_code,
        "name": of.provider.name,
        "due": due,
        "done": of.sums["recorded"] if of.sums else 0,
        "failed": of.troubled["failed"] if of.troubled else 0,
        "skipped": of.sums["skipped"] if of.sums else 0,
        "unknown": of.troubled["unknown"] if of.troubled else 0,
        "planned_today": planned_today(of, now),
        "pace_per_minute": pace(of.latest, now),
        "eased": is_eased(of.latest, now),
        **({"finish_estimate": iso(ends)} if ends is not None else {}),
        "lag_seconds": round(lag(task, taken=of.taken, now=now), 1) if task is not None and due and of.hold is None else 0.0,
        "paused": of.hold is not None,
        **(_held(of.hold) if of.hold is not None else {}),
        "rehearsal": task is not None and task.is_rehearsal,
        **({"rehearsal_links": task.links} if task is not None and task.is_rehearsal else {}),
    }


def _held(hold: Row) -> dict[str, Any]:
    """Why, and until when; without an end an operator ends it."""
    return {"paused_because": hold["reason"], **({"paused_until": iso(hold["until"])} if hold["until"] is not None else {})}


def remaining(plan: Row | None, sums: Row | None) -> int:
    """Links of a plan that have not gone since it was made. Without a plan, none."""
    return max(plan["links"] - (sums["gone"] if sums else 0), 0) if plan else 0


def most_counted(expected: Mapping[str, int]) -> dict[str, int]:
    """By provider, up to how many of its due links are counted. `expected`: about so many; where it is more, what others leave is used."""
    within, left = set(), MOST_COUNTED
    for org_code, links in sorted(expected.items(), key=lambda item: item[1]):
        if links > left:
            break
        within.add(org_code)
        left -= links
    return {code: (links + left if code in within else 0) + FEW + 1 for code, links in expected.items()}


def due_now(of: OfProvider) -> int:
    """Links that are due, and not under way."""
    return of.counted if of.is_exact else max(of.remains, of.counted)


def planned_today(of: OfProvider, now: datetime) -> int:
    """Links that the plan has for this day, from the moment on in which it was made."""
    return next((int(row["links"]) for row in of.days if row["day"] == in_korea(now)), 0)


def pace(latest: Row | None, now: datetime) -> int:
    """Links a minute that leave now: as the minute's command has it, and once that runs, as it has gone so far."""
    if latest is None or not latest["minute"] <= now < latest["minute"] + MINUTE:
        return 0
    heard = latest["beat_at"]
    if heard is None or heard < latest["minute"] + SETTLED:
        return int(latest["size"])
    seconds: float = (min(heard, latest["minute"] + MINUTE) - latest["minute"]).total_seconds()
    return round(float(latest["sent"] + latest["skipped"]) / seconds * SECONDS_OF_MINUTE)


def is_eased(latest: Row | None, now: datetime) -> bool:
    """Whether less leaves now than is planned, since the provider showed that it has enough."""
    return latest is not None and latest["minute"] <= now < latest["minute"] + MINUTE and bool(latest["eased"])


def recent(task: Task, now: datetime) -> datetime:
    """From when on a task's own pace is looked at: some whole minutes ago, or its beginning."""
    since = now.replace(second=0, microsecond=0) - LATELY
    return max([since, *task.minutes[:1]])


def finish(of: OfProvider, terms: Terms, now: datetime) -> datetime | None:
    """When the last link that is due leaves, if all goes as planned. None: this week it does not, or nobody can tell."""
    if of.task is not None and of.task.is_rehearsal:
        return _ends(of, of.task, now)
    if of.plan is None or of.plan["left_over"] or not terms.automatic:
        return None
    last = max((row for row in of.days if row["links"] and row["day"] >= in_korea(now)), key=lambda row: row["day"], default=None)
    if last is None:
        return None
    if last["day"] == in_korea(now):
        return _ends(of, of.task, now) if of.task is not None else None
    return task_of_day(last["links"], terms.minutes_on(of.provider, last["day"]), midnight(last["day"])).ends


def _ends(of: OfProvider, task: Task, now: datetime) -> datetime | None:
    """As planned; while its provider asked for less, at the pace of the last minutes. None: at that pace not all will go."""
    planned = _later(task, now)
    if planned is None or not is_eased(of.latest, now):
        return planned
    if not of.lately:
        return None
    ends = now + task.left(of.taken) / of.lately * (now - recent(task, now))
    return max(planned, ends) if ends <= task.minutes[-1] + MINUTE else None


def _later(task: Task, now: datetime) -> datetime | None:
    """The end of a task's course; of one that is behind, the end of its reserve; None: that is over, too."""
    last = task.minutes[-1] + MINUTE if task.minutes else None
    return next((ends for ends in (task.ends, last) if ends is not None and ends > now), None)


def plan_of(provider: Provider, row: Row, days: Sequence[Row], closures: Closures) -> Plan:
    """The plan whose rows these are."""
    on: date | None = row["impossible_on"]
    return Plan(
        org_code=provider.org_code,
        days=tuple(
            PlannedDay(
                day=day_of(day["day"], closures),
                links=day["links"],
                batch_calls=day["batch_calls"],
                user_calls=day["user_calls"],
                already=day["already"],
                room=day["room"],
                reason=Reason(day["reason"]),
            )
            for day in days
        ),
        links=row["links"],
        calls_per_link=row["calls_per_link"],
        gap=row["gap"],
        shortfall=None if on is None else Shortfall(on, row["missing"], row["left_over"]),
    )


def explained(provider: Provider, row: Row, days: Sequence[Row], closures: Closures) -> dict[str, Any]:
    """A plan with its reasons, in words. Days that are over are as they were planned last."""
    made = plan_of(provider, row, days, closures)
    said, error = missing(made), row["forecast_error"]
    return {
        "org_code": provider.org_code,
        "name": provider.name,
        "planned_at": iso(row["planned_at"]),
        "links": made.links,
        "calls_per_link": made.calls_per_link / 1000,
        "gap": made.gap,
        "peak_to_mean": round(made.peak_to_mean, 4) if made.days else 1.0,
        **({"forecast_error": round(error, 4)} if error is not None else {}),
        **({"impossible": said} if said is not None else {}),
        "days": [{**day_row(day), "because": because(made, day.day.on)} for day in made.days],
    }


def day_row(day: PlannedDay) -> dict[str, Any]:
    """A planned day as JSON has it: the columns of `batch_days` that differ from day to day, and what operators are shown."""
    return {
        "day": day.day.on.isoformat(),
        "links": day.links,
        "batch_calls": day.batch_calls,
        "user_calls": day.user_calls,
        "already": day.already,
        "room": day.room,
        "reason": day.reason.value,
    }
