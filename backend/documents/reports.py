"""OpenAPI of what operators read of traffic, statistics and alerts: schemas and operations."""

from __future__ import annotations

from typing import Any

from backend.documents.operation import Operation, json_body, limit, parameter
from backend.documents.schemas import COUNT, DAY, FLAG, INDUSTRY, MOMENT, NUMBER, ORG_CODE, TEXT, Schema, listed, obj, ref
from backend.errors import Problem
from backend.events import Industry
from backend.reporting.alarms import AlertKind
from backend.reporting.comparison import History, Mark

_SO_FAR: Schema = {**COUNT, "description": "Calls of the day by now, the hour that runs included"}
_INDUSTRY: Schema = {"type": ["string", "null"], "enum": [*(each.value for each in Industry), None]}
_SCHEDULED: Schema = {**FLAG, "description": "By the weekly batch; false: for a person"}


def _any_of(names: Any, description: str = "") -> Schema:
    return {"type": "string", "enum": [each.value for each in names], "description": description}


def report_schemas() -> dict[str, Schema]:
    """By public name."""
    before = {"calls": COUNT, "before": {**COUNT, "description": "A week before, in the same hours"}}
    ratio = {"ratio": {**NUMBER, "description": "Two decimals; absent: there was nothing before"}}
    mark = {"mark": _any_of(Mark, "Absent: not worth a look")}
    figure = obj(before, ratio)
    cause = obj(
        {"org_code": ORG_CODE, "name": TEXT, "scheduled": _SCHEDULED, **before},
        {
            **ratio,
            "percent_of_change": {**NUMBER, "maximum": 100},
            "users": figure,
            "moved": {"type": "string", "enum": ["users", "calls_per_user"]},
        },
        "Who moved the category most, and whether more users did or more calls of each; absent where it is not known",
    )
    sums = obj(
        {"calls": COUNT, "successes": COUNT, "failures": COUNT, "cancelled": {**COUNT, "description": "Ended by us"}, "slow": COUNT},
        {"mean_ms": NUMBER, "deviation_ms": {**NUMBER, "description": "Of the population"}},
        "Times are those of calls that came to an end by themselves",
    )
    return {"TrafficFigure": figure, "Sums": sums, **_traffic({**before}, {**ratio, **mark}, cause), **_statistics(), **_alerts()}


def _traffic(before: Schema, marked: Schema, cause: Schema) -> dict[str, Schema]:
    category = obj({"industry": INDUSTRY, **before, "so_far": _SO_FAR}, {**marked, "cause": cause})
    asked = {
        "by_user": ref("TrafficFigure"),
        "scheduled": ref("TrafficFigure"),
        "sums": {**ref("Sums"), "description": "Of the day by now, the hour that runs included, users' calls and scheduled ones"},
        "probes": {**COUNT, "description": "Calls of the day by now that only looked whether it answers; they are in no other figure"},
    }
    provider = obj({"org_code": ORG_CODE, "name": TEXT, "industry": _INDUSTRY, **before, **asked}, marked)
    return {
        "Traffic": obj(
            {
                "date": DAY,
                "compared_with": DAY,
                "until": {**MOMENT, "description": "The end of the hours that are compared"},
                "history": _any_of(History, "`partial`: records begin in the day before; `none`: nothing is marked"),
                "categories": listed(category),
                "providers": listed(provider),
                "text": obj({"ko": TEXT, "en": TEXT}, {}, "As it is told each morning"),
                "losses": obj({"reports": COUNT, "calls": COUNT}, {}, "What is in no sum, of the last seven days; 0: nothing is missing"),
            },
            {"history_since": MOMENT},
        )
    }


def _statistics() -> dict[str, Schema]:
    api = obj({"api_code": TEXT, "scheduled": _SCHEDULED}, {}, "And `Sums`")
    provider = obj(
        {
            "org_code": ORG_CODE,
            "name": TEXT,
            "industry": _INDUSTRY,
            "by_user": ref("Sums"),
            "scheduled": ref("Sums"),
            "probes": {
                **ref("Sums"),
                "description": "Calls that only looked whether it answers; in no other figure, and not for the portal",
            },
            "failures_by_reason": listed(obj({"reason": TEXT, "scheduled": _SCHEDULED, "calls": COUNT})),
            "consents": obj({"new": COUNT, "revoked": COUNT, "held": {**COUNT, "description": "When the week ended"}}),
            "apis": listed({"allOf": [api, ref("Sums")]}),
        }
    )
    summary = obj(
        {
            "week": DAY,
            "ends": DAY,
            "complete": {**FLAG, "description": "The week is over, and no day is missing"},
            "providers": listed(provider),
        },
        {"consents_missing": {**listed(DAY), "description": "Days whose consents are still being added up; absent: none"}},
        "`form=summary`",
    )
    slot = obj(dict.fromkeys(("tm_slot", "rsp_avg", "rsp_total", "rsp_stdev", "success_api_cnt", "fail_api_cnt"), TEXT))
    kind = obj({"api_type": TEXT, "tm_slot_cnt": TEXT, "tm_slot_list": listed(slot)})
    org = obj({"org_code": ORG_CODE, "consent_new": TEXT, "consent_revoke": TEXT, "consent_own": TEXT, "api_type_list": listed(kind)})
    days = listed(obj({"stat_date": TEXT, "org_list": listed(org)}))
    body = obj(
        {"type": TEXT, "client_id": TEXT, "inquiry_date": TEXT, "stat_date_cnt": TEXT, "stat_date_list": days},
        {},
        "`form=portal`: the body of support API 004; every value is a string",
    )
    return {
        "StatisticsSummary": summary,
        "StatisticsForPortal": body,
        "Statistics": {"anyOf": [ref("StatisticsSummary"), ref("StatisticsForPortal")]},
    }


def _alerts() -> dict[str, Schema]:
    alert = obj(
        {
            "key": {**TEXT, "description": "What it is about"},
            "kind": {**TEXT, "examples": [kind.value for kind in AlertKind]},
            "facts": {"type": "object"},
            "opened_at": MOMENT,
        },
        {"closed_at": {**MOMENT, "description": "Absent: it is still so"}},
    )
    return {"Alert": alert, "Alerts": obj({"alerts": listed(ref("Alert"))})}


REPORTS: tuple[Operation, ...] = (
    Operation(
        path="/ops/traffic",
        method="get",
        name="compareTraffic",
        summary="Calls of a day beside those of the same weekday a week before",
        description="By category and provider, in whole hours: of today those that are over. Hours of both days are the same ones.",
        tag="Reports",
        scope="ops",
        parameters=(parameter("date", "query", "A day in Korea; absent: today", DAY),),
        answers={200: json_body("Both days", "Traffic")},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
    Operation(
        path="/ops/statistics",
        method="get",
        name="getStatistics",
        summary="The weekly report that the law asks for",
        tag="Reports",
        scope="ops",
        parameters=(
            parameter("week", "query", "The Sunday with which the week begins; absent: the last week that is over", DAY),
            parameter("form", "query", "For operators, or as the portal takes it", {"type": "string", "enum": ["summary", "portal"]}),
            parameter("type", "query", "With `form=portal`: scheduled calls (1) or users' (2)", {"type": "string", "enum": ["1", "2"]}),
        ),
        answers={200: json_body("The week", "Statistics")},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
    Operation(
        path="/ops/alerts",
        method="get",
        name="listAlerts",
        summary="What is wrong now, and what was",
        tag="Reports",
        scope="ops",
        parameters=(
            parameter("state", "query", "Only what is wrong now", {"type": "string", "enum": ["open"]}),
            limit(100, 1000),
        ),
        answers={200: json_body("Those that are open first, the newest first", "Alerts")},
        problems=(Problem.MALFORMED_REQUEST,),
    ),
)
