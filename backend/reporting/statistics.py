"""The weekly report that the law asks for, from sums. RULE: pure.

In: sums of a week (Sunday to Saturday, days in Korea) by institution, API, asker, day and time of day; how calls failed; consents. Out: the
same by institution and API for operators, and the very body that the portal wants (support API 004 of the standard, section 8): one for
scheduled calls (type 1), one for users' (type 2). Calls that we ended ourselves are neither successes nor failures, and in no time.
Probes of circuits (CM01, no x-api-type) are nobody's calls: operators see them apart, the portal has no kind for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from msgspec import Struct

from backend.providers.traffic import PROBES
from backend.reporting.figures import NOTHING, Sums, grouped

DAYS = 7
AT_WORK, OTHERWISE = "00", "01"  # tm_slot: from 09:00 to 18:00, and the rest of the day


class Slot(Struct, frozen=True, kw_only=True):
    """Sums of one API in one part of one day."""

    day: date
    at_work: bool
    org_code: str
    api_code: str
    scheduled: bool
    sums: Sums


class Consents(Struct, frozen=True, kw_only=True):
    """What became of the consents of one institution on one day."""

    day: date
    org_code: str
    new: int
    revoked: int
    held: int  # when the day ended


class Week(Struct, frozen=True):
    """Everything that is known of a week."""

    begins: date  # a Sunday
    slots: tuple[Slot, ...]
    failures: tuple[tuple[str, bool, str, int], ...]  # org_code, scheduled, reason, calls; without probes
    consents: tuple[Consents, ...]
    missing: tuple[date, ...] = ()  # days of which consents are still being added up

    @property
    def days(self) -> Sequence[date]:
        """Sunday to Saturday."""
        return [self.begins + timedelta(days=number) for number in range(DAYS)]


def sunday_of(day: date) -> date:
    """The Sunday with which the week of a day begins."""
    return day - timedelta(days=(day.weekday() + 1) % DAYS)


def summed_up(before: Iterable[Consents], changed: Iterable[Consents], last: date) -> Sequence[Consents]:
    """Each day from the first that changed up to `last`, of everybody who was there by then.

    `before`: of the day before them; `changed`: by day, where `held` is by how many there are more than the day before.
    """
    held = {each.org_code: each.held for each in before}
    by_day: dict[date, dict[str, Consents]] = {}
    for each in changed:
        by_day.setdefault(each.day, {})[each.org_code] = each
    day = max((each.day + timedelta(days=1) for each in before), default=min(by_day, default=last))
    found = []
    while day <= last:
        of_day = by_day.get(day, {})
        held |= {code: held.get(code, 0) + each.held for code, each in of_day.items()}
        for code in sorted(held):
            new, revoked = (of_day[code].new, of_day[code].revoked) if code in of_day else (0, 0)
            found.append(Consents(day=day, org_code=code, new=new, revoked=revoked, held=held[code]))
        day += timedelta(days=1)
    return found


def figures(sums: Sums) -> dict[str, Any]:
    """As operators see them; without times when no call ended."""
    shown: dict[str, Any] = {
        "calls": sums.calls,
        "successes": sums.successes,
        "failures": sums.failures,
        "cancelled": sums.cancelled,
        "slow": sums.slow,
    }
    if sums.ended:
        shown |= {"mean_ms": sums.mean_ms, "deviation_ms": sums.deviation_ms}
    return shown


def report(week: Week, names: Mapping[str, str], industries: Mapping[str, str]) -> dict[str, Any]:
    """By institution, in the order of codes: whoever was called in that week, or was held a consent for."""
    codes = sorted({each.org_code for each in week.slots} | {each.org_code for each in week.consents})
    return {
        "week": week.begins.isoformat(),
        "ends": week.days[-1].isoformat(),
        "providers": [_of_one(code, week, names.get(code, code), industries.get(code)) for code in codes],
        **({"consents_missing": [day.isoformat() for day in week.missing]} if week.missing else {}),
    }


def portal(week: Week, *, scheduled: bool, client_id: str, leave_out: frozenset[str]) -> dict[str, Any]:
    """The body of `POST /mgmts/statistics/mydata`: every value is a string. `leave_out`: institutions that are no providers."""
    days = []
    for day in week.days:
        slots = [each for each in week.slots if each.day == day and _is_told(each, leave_out, scheduled=scheduled)]
        consents = {each.org_code: each for each in week.consents if each.day == day}
        codes = sorted({each.org_code for each in slots} | consents.keys())
        days.append({"stat_date": f"{day:%Y%m%d}", "org_list": [_of_org(code, slots, consents.get(code)) for code in codes]})
    return {
        "type": "1" if scheduled else "2",
        "client_id": client_id,
        "inquiry_date": f"{week.begins + timedelta(days=DAYS):%Y%m%d}",
        "stat_date_cnt": str(DAYS),
        "stat_date_list": days,
    }


def _is_told(slot: Slot, leave_out: frozenset[str], *, scheduled: bool) -> bool:
    return slot.scheduled is scheduled and slot.org_code not in leave_out and slot.api_code != PROBES


def _of_one(org_code: str, week: Week, name: str, industry: str | None) -> dict[str, Any]:
    own = [each for each in week.slots if each.org_code == org_code]
    slots = [each for each in own if each.api_code != PROBES]
    by_asker = grouped(slots, lambda each: each.scheduled, lambda each: each.sums)
    by_api = grouped(slots, lambda each: (each.api_code, each.scheduled), lambda each: each.sums)
    consents = [each for each in week.consents if each.org_code == org_code]
    return {
        "org_code": org_code,
        "name": name,
        "industry": industry,
        "by_user": figures(by_asker.get(False, NOTHING)),
        "scheduled": figures(by_asker.get(True, NOTHING)),
        "probes": figures(sum((each.sums for each in own if each.api_code == PROBES), NOTHING)),
        "failures_by_reason": [
            {"reason": reason, "scheduled": by_batch, "calls": calls} for code, by_batch, reason, calls in week.failures if code == org_code
        ],
        "consents": {
            "new": sum(each.new for each in consents),
            "revoked": sum(each.revoked for each in consents),
            "held": max(consents, key=lambda each: each.day).held if consents else 0,
        },
        "apis": [{"api_code": api_code, "scheduled": by_batch, **figures(sums)} for (api_code, by_batch), sums in sorted(by_api.items())],
    }


def _of_org(org_code: str, slots: Iterable[Slot], consents: Consents | None) -> dict[str, Any]:
    own = [each for each in slots if each.org_code == org_code]
    return {
        "org_code": org_code,
        "consent_new": str(consents.new if consents else 0),
        "consent_revoke": str(consents.revoked if consents else 0),
        "consent_own": str(consents.held if consents else 0),
        "api_type_list": [
            {"api_type": code, "tm_slot_cnt": "2", "tm_slot_list": [_of_slot(code, at_work, own) for at_work in (True, False)]}
            for code in sorted({each.api_code for each in own})
        ],
    }


def _of_slot(api_code: str, at_work: bool, own: Iterable[Slot]) -> dict[str, str]:
    sums = sum((each.sums for each in own if each.api_code == api_code and each.at_work is at_work), NOTHING)
    return {
        "tm_slot": AT_WORK if at_work else OTHERWISE,
        "rsp_avg": f"{sums.mean_ms or 0:.2f}",
        "rsp_total": str(sums.ms),
        "rsp_stdev": f"{sums.deviation_ms or 0:.2f}",
        "success_api_cnt": str(sums.successes),
        "fail_api_cnt": str(sums.failures),
    }
