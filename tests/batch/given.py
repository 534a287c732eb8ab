"""What tests of the batch begin with: a week, and what is known about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from backend.batch.calendar import Day, day_of, days_from
from backend.batch.closures import closures_of
from backend.batch.plan import Outlook

SUNDAY = date(2026, 11, 22)  # its Wednesday is a payday
CLOSURES = closures_of([2025, 2026, 2027])


def days(count: int = 7, first: date = SUNDAY) -> tuple[Day, ...]:
    return tuple(day_of(on, CLOSURES) for on in days_from(first, count))


def outlook(user_calls: Sequence[int], links: int, **more: Any) -> Outlook:
    """With room for everything unless said."""
    given: dict[str, Any] = {"room": (10**9,) * len(user_calls), "calls_per_link": 1000, **more}
    return Outlook(org_code="A1MOABK001", days=days(len(user_calls)), user_calls=tuple(user_calls), links=links, **given)
