"""What operators see of the batch and what they say about it: committed with who said so, found by whoever commands."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from backend.batch import overview
from backend.batch.endpoints import BatchEndpoints
from backend.batch.pace import MINUTE
from backend.batch.planning import Planning
from backend.batch.steering import MOST_LISTED, OPENS_IN, Steering
from backend.batch.terms import Terms, midnight
from backend.clock import KST, ManualClock, iso
from backend.providers.contract import Provider
from backend.providers.directory import is_sandboxed
from backend.settings import Settings
from backend.storage import batch_steering
from backend.storage.database import Database
from tests.batch.given import SUNDAY
from tests.batch.rows import BANK, CARD, directory, linked, provider, ran
from tests.calling import VERIFIER, caller

ONE = datetime(2026, 11, 22, 1, tzinfo=KST)
SECOND = timedelta(seconds=1)
SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]
HOME = {"base_url": f"{SETTINGS.sandbox_url}/bank", "allow_private": True}
LEASED = {"base_url": "http://10.20.30.40:8900/bank", "allow_private": True}

_COMMAND = """
    INSERT INTO batch_commands (org_code, minute, week, day, start_due, start_link, limit_due, limit_link, size, per_100ms, per_minute,
      state, run, at_due, at_link, sent, recorded, failed, skipped, unknown, beat_at, created_at)
    VALUES ($1, $2, $3, $3, $3, 1, $3, 1, 60, 1, 60, 'running', 1, $3, 1, 40, 30, 6, 2, 1,
      CAST($2 AS timestamptz) + interval '30 seconds', $2)
"""
_TROUBLED = """
    INSERT INTO batch_refreshes (user_id, org_code, week, link_id, minute, run, attempt, state, sent_at)
    SELECT user_id, org_code, $1, link_id, $2, 1, 1, (array['failed', 'left', 'unknown', 'recorded'])[link_id], $2 FROM links
    WHERE link_id <= 4
"""


class House:
    def __init__(self, database: Database, *providers: Provider, now: datetime = ONE) -> None:
        self.database, self.clock = database, ManualClock(now)
        self.directory = directory(*providers)

    def http(self, *, sub: str = "olga", scope: str = "ops") -> httpx.AsyncClient:
        steering = Steering(
            database=self.database,
            directory=lambda: self.directory,
            terms=Terms(),
            sandboxed=partial(is_sandboxed, settings=SETTINGS),
            clock=self.clock,
        )
        endpoints = BatchEndpoints(verifier=VERIFIER, steering=steering, directory=lambda: self.directory, max_body=10_000)
        return caller(endpoints.routes(), sub=sub, scope=scope)

    async def plan(self) -> None:
        now = midnight(SUNDAY)
        await Planning(database=self.database, directory=lambda: self.directory, terms=Terms(), clock=self.clock).plan_missing(now)

    async def status(self) -> dict[str, Any]:
        async with self.http() as http:
            answer = await http.get("/ops/batch")
        assert answer.status_code == 200
        return answer.json()  # type: ignore[no-any-return]

    async def post(self, what: str, body: dict[str, Any] | None = None) -> httpx.Response:
        async with self.http() as http:
            return await http.post(f"/ops/batch/{what}", json=body) if body is not None else await http.post(f"/ops/batch/{what}")

    async def actions(self) -> list[tuple[str, ...]]:
        return [tuple(row) for row in await ran(self.database, "SELECT who, action, org_code, reason FROM operator_actions ORDER BY id")]


async def test_how_the_batch_goes_is_told_for_each_provider(database: Database) -> None:
    await linked(database, 300)
    house = House(database, provider(), provider(CARD), now=ONE + 30 * SECOND)
    await house.plan()
    await ran(database, _COMMAND, BANK, ONE, SUNDAY)
    await ran(database, _TROUBLED, SUNDAY, ONE)
    told = await house.status()
    assert (told["week"], told["paused"]) == ("2026-11-22", False)
    bank, card = told["providers"]
    today = (await ran(database, "SELECT links FROM batch_days WHERE org_code = $1 AND day = $2", BANK, SUNDAY))[0][0]
    expected = {"due": 298, "done": 30, "failed": 2, "skipped": 2, "unknown": 1, "planned_today": today, "pace_per_minute": 84}
    assert {name: bank[name] for name in expected} == expected
    assert bank["lag_seconds"] == 0
    assert bank["finish_estimate"].startswith("2026-11-2")
    assert (card["org_code"], card["due"], card["done"], "finish_estimate" in card) == (CARD, 0, 0, False)
    (unknown,) = told["unknown_attempts"]
    assert unknown == {"org_code": BANK, "link_id": 3, "attempt": 1, "minute": iso(ONE), "sent_at": iso(ONE)}


async def test_of_what_is_too_much_to_be_counted_the_plan_tells_what_is_due_and_never_too_much(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned within a minute whose command had sent 40 and skipped 2: whether before the plan or after, nobody knows."""
    monkeypatch.setattr(overview, "MOST_COUNTED", 0)
    await linked(database, 300)
    house = House(database, now=ONE + 30 * SECOND)
    await Planning(database=database, directory=lambda: house.directory, terms=Terms(), clock=house.clock).plan_missing(ONE + 20 * SECOND)
    await ran(database, _COMMAND, BANK, ONE, SUNDAY)
    (bank,) = (await house.status())["providers"]
    assert bank["due"] == 300 - (40 - 6 - 1) - 2
    assert bank["due"] + bank["done"] + bank["skipped"] <= 300


async def test_no_more_unknown_attempts_are_listed_than_can_be_looked_at(database: Database) -> None:
    await linked(database, MOST_LISTED + 20)
    await ran(database, _TROUBLED.replace("WHERE link_id <= 4", "").replace("[link_id]", "[3]"), SUNDAY, ONE)
    told = await House(database).status()
    assert len(told["unknown_attempts"]) == MOST_LISTED
    assert told["providers"][0]["unknown"] == MOST_LISTED + 20


async def test_a_plan_is_told_with_its_reasons(database: Database) -> None:
    await linked(database, 70)
    house = House(database)
    await house.plan()
    async with house.http() as http:
        told = (await http.get("/ops/batch/plan")).json()
    (planned,) = told["providers"]
    assert (told["week"], planned["links"], planned["gap"], planned["planned_at"]) == ("2026-11-22", 70, 0, iso(midnight(SUNDAY)))
    assert sum(day["links"] for day in planned["days"]) == 70
    assert planned["days"][3]["because"].startswith("Wednesday 2026-11-25 (payday, a trading day): ")


async def test_one_provider_or_all_are_held_and_let_go_on_and_who_said_so_is_noted(database: Database) -> None:
    house = House(database, provider(), provider(CARD))
    await house.plan()
    assert (await house.post("pause", {"org_code": CARD, "reason": "asked by phone"})).json() == {"org_code": CARD, "paused": True}
    assert [each["paused"] for each in (await house.status())["providers"]] == [False, True]
    assert (await house.post("pause")).json() == {"paused": True}
    told = await house.status()
    assert (told["paused"], [each["paused"] for each in told["providers"]]) == (True, [True, True])
    assert (await house.post("resume", {"org_code": CARD})).json() == {"org_code": CARD, "paused": True}, "all are held"
    await house.post("pause", {"org_code": CARD})
    assert (await house.post("resume", {})).json() == {"paused": False}
    told = await house.status()
    assert (told["paused"], [each["paused"] for each in told["providers"]]) == (False, [False, False])
    assert await house.actions() == [
        ("olga", "batch.pause", CARD, "asked by phone"),
        ("olga", "batch.pause", "", ""),
        ("olga", "batch.resume", CARD, ""),
        ("olga", "batch.pause", CARD, ""),
        ("olga", "batch.resume", "", ""),
    ]
    assert {row[0] for row in await ran(database, "SELECT is_stale FROM batch_plans")} == {True}


async def test_why_a_provider_is_held_and_until_when_is_told_and_an_operators_word_counts_more(database: Database) -> None:
    house = House(database)
    opens = ONE + timedelta(days=1)

    async def hold() -> None:
        async with database.reading() as connection:
            await batch_steering.hold(connection, BANK, reason="out_of_window", until=opens, now=house.clock.now())

    async def told() -> tuple[Any, ...]:
        (bank,) = (await house.status())["providers"]
        return bank["paused"], bank.get("paused_because"), bank.get("paused_until")

    await hold()
    assert await told() == (True, "out_of_window", iso(opens))
    await house.post("pause", {"org_code": BANK})
    await hold()
    assert await told() == (True, "operator", None)
    await house.post("resume", {"org_code": BANK})
    assert await told() == (False, None, None)
    await hold()
    house.clock.move(timedelta(days=1))
    assert await told() == (False, None, None), "it ends by itself"


async def test_a_rehearsal_opens_at_once_at_the_sandboxs_institutions(database: Database) -> None:
    house = House(database, provider(**HOME), provider(CARD, **HOME), now=ONE + timedelta(hours=9))
    answer = await house.post("run", {"within_seconds": 300})
    begins = house.clock.now() + OPENS_IN
    assert answer.status_code == 202
    assert answer.json() == {
        "begins": iso(begins),
        "providers": [{"org_code": code, "ends": iso(begins + 5 * MINUTE), "replaced": False} for code in (BANK, CARD)],
    }
    assert [tuple(row) for row in await ran(database, "SELECT org_code, begins, ends FROM batch_windows ORDER BY org_code")] == [
        (code, begins, begins + 5 * MINUTE) for code in (BANK, CARD)
    ]
    assert [action[1:3] for action in await house.actions()] == [("batch.run", BANK), ("batch.run", CARD)]


async def test_a_second_rehearsal_takes_the_place_of_the_first_and_says_so(database: Database) -> None:
    """Also when it is shorter: the first does not go on behind it."""
    house = House(database, provider(**HOME), provider(CARD, **HOME), now=ONE)
    await house.post("run", {"within_seconds": 3600, "org_code": BANK})
    house.clock.move(MINUTE)
    again = await house.post("run", {"within_seconds": 60})
    assert {each["org_code"]: each["replaced"] for each in again.json()["providers"]} == {BANK: True, CARD: False}
    begins = house.clock.now() + OPENS_IN
    windows = await ran(database, "SELECT begins, ends FROM batch_windows WHERE org_code = $1 ORDER BY begins", BANK)
    assert [tuple(row) for row in windows] == [(ONE + OPENS_IN, begins), (begins, begins + MINUTE)]
    house.clock.move(2 * MINUTE)
    later = await house.post("run", {})
    assert not any(each["replaced"] for each in later.json()["providers"]), "that was over"


@pytest.mark.parametrize("line", [{}, LEASED])
async def test_a_rehearsal_at_a_real_provider_stays_within_its_window(database: Database, line: dict[str, Any]) -> None:
    house = House(database, provider(**line), provider(CARD, **HOME), now=ONE - MINUTE)
    for body in ({}, {"org_code": BANK}):
        refused = await house.post("run", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "outside_window")
        assert "outside_window" in refused.json()["detail"]
        assert "0100:0700" in refused.json()["detail"]
    assert await ran(database, "SELECT FROM batch_windows") == []
    assert await house.actions() == []
    house.clock.move(timedelta(hours=5, minutes=58))  # its finish line is a minute before seven
    answer = await house.post("run", {"org_code": BANK, "within_seconds": 3600})
    assert answer.json()["providers"] == [{"org_code": BANK, "ends": iso(ONE + timedelta(hours=5, minutes=59)), "replaced": False}]
    house.clock.move(2 * SECOND)
    assert (await house.post("run", {"org_code": BANK})).status_code == 202
    house.clock.move(58 * SECOND)
    assert (await house.post("run", {"org_code": BANK})).status_code == 409, "less than a minute is left"


@pytest.mark.parametrize(
    ("what", "body", "code"),
    [
        ("pause", {"org_code": "Z9NOBODY01"}, "unknown_provider"),
        ("resume", {"org_code": "Z9NOBODY01"}, "unknown_provider"),
        ("run", {"org_code": "Z9NOBODY01"}, "unknown_provider"),
        ("pause", {"org_code": "short"}, "validation_failed"),
        ("pause", {"who": BANK}, "validation_failed"),
        ("pause", {"reason": "a\u202eb"}, "validation_failed"),
        ("run", {"reason": "a\u2069b"}, "validation_failed"),
        ("run", {"within_seconds": 59}, "validation_failed"),
        ("run", {"within_seconds": 86401}, "validation_failed"),
    ],
)
async def test_what_makes_no_sense_is_refused(database: Database, what: str, body: dict[str, Any], code: str) -> None:
    refused = await House(database).post(what, body)
    assert refused.json()["code"] == code
    assert refused.status_code == 422


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/plan"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run")])
async def test_only_operators_come_in(database: Database, method: str, path: str) -> None:
    async with House(database).http(scope="user") as http:
        assert (await http.request(method, f"/ops/batch{path}")).status_code == 403
        http.headers.pop("Authorization")
        assert (await http.request(method, f"/ops/batch{path}")).status_code == 401
