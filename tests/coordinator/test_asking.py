"""Who asks for a probe is answered to this question and no other, by whoever decides now; a question that is old is given to nobody."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

from backend.clock import ManualClock
from backend.coordinator.asking import Asking
from backend.coordinator.deciding import Bench
from backend.coordinator.options import Options
from backend.coordinator.standing import Standing
from backend.coordinator.store import Admitted, Stored
from backend.coordinator.stream import OLDEST, Entry, MemoryStream, ProbeGivenBack, ProbeWanted
from backend.providers.calls import Scope
from backend.providers.circuits import Circuit, CircuitState, Decision

READ = Circuit("A", Scope.READ)
GRANTED = Decision(circuit=READ, state=CircuitState.HALF_OPEN, epoch=7, reason="probing")


@dataclass
class Local:
    """Decides alone, if `decides`."""

    decides: bool = False
    released: list[Circuit] = field(default_factory=list)

    def ask(self, circuit: Circuit, *, wanted: bool = True) -> Decision | None:
        return GRANTED if wanted else None

    def release(self, circuit: Circuit) -> None:
        self.released.append(circuit)


def an_asker(local: Local) -> tuple[Asking, MemoryStream]:
    stream = MemoryStream(ManualClock(datetime(2026, 11, 22, tzinfo=UTC)))
    return Asking(stream=stream, name="me", alone=local), stream


async def test_only_the_answer_to_this_question_counts() -> None:
    asking, stream = an_asker(Local())
    asked = asyncio.create_task(asking.ask(READ))
    [(_, entry)] = await stream.read(OLDEST, 1)
    assert entry.word == ProbeWanted(circuit=READ, name="me", number=1)
    asking.answered(Admitted("me", 0, GRANTED))
    asking.answered(Admitted("another", 1, GRANTED))
    await asyncio.sleep(0)
    assert not asked.done()
    asking.answered(Admitted("me", 1, GRANTED))
    asking.answered(Admitted("me", 1, GRANTED))  # told twice
    assert await asked == GRANTED
    asking.answered(Admitted("me", 1, GRANTED))


async def test_while_the_node_decides_alone_it_asks_itself() -> None:
    local = Local(decides=True)
    asking, stream = an_asker(local)
    assert await asking.ask(READ) == GRANTED
    assert await asking.ask(READ, wanted=False) is None
    await asking.release(READ, 0)
    assert local.released == [READ]
    assert await stream.read(OLDEST, 0) == []


async def test_whether_somebody_waits_is_said() -> None:
    asking, stream = an_asker(Local())
    asked = asyncio.create_task(asking.ask(READ, wanted=False))
    [(_, entry)] = await stream.read(OLDEST, 1)
    assert entry.word == ProbeWanted(circuit=READ, name="me", number=1, wanted=False)
    asked.cancel()
    await asyncio.wait({asked})


async def test_what_is_given_back_is_said() -> None:
    asking, stream = an_asker(Local())
    await asking.release(READ, 7)
    [(_, entry)] = await stream.read(OLDEST, 0)
    assert entry.word == ProbeGivenBack(circuit=READ, name="me", fence=7)


def a_bench(*standings: Standing) -> Bench:
    stored = Stored(lineage="life", token=1, now_ms=1_000_000.0, standings=standings)
    return Bench(stored, Options(), ManualClock(datetime(2026, 11, 22, tzinfo=UTC)), lambda: 0.0)


DUE = Standing(circuit=READ, state=CircuitState.OPEN, epoch=6, probe_at_ms=1_000_000.0, believed_ms=2_000_000.0)


def test_the_answer_goes_with_the_decision_that_it_is_of() -> None:
    bench = a_bench(DUE)
    bench.hear(Entry(0.0, ProbeWanted(circuit=READ, name="me", number=3)))
    [standing], [decision], [answer] = bench.taken()
    assert (standing.epoch, decision.epoch, decision.state) == (7, 7, CircuitState.HALF_OPEN)
    assert answer == Admitted("me", 3, decision)
    assert bench.taken() == ([], [], [])


def test_a_question_that_nobody_waits_for_any_more_is_given_to_nobody() -> None:
    bench = a_bench(DUE)
    bench.hear(Entry(1_500.0, ProbeWanted(circuit=READ, name="me", number=3)))
    assert bench.taken() == ([], [], [])


def test_only_the_holder_gives_a_probe_back() -> None:
    bench = a_bench(DUE)
    bench.hear(Entry(0.0, ProbeWanted(circuit=READ, name="me", number=3)))
    for name, fence in (("another", 7), ("me", 6)):
        bench.hear(Entry(0.0, ProbeGivenBack(circuit=READ, name=name, fence=fence)))
        assert bench.hearing.standing(READ).state is CircuitState.HALF_OPEN
    bench.hear(Entry(0.0, ProbeGivenBack(circuit=READ, name="me", fence=7)))
    assert bench.hearing.standing(READ).state is CircuitState.OPEN
