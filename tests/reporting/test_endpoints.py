"""What operators read: as the document says it, by days in Korea, and nobody else reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema_rs
import pytest

from backend.clock import ManualClock
from backend.coordinator.stream import MemoryStream
from backend.documents import openapi
from backend.providers.directory import BUILT_IN, load_directory
from backend.providers.traffic import PROBES
from backend.reporting.alarms import AlertKind, Alerts
from backend.reporting.comparing import Comparing
from backend.reporting.comparison import Options
from backend.reporting.endpoints import ReportEndpoints
from backend.reporting.reading import Traffic
from backend.reporting.weeks import Weeks
from backend.storage import consent_days
from backend.storage.database import Database
from tests.calling import VERIFIER, caller
from tests.reporting.given import BANK, CARD, Call, everything, recording, report, tell

DIRECTORY = load_directory(BUILT_IN)
NINE = datetime(2024, 4, 2, 0, 10, tzinfo=UTC)  # ten past nine in Korea, a Tuesday
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


class Stage:
    def __init__(self, database: Database) -> None:
        self.clock = ManualClock(NINE)
        self.alerts = Alerts(database=database, clock=self.clock)
        self._stream = MemoryStream(self.clock)
        self._recording = recording(self._stream, database, self.clock)
        self._reports = 0
        traffic = Traffic(database=database)
        endpoints = ReportEndpoints(
            verifier=VERIFIER,
            traffic=traffic,
            comparing=Comparing(database=database, traffic=traffic, directory=lambda: DIRECTORY, options=Options(floor=3)),
            weeks=Weeks(database=database),
            alerts=self.alerts,
            directory=lambda: DIRECTORY,
            clock=self.clock,
            client_id="moa",
        )
        self._routes = endpoints.routes()
        self._document = openapi("0")

    async def called(self, *calls: Call) -> None:
        self._reports += 1
        await tell(self._stream, report("n", self._reports, *calls))
        await everything(self._recording)

    async def get(self, path: str, *, scope: str = "ops", status: int = 200, **asked: str) -> Any:
        async with caller(self._routes, scope=scope) as http:
            answer = await http.get(path, params=asked)
        assert answer.status_code == status, answer.text
        if status == 200:
            schema = self._document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            jsonschema_rs.Draft202012Validator({**schema, "components": self._document["components"]}).validate(answer.json())
        return answer.json()


@pytest.fixture
def stage(database: Database) -> Stage:
    return Stage(database)


def calls(count: int, moment: datetime, **more: Any) -> list[Call]:
    return [Call(began_ms=round(moment.timestamp() * 1000), user=f"{number:022}", **more) for number in range(count)]


async def test_today_up_to_the_last_whole_hour_and_all_that_there_was_by_now(stage: Stage) -> None:
    await stage.called(*calls(4, NINE - HOUR - WEEK), *calls(9, NINE - WEEK))
    await stage.called(*calls(6, NINE - HOUR, took_ms=10), *calls(2, NINE, scheduled=True), *calls(1, NINE, org_code=CARD))
    found = await stage.get("/ops/traffic")
    assert (found["date"], found["compared_with"], found["until"]) == ("2024-04-02", "2024-03-26", "2024-04-02T00:00:00.000Z")
    assert (found["history"], found["losses"]) == ("partial", {"reports": 0, "calls": 0})
    bank, card, *_ = found["categories"]
    assert [bank[name] for name in ("industry", "calls", "before", "ratio", "mark", "so_far")] == ["bank", 6, 4, 1.5, "flame", 8]
    assert (bank["cause"]["org_code"], bank["cause"]["scheduled"], bank["cause"]["percent_of_change"]) == (BANK, False, 100)
    assert card == {"industry": "card", "calls": 0, "before": 0, "so_far": 1}
    assert [(each["org_code"], each["calls"], each["sums"]["calls"]) for each in found["providers"]] == [(BANK, 6, 8), (CARD, 0, 1)]
    assert found["providers"][0]["sums"]["mean_ms"] == (6 * 10 + 2 * 20) / 8
    assert found["text"]["ko"].splitlines()[1] == "지난 주 2024-03-26(TUESDAY)와 비교하여 오늘 2024-04-02(TUESDAY)"


async def test_probes_are_named_apart_and_are_nobodys_calls(stage: Stage) -> None:
    probes = calls(5, NINE - HOUR, api_code=PROBES, reason="50001")
    await stage.called(*probes, *calls(2, NINE - HOUR), *calls(4, NINE - HOUR - WEEK, api_code=PROBES))
    await stage.called(*calls(1, NINE, org_code=CARD, api_code=PROBES))
    found = await stage.get("/ops/traffic")
    bank, card = found["providers"]
    assert (bank["calls"], bank["before"], bank["by_user"]["calls"], bank["sums"]["calls"], bank["sums"]["failures"]) == (2, 0, 2, 2, 0)
    assert (bank["probes"], card["probes"], card["sums"]["calls"]) == (5, 1, 0)
    assert (found["categories"][0]["so_far"], found["categories"][1]["so_far"]) == (2, 0)
    (bank, card) = (await stage.get("/ops/statistics", week="2024-03-31"))["providers"]
    assert (bank["by_user"]["calls"], bank["probes"]["calls"], bank["probes"]["failures"]) == (2, 5, 5)
    assert (bank["failures_by_reason"], [each["api_code"] for each in bank["apis"]]) == ([], ["BA01"])
    assert (card["by_user"]["calls"], card["probes"]["calls"]) == (0, 1)
    body = await stage.get("/ops/statistics", week="2024-03-31", form="portal", type="2")
    assert [org["org_code"] for day in body["stat_date_list"] for org in day["org_list"]] == [BANK]
    assert body["stat_date_list"][2]["org_list"][0]["api_type_list"][0]["api_type"] == "BA01"


async def test_a_day_that_is_over_is_compared_as_a_whole(stage: Stage) -> None:
    day = timedelta(days=1)
    await stage.called(*calls(4, NINE - day - WEEK), *calls(9, NINE - day + 14 * HOUR), *calls(1, NINE - day + 15 * HOUR))
    found = await stage.get("/ops/traffic", date="2024-04-01")
    assert found["until"] == "2024-04-01T15:00:00.000Z"
    assert (found["categories"][0]["calls"], found["categories"][0]["before"]) == (9, 4)


async def test_the_weekly_report_for_operators_and_for_the_portal(stage: Stage) -> None:
    await stage.called(*calls(3, NINE - WEEK, scheduled=True), *calls(1, NINE - WEEK, reason="50001"))
    found = await stage.get("/ops/statistics")
    assert (found["week"], found["ends"], found["complete"]) == ("2024-03-24", "2024-03-30", True)
    (bank,) = found["providers"]
    assert (bank["name"], bank["industry"], bank["scheduled"]["calls"], bank["by_user"]["failures"]) == ("새벽은행", "bank", 3, 1)
    assert bank["failures_by_reason"] == [{"reason": "50001", "scheduled": False, "calls": 1}]
    assert [(each["api_code"], each["scheduled"], each["calls"]) for each in bank["apis"]] == [("BA01", False, 1), ("BA01", True, 3)]
    assert (await stage.get("/ops/statistics", week="2024-03-31"))["complete"] is False
    for kind, successes in (("1", "3"), ("2", "0")):
        body = await stage.get("/ops/statistics", week="2024-03-24", form="portal", type=kind)
        (org,) = body["stat_date_list"][2]["org_list"]
        (slot, _) = org["api_type_list"][0]["tm_slot_list"]
        assert (body["type"], body["client_id"], body["inquiry_date"], slot["success_api_cnt"]) == (kind, "moa", "20240331", successes)


async def test_days_whose_consents_are_not_added_up_are_named_and_never_told_to_the_portal(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent_days, "READ_WITHIN", 0.05)
    async with database.reading() as other, other.transaction():
        await other.execute("LOCK TABLE consent_history IN ACCESS EXCLUSIVE MODE")  # too much to be read at once
        found = await stage.get("/ops/statistics", week="2024-03-24")
        refused = await stage.get("/ops/statistics", status=503, week="2024-03-24", form="portal")
    assert (found["complete"], found["consents_missing"]) == (False, [f"2024-03-{day}" for day in range(24, 31)])
    assert refused["code"] == "engine_unavailable"
    assert "consents_missing" not in await stage.get("/ops/statistics", week="2024-03-24")


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/ops/traffic", {"date": "2024-4-2"}),
        ("/ops/traffic", {"date": "20240402"}),
        ("/ops/traffic", {"date": "2024-W14-2"}),
        ("/ops/alerts", {"state": "opened"}),
        ("/ops/traffic", {"date": "2024-02-30"}),
        ("/ops/traffic", {"date": "0001-01-01"}),
        ("/ops/traffic", {"date": "2024-04-03"}),
        ("/ops/statistics", {"week": "2024-03-25"}),
        ("/ops/statistics", {"week": "2024-04-07"}),
        ("/ops/statistics", {"form": "xml"}),
        ("/ops/statistics", {"form": "portal", "type": "3"}),
        ("/ops/alerts", {"limit": "0"}),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_what_is_wrong(stage: Stage, path: str, asked: dict[str, str]) -> None:
    problem = await stage.get(path, status=400, **asked)
    assert problem["code"] == "malformed_request"
    assert problem["errors"][0]["field"] in asked


@pytest.mark.parametrize("path", ["/ops/traffic", "/ops/statistics", "/ops/alerts"])
async def test_only_operators_read_it(stage: Stage, path: str) -> None:
    assert (await stage.get(path, scope="user", status=403))["code"] == "scope_missing"


async def test_what_is_wrong_now_stands_before_what_was(stage: Stage) -> None:
    for number, key in enumerate(("one", "other")):
        await stage.alerts.raise_alert(key, AlertKind.LOST_WORK, {"sweep": key, "found": number})
        stage.clock.move(HOUR)
    await stage.alerts.end_alert("other")
    shown = (await stage.get("/ops/alerts"))["alerts"]
    assert [(each["key"], each["kind"], each.get("closed_at")) for each in shown] == [
        ("one", "lost_work", None),
        ("other", "lost_work", "2024-04-02T02:10:00.000Z"),
    ]
    assert [each["key"] for each in (await stage.get("/ops/alerts", state="open"))["alerts"]] == ["one"]
