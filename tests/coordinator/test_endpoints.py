"""What operators see of circuits, and what they set: committed with who said so, whatever else is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from backend.clock import ManualClock
from backend.coordinator.endpoints import BreakerEndpoints
from backend.coordinator.figures import FIGURES, Figures, ValkeyFigures
from backend.coordinator.modes import Modes
from backend.coordinator.standing import Probe, Reason, Standing
from backend.coordinator.stream import MemoryStream, ModesChanged
from backend.errors import EngineUnavailable
from backend.jobs.valkey import connect
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Mode
from backend.providers.directory import BUILT_IN, load_directory
from backend.storage import decisions
from backend.storage.database import Database
from backend.storage.decisions import Change
from backend.storage.operators import Action
from backend.web import MOST_WORDS
from tests.calling import VERIFIER, caller

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
MS = NOW.timestamp() * 1000
BANK, CARD, CA = "A1MOABK001", "B1MOACD001", "CAMOA00001"
TURNS = (*range(0x2028, 0x202F), *range(0x2066, 0x206A))  # characters that break a line, or turn its direction
DIRECTORY = load_directory(BUILT_IN)


class StandingsInMemory:
    """The store's twin."""

    def __init__(self) -> None:
        self.stored: list[Standing] = []
        self.away = False

    async def standings(self) -> Sequence[Standing]:
        if self.away:
            raise EngineUnavailable("Valkey")
        return self.stored


class StreamAway(MemoryStream):
    async def append(self, word: Any) -> None:
        raise EngineUnavailable("Valkey")


class Stage:
    def __init__(self, database: Database) -> None:
        self.standings = StandingsInMemory()
        self.figures: Mapping[Circuit, Figures] = {}
        self.stream = MemoryStream(ManualClock(NOW))
        self.database = database
        self.modes = Modes(database=database, clock=ManualClock(NOW))

    def http(self, *, sub: str = "olga", scope: str = "ops", **changed: Any) -> httpx.AsyncClient:
        kept = {"modes": self.modes, "standings": self.standings, "stream": self.stream, **changed}

        async def figures() -> Mapping[Circuit, Figures]:
            return self.figures

        endpoints = BreakerEndpoints(verifier=VERIFIER, directory=lambda: DIRECTORY, figures=figures, began=NOW, max_body=10_000, **kept)
        return caller(endpoints.routes(), sub=sub, scope=scope)


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    database = Database(database_url, pool=4)
    yield Stage(database)
    await database.close()


async def noted(stage: Stage) -> Sequence[Action]:
    return (await stage.modes.history(org_code=None, limit=100))[0]


async def seen(http: httpx.AsyncClient) -> dict[tuple[str, str], dict[str, Any]]:
    answer = await http.get("/ops/breakers")
    assert answer.status_code == 200, answer.text
    return {(row["org_code"], row["scope"]): row for row in answer.json()["breakers"]}


async def test_every_circuit_is_there_and_closed_until_something_was_decided(stage: Stage) -> None:
    rows = await seen(stage.http())
    assert len(rows) == 2 * len(DIRECTORY.providers) + 1
    assert rows[BANK, "read"] == {
        "org_code": BANK,
        "name": "새벽은행",
        "scope": "read",
        "state": "closed",
        "mode": "auto",
        "epoch": 0,
        "reason": "untried",
        "since": "2026-11-22T01:02:03.000Z",
    }
    assert {scope for org_code, scope in rows if org_code == CA} == {"ca"}


async def test_what_the_coordinator_decided_is_shown_with_its_figures(stage: Stage) -> None:
    read, token = Circuit(BANK, Scope.READ), Circuit(BANK, Scope.TOKEN)
    stage.standings.stored = [
        Standing(
            circuit=read, state=CircuitState.OPEN, reason=Reason.FAILURE_RATE, epoch=7, since_ms=MS + 1000, probe_at_ms=MS + 6000, opened=1
        ),
        Standing(
            circuit=token,
            state=CircuitState.HALF_OPEN,
            reason=Reason.PROBING,
            epoch=9,
            since_ms=MS,
            probe=Probe(name="node", fence=9, until_ms=MS + 3000),
        ),
    ]
    stage.figures = {
        read: Figures(circuit=read, calls=100, failure_rate=62.3456, left_out=("node-7",)),
        token: Figures(circuit=token, calls=3, failure_rate=None),
    }
    rows = await seen(stage.http())
    assert rows[BANK, "read"] | {"name": ""} == {
        "org_code": BANK,
        "name": "",
        "scope": "read",
        "state": "open",
        "mode": "auto",
        "epoch": 7,
        "reason": "failure_rate",
        "since": "2026-11-22T01:02:04.000Z",
        "retry_at": "2026-11-22T01:02:09.000Z",
        "failure_rate": 62.35,
        "calls": 100,
        "left_out": ["node-7"],
    }
    probed = rows[BANK, "token"]
    assert (probed["state"], probed["retry_at"], probed["calls"]) == ("half_open", "2026-11-22T01:02:06.000Z", 3)
    assert not {"failure_rate", "left_out"} & set(probed)


async def test_a_forced_mode_covers_every_scope_at_once_and_is_kept_with_who_set_it(stage: Stage) -> None:
    http = stage.http()
    answer = await http.put(f"/ops/breakers/{BANK}", json={"mode": "forced_open", "reason": " asked by phone "})
    assert (answer.status_code, answer.json()) == (
        200,
        {"org_code": BANK, "mode": "forced_open", "reason": "asked by phone", "set_by": "olga", "set_at": "2026-11-22T01:02:03.000Z"},
    )
    rows = await seen(http)
    assert {(rows[BANK, scope]["mode"], rows[BANK, scope]["reason"]) for scope in ("read", "token")} == {("forced_open", "asked by phone")}
    assert rows[CARD, "read"]["mode"] == "auto"
    assert await stage.modes.modes() == {BANK: (Mode.FORCED_OPEN, "asked by phone")}

    await stage.http(sub="otto").put(
        f"/ops/breakers/{BANK}", json={"mode": "auto", "reason": "well again"}, headers={"X-Request-Id": "req-2-of-otto"}
    )
    await http.put(f"/ops/breakers/{CA}", json={"mode": "forced_closed", "reason": "rehearsal"})
    rows = await seen(http)
    assert (rows[BANK, "read"]["mode"], rows[BANK, "read"]["reason"], rows[CA, "ca"]["mode"]) == ("auto", "untried", "forced_closed")
    history = (await http.get("/ops/breakers/history", params={"org_code": BANK})).json()["actions"]
    assert [(each["who"], each["action"], each["reason"]) for each in history] == [
        ("otto", "breaker.auto", "well again"),
        ("olga", "breaker.forced_open", "asked by phone"),
    ]
    assert (history[0]["request_id"], history[0]["at"]) == ("req-2-of-otto", "2026-11-22T01:02:03.000Z")
    assert len((await http.get("/ops/breakers/history", params={"limit": 1})).json()["actions"]) == 1


async def test_what_was_decided_is_looked_back_at(stage: Stage) -> None:
    def change(org_code: str, second: int, state: str) -> Change:
        at = NOW + timedelta(seconds=second)
        return Change(at=at, org_code=org_code, scope="read", state=state, mode="auto", reason="failure_rate", epoch=second)

    told = [change(BANK, 1, "open"), change(CARD, 2, "open"), change(BANK, 3, "half_open")]
    for _ in range(2):
        await stage.database.single(lambda connection: decisions.record(connection, told))
    decided = (await stage.http().get("/ops/breakers/history", params={"org_code": BANK})).json()["decisions"]
    assert [(each["state"], each["at"]) for each in decided] == [
        ("half_open", "2026-11-22T01:02:06.000Z"),
        ("open", "2026-11-22T01:02:04.000Z"),
    ]
    assert decided[1] | {"at": ""} == {
        "at": "", "org_code": BANK, "scope": "read", "state": "open", "mode": "auto", "reason": "failure_rate", "epoch": 1,
    }  # fmt: skip
    assert len((await stage.http().get("/ops/breakers/history")).json()["decisions"]) == 3


async def test_the_leader_is_told_to_look_at_once(stage: Stage) -> None:
    await stage.http().put(f"/ops/breakers/{BANK}", json={"mode": "forced_open", "reason": "now"})
    (_, entry), *_ = await stage.stream.read("0-0/0", 0)
    assert entry.word == ModesChanged()


async def test_without_valkey_a_mode_is_set_all_the_same_and_looking_says_that_it_cannot(stage: Stage) -> None:
    stage.standings.away = True
    http = stage.http(stream=StreamAway(ManualClock(NOW)))
    with capture_logs() as logged:
        answer = await http.put(f"/ops/breakers/{BANK}", json={"mode": "forced_open", "reason": "now"})
    assert answer.status_code == 200
    assert [line["event"] for line in logged] == ["breaker.mode_set"], "that nobody could be hurried is no failure"
    assert BANK in await stage.modes.modes()
    looked = await http.get("/ops/breakers")
    assert (looked.status_code, looked.json()["code"], "retry-after" in looked.headers) == (503, "engine_unavailable", True)


async def test_without_postgresql_nothing_is_set_and_what_is_in_force_is_shown(stage: Stage) -> None:
    away = Database("postgresql://nobody@127.0.0.1:1/none", pool=1)
    http = stage.http(modes=Modes(database=away, clock=ManualClock(NOW)))
    forced = Standing(circuit=Circuit(BANK, Scope.READ), state=CircuitState.OPEN, mode=Mode.FORCED_OPEN, reason="asked by phone", epoch=3)
    stage.standings.stored = [forced]
    row = (await seen(http))[BANK, "read"]
    assert (row["state"], row["mode"], row["reason"]) == ("open", "forced_open", "asked by phone")
    answer = await http.put(f"/ops/breakers/{BANK}", json={"mode": "forced_open", "reason": "now"})
    assert (answer.status_code, answer.json()["code"]) == (503, "engine_unavailable")
    assert await stage.stream.read("0-0/0", 0) == []
    await away.close()


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("NOBODY0001", {"mode": "auto", "reason": "x"}, 404, "not_found"),
        ("x", {"mode": "auto", "reason": "x"}, 404, "not_found"),
        (BANK, {"mode": "open", "reason": "x"}, 422, "validation_failed"),
        (BANK, {"mode": "forced_open"}, 422, "validation_failed"),
        (BANK, {"mode": "forced_open", "reason": ""}, 422, "validation_failed"),
        (BANK, {"mode": "forced_open", "reason": "  "}, 422, "validation_failed"),
        (BANK, {"mode": "forced_open", "reason": "a\u0000b"}, 422, "validation_failed"),
        (BANK, {"mode": "forced_open", "reason": "\u001b[2J"}, 422, "validation_failed"),
        (BANK, {"mode": "forced_open", "reason": "a\u0085b"}, 422, "validation_failed"),
        (BANK, {"mode": "forced_open", "reason": "ends so\n"}, 422, "validation_failed"),
        *((BANK, {"mode": "forced_open", "reason": f"a{chr(turn)}b"}, 422, "validation_failed") for turn in TURNS),
        (BANK, {"mode": "forced_open", "reason": "x" * (MOST_WORDS + 1)}, 422, "validation_failed"),
        (BANK, {"mode": "forced_open", "reason": "x", "scope": "read"}, 422, "validation_failed"),
        (BANK, ["forced_open"], 422, "validation_failed"),
    ],
)
async def test_what_cannot_be_set_is_refused_and_not_noted(stage: Stage, path: str, body: Any, status: int, code: str) -> None:
    answer = await stage.http().put(f"/ops/breakers/{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await noted(stage) == []


async def test_only_operators_look_and_set(stage: Stage) -> None:
    http = stage.http(scope="user")
    answers = await asyncio.gather(
        http.get("/ops/breakers"),
        http.get("/ops/breakers/history"),
        http.put(f"/ops/breakers/{BANK}", json={"mode": "auto", "reason": "x"}),
    )
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert (await stage.http().get("/ops/breakers/history", params={"org_code": "a\0b"})).status_code == 400
    assert (await stage.http().get(f"/ops/breakers/{BANK}")).status_code == 405


async def test_figures_are_read_as_they_were_told_and_end_with_who_tells_them(valkey_url: str) -> None:
    redis = connect(valkey_url, timeout=2, pool=2)
    told = [
        Figures(circuit=Circuit(BANK, Scope.READ), calls=100, failure_rate=12.5),
        Figures(circuit=Circuit(CA, Scope.CA), calls=1, failure_rate=None),
    ]
    figures = ValkeyFigures(redis)
    assert await figures.read() == {}
    await figures.tell(told)
    assert await figures.read() == {each.circuit: each for each in told}
    assert 0 < await redis.pttl(FIGURES) <= 5_000
    await redis.set(FIGURES, b"of another version")
    assert await figures.read() == {}
    await redis.aclose()
