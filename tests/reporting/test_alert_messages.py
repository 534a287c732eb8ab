"""Operators hear of each trouble once, with its end, and of many of a kind in one message."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from backend.clock import ManualClock
from backend.reporting.alarms import AlertKind, Alerts
from backend.reporting.alert_text import MOST_LINES, WORDS, alert_text
from backend.reporting.grouping import AlertMessages
from backend.reporting.morning_text import Language
from backend.storage import notices
from backend.storage.alerts import Alert
from backend.storage.database import Database
from tests.reporting.given import BANK, CARD, NOW

NAMES = {BANK: "새벽은행", CARD: "물결카드"}
INTERVAL = timedelta(minutes=5)
FACTS: dict[AlertKind, dict[str, Any]] = {
    AlertKind.CIRCUIT: {"org_code": BANK, "scope": "read", "reason": "failure_rate", "mode": "auto"},
    AlertKind.BATCH_LATE: {"org_code": BANK, "left": 1200, "by": "2026-11-22T22:00:00.000Z"},
    AlertKind.OUT_OF_WINDOW: {"org_code": BANK, "calls": 12},
    AlertKind.QUOTA: {"org_code": BANK, "calls": 3},
    AlertKind.BAD_NODE: {"node": "0123456789abcdef", "org_codes": [BANK, CARD]},
    AlertKind.LOST_WORK: {"sweep": "open_work", "found": 4},
    AlertKind.QUEUE_OLD: {"queue": "interactive", "seconds": 90, "limit": 60.0},
    AlertKind.CERTIFICATE: {"org_code": BANK, "ends_at": "2026-12-01T00:00:00.000Z", "days": 8},
}


class World:
    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, ManualClock(NOW)
        self.alerts = Alerts(database=database, clock=self.clock)
        self.messages = self.sweeps()

    def sweeps(self) -> AlertMessages:
        return AlertMessages(
            database=self.database, channels=["one", "other"], names=lambda: NAMES, interval=INTERVAL, language=Language.EN
        )

    async def circuit(self, org_code: str) -> None:
        facts = FACTS[AlertKind.CIRCUIT] | {"org_code": org_code}
        await self.alerts.raise_alert(f"circuit:{org_code}:read", AlertKind.CIRCUIT, facts)

    async def passes(self, **by: float) -> None:
        """Looks each ten seconds."""
        for _ in range(round(timedelta(**by).total_seconds() / 10)):
            self.clock.move(timedelta(seconds=10))
            await self.messages.sweep(self.clock.now())

    async def texts(self, channel: str = "one") -> list[str]:
        async with self.database.reading() as connection:
            rows = await connection.fetch("SELECT body FROM notices WHERE channel = $1 ORDER BY created_at, topic", channel)
        return [row["body"] for row in rows]


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


async def test_messages_that_are_old_go_as_fast_as_new_ones_come(world: World) -> None:
    old = NOW - notices.KEPT - timedelta(days=1)
    async with world.database.reading() as connection:
        await connection.execute(
            "INSERT INTO notices (topic, channel, line, id, body, state, attempts, claims, due_at, created_at)"
            " SELECT 'old:' || n, 'one', 'old', gen_random_uuid(), '', 'sent', 0, 0, $1, $1 FROM generate_series(1, 2300) n",
            old,
        )
    for kind, facts in list(FACTS.items())[:3]:
        await world.alerts.raise_alert(kind.value, kind, facts)
    await world.passes(seconds=10)
    assert len(await world.texts()) == 3


async def test_many_of_a_kind_are_one_message_with_what_to_do(world: World) -> None:
    await world.circuit(BANK)
    world.clock.move(timedelta(seconds=1))
    await world.circuit(CARD)
    await world.passes(seconds=10)
    (text,) = await world.texts()
    assert text.splitlines() == [
        "🚨 [Alert] Calls to an institution are refused",
        f"• 새벽은행({BANK}) · read · failure_rate (since 11-22 12:30:00)",
        f"• 물결카드({CARD}) · read · failure_rate (since 11-22 12:30:01)",
        WORDS[Language.EN][AlertKind.CIRCUIT].do,
    ]
    assert await world.texts("other") == [text]


async def test_an_end_is_told_with_how_long_it_lasted_and_the_next_trouble_waits_for_the_interval(world: World) -> None:
    await world.circuit(BANK)
    await world.passes(seconds=10)
    await world.alerts.end_alert(f"circuit:{BANK}:read")
    await world.circuit(CARD)
    await world.passes(minutes=4)
    assert len(await world.texts()) == 1, "one message of a kind and interval"
    await world.passes(minutes=2)
    _, text = await world.texts()
    assert text.splitlines() == [
        "🚨 [Alert] Calls to an institution are refused",
        f"• 물결카드({CARD}) · read · failure_rate (since 11-22 12:30:10)",
        WORDS[Language.EN][AlertKind.CIRCUIT].do,
        "✅ [Resolved]",
        f"• 새벽은행({BANK}) · read · failure_rate (11-22 12:30:00–12:30:10, 10 s)",
    ]
    await world.alerts.end_alert(f"circuit:{CARD}:read")
    await world.passes(minutes=12)
    *_, last = await world.texts()
    assert last.splitlines()[0] == "✅ [Resolved] Calls to an institution are refused"
    assert len(await world.texts()) == 3


async def test_kinds_do_not_wait_for_each_other(world: World) -> None:
    await world.circuit(BANK)
    await world.passes(seconds=10)
    await world.alerts.raise_alert("queue:interactive", AlertKind.QUEUE_OLD, FACTS[AlertKind.QUEUE_OLD])
    await world.passes(seconds=10)
    assert len(await world.texts()) == 2


async def test_what_was_over_before_it_was_told_is_told_as_over(world: World) -> None:
    await world.circuit(BANK)
    await world.alerts.end_alert(f"circuit:{BANK}:read")
    await world.passes(minutes=11)
    (text,) = await world.texts()
    assert "🚨" not in text
    assert WORDS[Language.EN][AlertKind.CIRCUIT].do not in text


async def test_two_leaders_for_a_moment_tell_it_once(world: World) -> None:
    await world.circuit(BANK)
    world.clock.move(timedelta(minutes=1))
    await asyncio.gather(*(world.sweeps().sweep(world.clock.now()) for _ in range(4)))
    assert len(await world.texts()) == 1


async def test_without_channels_nothing_waits_for_one(database: Database) -> None:
    world = World(database)
    world.messages = AlertMessages(database=database, channels=[], names=dict, interval=INTERVAL, language=Language.KO)
    await world.circuit(BANK)
    await world.passes(minutes=1)
    assert (await world.alerts.listed(only_open=True, limit=1))[0].told_at is not None


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", AlertKind)
def test_every_kind_has_words_and_shows_every_fact(kind: AlertKind, language: Language) -> None:
    alert = Alert(id=1, key="key", kind=kind.value, facts=FACTS[kind], opened_at=NOW)
    lines = (alert_text([alert], NAMES, language) or "").splitlines()
    assert len(lines) == 3
    assert lines[2] == WORDS[language][kind].do
    assert "key" not in lines[1]
    for name, value in FACTS[kind].items():
        if name not in {"mode", "limit", "reason"} and isinstance(value, int | str) and not str(value).startswith("2026"):
            assert str(value)[:8] in lines[1].replace(",", "")


def test_a_kind_of_another_version_stands_for_itself_and_long_lists_are_cut() -> None:
    alerts = [Alert(id=number, key=f"key:{number}", kind="moon", facts={}, opened_at=NOW) for number in range(MOST_LINES + 3)]
    lines = (alert_text(alerts, NAMES, Language.KO) or "").splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("🚨 [알림] moon", "• key:0 (11-22 12:30:00부터)", "외 3건")
    assert alert_text([Alert(id=1, key="k", kind="moon", facts={}, opened_at=NOW, told_at=NOW)], NAMES, Language.KO) is None


@pytest.mark.parametrize(("left", "said"), [(0, "0 links left"), (1, "1 link left"), (1200, "1,200 links left")])
def test_one_is_not_many(left: int, said: str) -> None:
    late = Alert(id=1, key="k", kind=AlertKind.BATCH_LATE, facts={"left": left}, opened_at=NOW)
    assert said in (alert_text([late], NAMES, Language.EN) or "")
