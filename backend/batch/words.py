"""A plan in words: why so many on Tuesday. RULE: text from values.

In: a `Plan`. Out: plain sentences for an operator, one per day, and one for what cannot be done.
"""

from __future__ import annotations

from datetime import date

from backend.batch.calendar import Mark
from backend.batch.plan import Plan, PlannedDay, Reason

_MARKS = {
    Mark.PAYDAY: "payday",
    Mark.MONTH_START: "the first of the month",
    Mark.MONTH_END: "the last of the month",
    Mark.HOLIDAY: "a holiday",
    Mark.TRADING: "a trading day",
}
_REASONS = {
    Reason.LEVEL: "filled up to the height of the other days",
    Reason.BUSY: "users alone reach the height of the other days",
    Reason.DONE: "what the batch did earlier on this day reaches the height of the other days",
    Reason.NOTHING: "no link is left for it",
    Reason.FULL: "no more fits into the transfer window",
    Reason.CLOSED: "there is no transfer window, or none is left",
    Reason.DUE: "more than on later days, because these links must not wait for them",
    Reason.WAITING: "less than on later days, because the other links may not go yet",
}


def because(plan: Plan, on: date) -> str:
    """One sentence about one day. Raises KeyError for a day that is not in the plan."""
    planned = plan.on(on)
    if planned is None:
        raise KeyError(on)
    return f"{named(planned)}: {planned.links:,} links, {planned.batch_calls:,} calls: {_REASONS[planned.reason]}; {_users(planned, plan)}"


def missing(plan: Plan) -> str | None:
    """What cannot be done. None: nothing."""
    if plan.shortfall is None:
        return None
    short = plan.shortfall
    return (
        f"{plan.org_code}: impossible from {_day(short.on)} on: {short.missing:,} links are too many by its end, "
        f"{short.at_the_end:,} of {plan.links:,} by the end of the week; longer windows or more calls a second are needed"
    )


def named(planned: PlannedDay) -> str:
    """`Wednesday 2026-11-25 (payday, a trading day)`."""
    marks = [_MARKS[mark] for mark in Mark if mark in planned.day.marks]
    return _day(planned.day.on) + (f" ({', '.join(marks)})" if marks else "")


def _users(planned: PlannedDay, plan: Plan) -> str:
    usual = sum(day.user_calls for day in plan.days) / len(plan.days)
    if not usual:
        return "users are expected to make no calls"
    off = round(100 * planned.user_calls / usual) - 100
    compared = f"{abs(off)} % {'more' if off > 0 else 'fewer'} than on the average day" if off else "as on the average day"
    return f"users are expected to make {planned.user_calls:,} calls, {compared}"


def _day(on: date) -> str:
    return f"{on:%A} {on.isoformat()}"
