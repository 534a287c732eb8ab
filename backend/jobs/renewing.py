"""How a worker keeps what it has: it prolongs its leases, takes anew what Valkey has forgotten, and lets go of what others have.

In: the runs that a worker has in hand. Out: longer leases, told to `holding`; `let_go` of each run whose job is another's.
A lease that is still valid by our own clock, and that nobody holds, was forgotten: nobody else can have claimed that job and ended it.
Never here: how long a run takes, and how it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from backend.clock import Clock
from backend.jobs.holding import Holding
from backend.jobs.leases import NOBODY, Leases, Run
from backend.jobs.outage import Outage
from backend.jobs.valkey import VALKEY_AWAY

log = structlog.get_logger()


class Renewing:
    """Three times per `lease` (seconds), for as long as `run()` is not cancelled. `runs` by job id, as they are at any time."""

    def __init__(
        self,
        *,
        leases: Leases,
        lease: float,
        clock: Clock,
        runs: Mapping[str, Run],
        let_go: Callable[[Run], asyncio.Task[None]],
        holding: Holding,
    ) -> None:
        self._leases = leases
        self._lease = lease
        self._clock = clock
        self._runs = runs
        self._let_go = let_go
        self._holding = holding

    async def run(self) -> None:
        """Runs until it is cancelled."""
        outage = Outage("renewing")
        while True:
            try:
                await self.once()
                outage.over()
                if self._holding.is_sure:  # else the answer came too late to be worth anything
                    await asyncio.sleep(self._lease / 3)
            except VALKEY_AWAY as exc:
                self._holding.unknown()
                await outage.pause(exc)

    async def once(self) -> None:
        """Prolongs every lease by one script, and lets go of the runs whose job another worker has claimed. Raises `VALKEY_AWAY`."""
        until = self._clock.monotonic() + self._lease
        held = [(run, run.lease.owner) for run in self._runs.values()]
        holders = await self._leases.renew([(run.claimed.job_id, owner) for run, owner in held])
        holders |= await self._retaken([run for run, owner in held if _is_held(run, owner) and holders.get(run.claimed.job_id) == NOBODY])
        lost = []
        for run, owner in held:
            if not _is_held(run, owner):
                continue
            holder = holders.get(run.claimed.job_id, owner)
            if holder == owner or self._leases.is_ours(holder):
                run.lease.owner, run.lease.until = holder, until
            else:
                log.warning("job.lease_lost", job_id=run.claimed.job_id)
                run.lease.lost = True
                lost.append(self._let_go(run))
        if lost:
            await asyncio.wait(lost, timeout=self._lease / 6)
        self._holding.renewed(until)

    async def _retaken(self, missed: list[Run]) -> dict[str, str]:
        """Who holds each of these jobs, which nobody held, now that we have asked for those whose lease we cannot have lost."""
        forgotten = [run for run in missed if run.lease.owned()]
        if not forgotten:
            return {}
        log.warning("valkey.forgot_leases", jobs=len(forgotten))
        others = await self._leases.retake([(run.claimed, run.lease.owner) for run in forgotten])
        return {run.claimed.job_id: others.get(run.claimed.job_id, run.lease.owner) for run in forgotten}


def _is_held(run: Run, owner: str) -> bool:
    """Whether it still runs by this claim: it was not claimed again by ourselves, and has not ended, while Valkey answered."""
    return run.lease.owner == owner and run.settlement is None
