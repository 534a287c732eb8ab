"""Traffic, statistics and alerts over HTTP, for operators.

In: requests with a token of scope `ops`. Out: sums and counts of institutions, never of a person, so nobody's data is read here and none of
it needs an entry in the operators' log. A day is one in Korea; a week is named by the Sunday with which it begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backend.clock import Clock, iso
from backend.errors import Problem, Refused
from backend.events import Industry, to_json
from backend.identity import Identity, TokenVerifier, identify
from backend.providers.directory import Directory
from backend.providers.traffic import PROBES
from backend.reporting.alarms import Alerts
from backend.reporting.comparing import Comparing, industries_of, names_of
from backend.reporting.comparison import Category, Cause, Compared, Figure, Mark, OfOne, hours_of
from backend.reporting.figures import NOTHING, Sums, day_of, grouped
from backend.reporting.morning_text import Language, morning_text
from backend.reporting.reading import OfApi, Traffic
from backend.reporting.statistics import DAYS, figures, portal, report, sunday_of
from backend.reporting.weeks import Weeks
from backend.storage.alerts import Alert
from backend.web import json_answer, limit_of, malformed

FORMS = ("summary", "portal")
TYPES = {"1": True, "2": False}  # of the portal's body: scheduled calls, or users'
MISSING_FOR = 60  # seconds after which to ask again for what is still being added up
_MISSING = "Consents of that week are still being added up. Nothing was lost; try again in a minute."
OLDEST = date(2000, 1, 1)  # of a day that can be asked for
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)  # of ISO 8601's forms this one alone


@dataclass(frozen=True, kw_only=True)
class ReportEndpoints:
    """What the endpoints need; `routes` serves them."""

    verifier: TokenVerifier
    traffic: Traffic
    comparing: Comparing
    weeks: Weeks
    alerts: Alerts
    directory: Callable[[], Directory]
    clock: Clock
    client_id: str  # ours, at the portal

    def routes(self) -> list[Route]:
        return [
            Route("/ops/traffic", self.compared, methods=["GET"]),
            Route("/ops/statistics", self.statistics, methods=["GET"]),
            Route("/ops/alerts", self.alarms, methods=["GET"]),
        ]

    async def compared(self, request: Request) -> Response:
        """A day beside the same weekday a week before."""
        await self._operator(request)
        now = self.clock.now()
        day = _day(request, "date") or day_of(now)
        if day > day_of(now):
            raise malformed("date", "that day has not begun in Korea")
        until = hours_of(day, now)
        compared = await self.comparing.compared(day, until)
        called = await self.traffic.by_api(day)
        sums, probes = (_by_provider(called, probes=probes) for probes in (False, True))
        losses = await self.traffic.losses()
        names, industries = names_of(self.directory()), industries_of(self.directory())
        so_far = grouped(sums.items(), lambda each: industries.get(each[0]), lambda each: each[1])
        shown = {
            "date": day.isoformat(),
            "compared_with": compared.before.isoformat(),
            "until": iso(until),
            "history": compared.history,
            **({"history_since": iso(compared.known_since)} if compared.known_since else {}),
            "categories": [_category(each, so_far.get(each.industry, NOTHING), names) for each in compared.categories],
            "providers": [
                _provider(each, sums.get(each.org_code, NOTHING), probes.get(each.org_code, NOTHING), names)
                for each in _everybody(compared, sums.keys() | probes.keys(), industries)
            ],
            "text": {language.value: morning_text(compared, names, language) for language in Language},
            "losses": {"reports": losses.reports, "calls": losses.calls},
        }
        return json_answer(to_json(shown))

    async def statistics(self, request: Request) -> Response:
        """The weekly report, for operators or as the portal wants it."""
        await self._operator(request)
        sunday = self._week(request)
        form, kind = (request.query_params.get("form", FORMS[0]), request.query_params.get("type", "1"))
        if form not in FORMS:
            raise malformed("form", "`summary` or `portal`")
        if kind not in TYPES:
            raise malformed("type", "`1` (scheduled calls) or `2` (users' calls)")
        today = day_of(self.clock.now())
        week = await self.weeks.week(sunday, today)
        directory = self.directory()
        if form == FORMS[1]:
            if week.missing:
                raise Refused(Problem.ENGINE_UNAVAILABLE, _MISSING, retry_after=MISSING_FOR)
            leave_out = frozenset({directory.ca.org_code})
            return json_answer(to_json(portal(week, scheduled=TYPES[kind], client_id=self.client_id, leave_out=leave_out)))
        industries = {org_code: industry.value for org_code, industry in industries_of(directory).items()}
        over = today >= sunday + timedelta(days=DAYS)
        return json_answer(to_json({**report(week, names_of(directory), industries), "complete": over and not week.missing}))

    async def alarms(self, request: Request) -> Response:
        """What is wrong now, since when; and what was."""
        await self._operator(request)
        state = request.query_params.get("state")
        if state not in {None, "open"}:
            raise malformed("state", "`open`, or nothing for all")
        only_open = state is not None
        found = await self.alerts.listed(only_open=only_open, limit=limit_of(request, default=100, most=1000))
        return json_answer(to_json({"alerts": [_alert(each) for each in found]}))

    def _week(self, request: Request) -> date:
        """Unsaid: the last week that is over."""
        today = day_of(self.clock.now())
        asked = _day(request, "week")
        if asked is None:
            return sunday_of(today) - timedelta(days=DAYS)
        if asked != sunday_of(asked):
            raise malformed("week", f"a Sunday is needed; the one of that week is {sunday_of(asked).isoformat()}")
        if asked > today:
            raise malformed("week", "that week has not begun in Korea")
        return asked

    async def _operator(self, request: Request) -> Identity:
        return await identify(request, self.verifier, scope="ops")


def _day(request: Request, name: str) -> date | None:
    """`YYYY-MM-DD`; None: it is not said."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        found = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        found = None
    if found is None or found < OLDEST:
        raise malformed(name, "a day, as YYYY-MM-DD, is needed")
    return found


def _by_provider(called: Iterable[OfApi], *, probes: bool) -> dict[str, Sums]:
    """Of probes alone, or of all else."""
    return grouped((each for each in called if (each.api_code == PROBES) is probes), lambda each: each.org_code, lambda each: each.sums)


def _everybody(compared: Compared, called: AbstractSet[str], industries: Mapping[str, Industry]) -> list[OfOne]:
    """Who was called in the hours that are compared, on either day, or only in the one that runs, or by probes alone."""
    nothing = Figure(0, 0)
    late = called - {each.org_code for each in compared.providers}
    more = [OfOne(org_code=code, industry=industries.get(code), by_user=nothing, scheduled=nothing, mark=None) for code in late]
    return sorted([*compared.providers, *more], key=lambda each: each.org_code)


def _category(category: Category, so_far: Sums, names: Mapping[str, str]) -> dict[str, Any]:
    cause = {"cause": _cause(category.cause, names)} if category.cause is not None else {}
    return {"industry": category.industry, **_figure(category.figure, category.mark), "so_far": so_far.calls, **cause}


def _provider(each: OfOne, sums: Sums, probes: Sums, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "org_code": each.org_code,
        "name": names.get(each.org_code, each.org_code),
        "industry": each.industry,
        **_figure(each.figure, each.mark),
        "by_user": _figure(each.by_user),
        "scheduled": _figure(each.scheduled),
        "sums": figures(sums),
        "probes": probes.calls,
    }


def _figure(figure: Figure, mark: Mark | None = None) -> dict[str, Any]:
    """Without a ratio when there was nothing before, and without a mark when it is not worth a look."""
    shown: dict[str, Any] = {"calls": figure.calls, "before": figure.before}
    if figure.ratio is not None:
        shown["ratio"] = float(figure.ratio)
    return shown | ({"mark": mark} if mark is not None else {})


def _cause(cause: Cause, names: Mapping[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "org_code": cause.org_code,
        "name": names.get(cause.org_code, cause.org_code),
        "scheduled": cause.scheduled,
        **_figure(cause.figure),
    }
    if cause.share is not None:
        shown["percent_of_change"] = float(cause.share)
    if cause.users is not None:
        shown["users"] = _figure(cause.users)
    if cause.by_users is not None:
        shown["moved"] = "users" if cause.by_users else "calls_per_user"
    return shown


def _alert(alert: Alert) -> dict[str, Any]:
    ended = {"closed_at": iso(alert.closed_at)} if alert.closed_at else {}
    return {"key": alert.key, "kind": alert.kind, "facts": alert.facts, "opened_at": iso(alert.opened_at), **ended}
