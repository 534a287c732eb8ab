"""How a worker tells Valkey what became of its runs: whatever ended during one round trip goes with the next.

In: runs that have ended. Out: their jobs are over, due again, or given back; `forget` of each run that is told. One whose job was claimed
again by ourselves meanwhile is told once more, under the later claim.
Never here: what a run's end means (`attempts.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from backend.jobs.attempts import GIVEN_BACK
from backend.jobs.leases import Leases, Run
from backend.jobs.outage import Outage
from backend.jobs.valkey import VALKEY_AWAY


class Settling:
    """For as long as `run()` is not cancelled."""

    def __init__(self, leases: Leases, forget: Callable[[Run], None]) -> None:
        self._leases = leases
        self._forget = forget
        self._ended: list[Run] = []
        self._some_ended = asyncio.Event()

    def ended(self, run: Run) -> None:
        """It has its settlement, and waits to be told."""
        self._ended.append(run)
        self._some_ended.set()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        outage = Outage("settling")
        while True:
            await self._some_ended.wait()
            self._some_ended.clear()
            batch, self._ended = self._ended, []
            while batch:
                try:
                    batch = await self._settle(batch)
                    outage.over()
                except VALKEY_AWAY as exc:
                    await outage.pause(exc)

    async def _settle(self, batch: Sequence[Run]) -> list[Run]:
        """Returns the runs that must be settled again, since another claim of ours holds their job."""
        sent = [(run.claimed.job_id, run.lease.owner, run.settlement or GIVEN_BACK) for run in batch]
        for run in batch:
            run.settling = True
        holders = await self._leases.settle(sent)
        again = []
        for run, (job_id, owner, _) in zip(batch, sent, strict=True):
            holder = holders.get(job_id, owner)
            if holder != owner and self._leases.is_ours(holder):
                run.lease.owner, run.next = holder, None
                again.append(run)
            else:
                self._forget(run)
        return again
