"""The exam of the store of decisions, the same for the one in Valkey and its twin in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
import pytest

from backend.coordinator.leader import FENCE
from backend.coordinator.options import Options
from backend.coordinator.standing import Standing, decision_of
from backend.coordinator.store import CHANNEL, STANDINGS, Admitted, DecisionStore, MemoryStore, Reign, Told, ValkeyStore, as_decisions
from backend.errors import EngineUnavailable
from backend.jobs.valkey import connect
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Decisions
from backend.realtime.channels import Line, dialer

READ, TOKEN = Circuit("A", Scope.READ), Circuit("A", Scope.TOKEN)
OPTIONS = Options()


def open_until(at: float, epoch: int = 4, circuit: Circuit = READ) -> Standing:
    return Standing(circuit=circuit, state=CircuitState.OPEN, epoch=epoch, reason="failure_rate", probe_at_ms=at, believed_ms=at + 30_000)


class Subject(Protocol):
    store: DecisionStore

    async def reign(self, token: int) -> Reign:
        """Another begins to lead."""
        ...

    async def lose(self) -> None: ...

    async def heard(self) -> list[Told]:
        """What was published since."""
        ...


class InMemory:
    def __init__(self) -> None:
        self._published: list[bytes] = []
        self.store = MemoryStore(lambda: 1_000_000.0, lambda channel, message: self._published.append(message))

    async def reign(self, token: int) -> Reign:
        self.store.token = token
        return Reign((await self.store.read()).lineage, token)

    async def lose(self) -> None:
        self.store.forget()

    async def heard(self) -> list[Told]:
        told, self._published = self._published, []
        return [msgspec.msgpack.decode(message, type=Told) for message in told]


class InValkey:
    def __init__(self, url: str) -> None:
        self.redis = connect(url, timeout=1.0, pool=4)
        self.store = ValkeyStore(self.redis)
        self._line: Line | None = None

    async def listen(self) -> None:
        self._line = await dialer(self.redis)()
        await self._line.subscribe([CHANNEL])
        await anext(self._line.heard())

    async def reign(self, token: int) -> Reign:
        await self.redis.set(FENCE, token)
        return Reign((await self.store.read()).lineage, token)

    async def lose(self) -> None:
        await self.redis.flushall()

    async def heard(self) -> list[Told]:
        assert self._line is not None
        await self._line.ping()
        told: list[Told] = []
        async for heard in self._line.heard():
            if not heard.channel:
                break
            told.append(msgspec.msgpack.decode(heard.message or b"", type=Told))
        return told

    async def close(self) -> None:
        if self._line is not None:
            await self._line.close()
        await self.redis.aclose()


@pytest.fixture(params=["memory", "valkey"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield InMemory()
        return
    real = InValkey(request.getfixturevalue("valkey_url"))
    await real.listen()
    yield real
    await real.close()


async def test_an_empty_store_has_a_lineage_that_stays(subject: Subject) -> None:
    first, second = await subject.store.read(), await subject.store.read()
    assert first.lineage == second.lineage
    assert first.lineage
    assert (first.standings, first.token) == ((), 0)


async def test_what_was_put_is_read_and_was_told(subject: Subject) -> None:
    reign = await subject.reign(1)
    now = (await subject.store.read()).now_ms
    standing = open_until(now + 5_000)
    decision = decision_of(standing, now, OPTIONS)
    assert await subject.store.put(reign, [standing, open_until(now, circuit=TOKEN)], [decision], [Admitted("n", 7, decision)])
    stored = await subject.store.read()
    assert {each.circuit: each for each in stored.standings} == {READ: standing, TOKEN: open_until(now, circuit=TOKEN)}
    assert stored.token == 1
    assert await subject.heard() == [Told(Decisions(reign.lineage, (decision,)), (Admitted("n", 7, decision),))]


async def test_what_nodes_need_not_know_is_stored_in_silence(subject: Subject) -> None:
    assert await subject.store.put(await subject.reign(1), [open_until(1.0)], [], [])
    assert await subject.heard() == []


@pytest.mark.parametrize("token", [1, 3])
async def test_only_the_newest_leader_is_heard(subject: Subject, token: int) -> None:
    await subject.reign(1)
    newest = await subject.reign(2)
    standing = open_until(1.0)
    refused = await subject.store.put(Reign(newest.lineage, token), [standing], [decision_of(standing, 0.0, OPTIONS)], [])
    assert not refused
    assert (await subject.store.read()).standings == ()
    assert await subject.heard() == []


async def test_a_leader_of_a_life_that_is_over_is_refused_though_its_token_is_given_again(subject: Subject) -> None:
    before = await subject.reign(1)
    await subject.store.put(before, [open_until(1.0)], [], [])
    await subject.lose()
    after = await subject.reign(1)
    assert after.lineage != before.lineage
    assert not await subject.store.put(before, [open_until(1.0)], [], [])
    assert await subject.store.put(after, [open_until(2.0)], [], [])


async def test_a_leader_that_nobody_knows_any_more_is_refused(subject: Subject) -> None:
    reign = await subject.reign(1)
    await subject.lose()
    assert not await subject.store.put(reign, [open_until(1.0)], [], [])


async def test_who_reads_the_whole_hears_what_is_left_of_each_wait(subject: Subject) -> None:
    reign = await subject.reign(1)
    now = (await subject.store.read()).now_ms
    await subject.store.put(reign, [open_until(now + 60_000)], [], [])
    whole = as_decisions(await subject.store.read(), OPTIONS)
    assert whole.lineage == reign.lineage
    [decision] = whole.decisions
    assert decision.retry_in_ms is not None
    assert 50_000 < decision.retry_in_ms <= 60_000


async def test_one_that_nobody_understands_is_passed_over(valkey_url: str) -> None:
    redis = connect(valkey_url, timeout=1.0, pool=2)
    await redis.hset(STANDINGS, "B/read", b"\xc1")
    assert await ValkeyStore(redis).standings() == ()
    await redis.aclose()


async def test_an_engine_that_is_away_is_told_as_that() -> None:
    away = ValkeyStore(connect("unix:///nowhere/valkey.sock", timeout=0.2, pool=2))
    with pytest.raises(EngineUnavailable):
        await away.read()
    with pytest.raises(EngineUnavailable):
        await away.put(Reign("x", 1), [], [], [])
