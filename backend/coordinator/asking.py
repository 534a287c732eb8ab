"""How a node asks for a probe (`probing.ProbeAsking`): by the stream, answered on the channel of decisions.

In: a circuit. Out: the half-open decision that grants the probe, or None within a second. While Valkey is away, the node asks itself.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Protocol

from backend.coordinator.store import Admitted
from backend.coordinator.stream import ANSWERED_WITHIN, ProbeGivenBack, ProbeWanted, Stream
from backend.providers.circuits import Circuit, Decision


class LocalProbes(Protocol):
    """Who grants probes while the fleet can't be heard (`alone.Alone`)."""

    @property
    def decides(self) -> bool: ...

    def ask(self, circuit: Circuit, *, wanted: bool = True) -> Decision | None: ...

    def release(self, circuit: Circuit) -> None: ...


class Asking:
    """One per process. `answered` must hear every `Admitted`."""

    def __init__(self, *, stream: Stream, name: str, alone: LocalProbes) -> None:
        """`name`: under which this process reports."""
        self._stream = stream
        self._name = name
        self._alone = alone
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Decision]] = {}

    async def ask(self, circuit: Circuit, *, wanted: bool = True, epoch: int = 0) -> Decision | None:
        """The decision that grants the probe, or more time with it; None: it is not ours. Raises `EngineUnavailable`.

        `wanted`: whether somebody waits for this institution. `epoch`: of the decision by which it is open here.
        """
        if self._alone.decides:
            return self._alone.ask(circuit, wanted=wanted)
        number = next(self._numbers)
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(ANSWERED_WITHIN):
                await self._stream.append(ProbeWanted(circuit=circuit, name=self._name, number=number, wanted=wanted, epoch=epoch))
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._waiting[number]

    async def release(self, circuit: Circuit, fence: int) -> None:
        """Gives it back without a result. Raises `EngineUnavailable`."""
        if self._alone.decides:
            self._alone.release(circuit)
        else:
            await self._stream.append(ProbeGivenBack(circuit=circuit, name=self._name, fence=fence))

    def answered(self, answer: Admitted) -> None:
        """For `Following.on_admitted`."""
        waiting = self._waiting.get(answer.number) if answer.name == self._name else None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.decision)
