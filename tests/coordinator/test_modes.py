"""What operators set is committed with who set it, and nothing of what they did is ever lost or changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from backend.clock import ManualClock
from backend.coordinator.modes import Modes
from backend.errors import EngineUnavailable
from backend.providers.circuits import Mode
from backend.storage.database import Database
from backend.storage.operators import Action

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
BANK, CARD = "A1MOABK001", "B1MOACD001"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool=4)
    yield database
    await database.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def modes(database: Database, clock: ManualClock) -> Modes:
    return Modes(database=database, clock=clock)


async def noted(modes: Modes) -> Sequence[Action]:
    return (await modes.history(org_code=None, limit=100))[0]


async def test_the_last_word_stands_and_the_first_is_remembered(modes: Modes, clock: ManualClock) -> None:
    assert dict(await modes.modes()) == {}
    await modes.set(BANK, Mode.FORCED_OPEN, "they asked us to", who="olga", request_id="req_1")
    clock.move(timedelta(seconds=9))
    await modes.set(CARD, Mode.FORCED_CLOSED, "rehearsal", who="otto", request_id="req_2")
    await modes.set(BANK, Mode.AUTO, "they are back", who="otto", request_id="req_3")
    assert dict(await modes.modes()) == {BANK: (Mode.AUTO, "they are back"), CARD: (Mode.FORCED_CLOSED, "rehearsal")}

    done, _ = await modes.history(org_code=BANK, limit=10)
    assert [(each.who, each.action, each.reason, each.request_id) for each in done] == [
        ("otto", "breaker.auto", "they are back", "req_3"),
        ("olga", "breaker.forced_open", "they asked us to", "req_1"),
    ]
    assert [each.at for each in done] == [NOW + timedelta(seconds=9), NOW]
    assert [each.request_id for each in await noted(modes)] == ["req_3", "req_2", "req_1"]
    assert len((await modes.history(org_code=None, limit=1))[0]) == 1


async def test_of_two_words_at_once_one_stands_and_both_are_noted(modes: Modes) -> None:
    words = [(Mode.FORCED_OPEN, "one"), (Mode.FORCED_CLOSED, "other")] * 5
    await asyncio.gather(*(modes.set(BANK, mode, reason, who="olga", request_id="r") for mode, reason in words))
    assert (await modes.modes())[BANK] in words
    assert sorted(each.reason for each in await noted(modes)) == ["one"] * 5 + ["other"] * 5


async def test_without_postgresql_no_word_is_taken() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none", pool=1)
    modes = Modes(database=database, clock=ManualClock(NOW))
    with pytest.raises(EngineUnavailable):
        await modes.set(BANK, Mode.FORCED_OPEN, "in vain", who="olga", request_id="r")
    with pytest.raises(EngineUnavailable):
        await modes.modes()
    await database.close()
