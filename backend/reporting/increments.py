"""From reports to what is to be added: each report once, all of them in one. RULE: pure.

In: reports as a stream gives them (again, out of order, of any node), and the numbers that are in the sums already. Out: one `Increments`
with at most one row per key, so that one statement can add it. What a report says is added whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from backend.providers.circuits import Report
from backend.providers.traffic import Rollup, merged

Rows = list[dict[str, Any]]


class Increments(Struct, frozen=True):
    """What reports say beyond what is in the sums."""

    reports: int  # that are new
    uncounted: int  # calls, or users of calls, for which their nodes had no room
    rows: Mapping[str, Rows]  # as `storage.traffic.add` takes them


def increments(reports: Iterable[Report], counted: Mapping[str, Sequence[range]], *, oldest_day: int) -> Increments:
    """What to add. `counted`: numbers by node; `oldest_day` (in Korea, as days since 1970-01-01): users of earlier ones are left out.

    Raises `ValueError` for roll-ups that cannot be added up.
    """
    fresh = _fresh(reports, counted)
    sums = merged(rollup for report in fresh for rollup in report.rollups).values()
    uncounted = sum(report.uncounted for report in fresh)
    return Increments(
        len(fresh),
        uncounted,
        {
            "nodes": _nodes(fresh),
            "sums": [_sum(rollup) for rollup in sums],
            "failures": [_named(rollup, reason=reason, calls=calls) for rollup in sums for reason, calls in rollup.failures.items()],
            "seen": _seen(fresh, oldest_day),
        },
    )


def _fresh(reports: Iterable[Report], counted: Mapping[str, Sequence[range]]) -> list[Report]:
    """Each number once, and none that is counted. All of one number say the same."""
    once = {(report.node, report.number): report for report in reports}
    return [report for (node, number), report in once.items() if not any(number in numbers for numbers in counted.get(node, ()))]


def _nodes(fresh: Sequence[Report]) -> Rows:
    numbers: dict[str, list[int]] = {}
    uncounted: dict[str, int] = {}
    for report in fresh:
        numbers.setdefault(report.node, []).append(report.number)
        uncounted[report.node] = uncounted.get(report.node, 0) + report.uncounted
    return [{"node": node, "counted": _ranges(each), "uncounted": uncounted[node]} for node, each in numbers.items()]


def _ranges(numbers: list[int]) -> str:
    """As PostgreSQL reads a multirange; it joins neighbours by itself."""
    return "{" + ",".join(f"[{number},{number}]" for number in numbers) + "}"


def _named(rollup: Rollup, **more: Any) -> dict[str, Any]:
    return {"hour": rollup.hour, "org_code": rollup.org_code, "api_code": rollup.api_code, "scheduled": rollup.scheduled, **more}


def _sum(rollup: Rollup) -> dict[str, Any]:
    return _named(
        rollup,
        calls=rollup.calls,
        successes=rollup.successes,
        cancelled=rollup.cancelled,
        slow=rollup.slow,
        ms=rollup.ms,
        ms_squared=rollup.ms_squared,
        histogram=rollup.histogram,
    )


def _seen(fresh: Sequence[Report], oldest_day: int) -> Rows:
    users: dict[tuple[str, bool, int], set[str]] = {}
    for report in fresh:
        for seen in report.seen:
            if seen.day >= oldest_day:
                users.setdefault((seen.org_code, seen.scheduled, seen.day), set()).update(seen.users)
    return [
        {"org_code": org_code, "scheduled": scheduled, "day": day, "users": sorted(named)}
        for (org_code, scheduled, day), named in users.items()
    ]
