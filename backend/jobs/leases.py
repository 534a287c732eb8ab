"""Claims by lease: one script each to claim, renew, retake, settle and count workers, over arq's own keys.

A job's score in the queue is its visibility timeout, so a dead worker's jobs fall due by themselves: no reaper, no scan.
Time is Valkey's inside the scripts. Here redis-py's errors pass; the worker waits them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import uuid4

from arq.constants import expires_extra_ms
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from backend.clock import Clock
from backend.jobs.queue import QueueName, lua, queue_key, wake_key
from backend.jobs.valkey import engine_errors

HORIZON = 1.0  # seconds after which a waiting worker looks at the queue although nothing woke it
NOBODY = ""  # in the place of a holder
OWNER_REMEMBERED = 60.0  # seconds, at least: a run that outlived its lease may still end itself while nobody else has claimed


class Lease:
    """A run's hold on its job, `ctx["lease"]`. Ask it before an effect that cannot be fenced by a row."""

    __slots__ = ("_clock", "job_id", "lost", "owner", "until")

    def __init__(self, job_id: str, owner: str, until: float, clock: Clock) -> None:
        self.job_id = job_id
        self.owner = owner  # unique for each claim
        self.until = until  # on the monotonic clock
        self.lost = False  # whether another worker was seen to own the job
        self._clock = clock

    def owned(self) -> bool:
        """Whether nobody else can have claimed this job: measured from before the last renewal was sent."""
        return not self.lost and self._clock.monotonic() < self.until


class Claimed(Struct, frozen=True):
    """One job as the claim script returns it."""

    job_id: str
    payload: bytes | None  # None: the job outlived its day and is gone
    tries: int  # this one included
    due_ms: int  # when it might have started, Unix ms

    def __repr__(self) -> str:
        return f"Claimed({self.job_id}, try {self.tries})"


class Claims(Struct, frozen=True):
    """What one claim brought."""

    owner: str
    jobs: tuple[Claimed, ...]
    next_due: float | None  # seconds until the next job falls due; None: the queue is empty


class Tries(StrEnum):
    """What a run that gives its job back leaves of the job's count of tries. The values are settle.lua's."""

    COUNTED = "counted"  # it failed
    TAKEN_BACK = "taken back"  # it was not the job's fault
    FORGOTTEN = "forgotten"  # it got on as far as it could: the job begins anew, with a new day to live


class Settlement(Struct, frozen=True):
    """How a run ended."""

    again_in: float | None = None  # seconds; None: the job is over and its id is free again
    tries: Tries = Tries.COUNTED
    failed: bool = False  # whether the job is over without having been done


class Run:
    """One job in a worker's hands, from its claim until its end is settled."""

    __slots__ = ("claimed", "lease", "next", "settlement", "settling", "taken_away")

    def __init__(self, claimed: Claimed, lease: Lease) -> None:
        self.claimed = claimed
        self.lease = lease
        self.settling = False  # whether Valkey was told of the end
        self.next: Run | None = None  # the same job, claimed again before Valkey's answer to that had arrived
        self.taken_away = False  # whether we cancelled it: the lease was lost, or the worker stops
        self.settlement: Settlement | None = None  # None: still running


def workers_key(queue: QueueName) -> str:
    """Sorted set of worker ids; the score is until when each counts as alive, in Unix ms."""
    return f"{queue_key(queue)}:workers:v1"


async def workers_alive(redis: Redis, queue: QueueName) -> int:
    """How many workers of this queue have been heard of within two leases. Raises `EngineUnavailable`."""
    with engine_errors():
        return int(await redis.register_script(lua("alive"))([workers_key(queue)]))


class Leases:
    """What one worker says to Valkey."""

    def __init__(self, *, redis: Redis, queue: QueueName, lease: float) -> None:
        self.worker_id = uuid4().hex
        self._redis = redis
        self._workers = workers_key(queue)
        self._nudges = f"{wake_key(queue)}:{self.worker_id}"  # tokens that this worker leaves for itself
        patience = redis.connection_pool.connection_kwargs.get("socket_timeout")  # a blocking command must end before it
        # A lease runs from before its claim was sent, so that wait must be short beside it.
        self._longest_wait = min(HORIZON, lease / 4, patience / 2 if patience else HORIZON)
        self._keys = [queue_key(queue), wake_key(queue)]
        self._lease_ms = _ms(lease)
        self._remembered_ms = _ms(max(OWNER_REMEMBERED, 10 * lease))
        self._claims = 0
        self._claim = redis.register_script(lua("claim"))
        self._renew = redis.register_script(lua("renew"))
        self._retake = redis.register_script(lua("retake"))
        self._settle = redis.register_script(lua("settle"))

    def is_ours(self, holder: str) -> bool:
        """Whether a claim of this worker holds the job. We may not know of it: a frozen Valkey carries out what it was sent when
        it thaws, long after we gave up waiting for the answer.
        """
        return holder.startswith(self.worker_id)

    async def claim(self, slots: int, *, woken: bool = False) -> Claims:
        """Takes up to `slots` jobs that are due; if `woken`, as soon as a token or a nudge came, or after a second without one.

        With 0 slots it only passes a wake-up on to another worker.
        """
        self._claims += 1
        owner = f"{self.worker_id}:{self._claims}"
        arguments: list[str | int] = [slots, self._lease_ms, self._remembered_ms, owner, _ms(HORIZON)]
        wait, *rows = await (self._claim_when_woken(arguments) if woken else self._claim(self._keys, arguments))
        jobs = tuple(Claimed(job_id.decode(), payload, tries, int(due)) for job_id, payload, tries, due in rows)
        return Claims(owner, jobs, None if wait < 0 else wait / 1000)

    async def _claim_when_woken(self, arguments: list[str | int]) -> list[Any]:
        """Both in one write: Valkey claims for us at the moment at which it wakes us, and no round trip lies in between."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.execute_command("BLPOP", self._keys[1], self._nudges, self._longest_wait)
        pipeline.execute_command("EVALSHA", self._claim.sha, len(self._keys), *self._keys, *arguments)
        token, claimed = await pipeline.execute(raise_on_error=False)
        if isinstance(claimed, NoScriptError):
            claimed = await self._claim(self._keys, arguments)
        for reply in (token, claimed):
            if isinstance(reply, Exception):
                raise reply
        return list(claimed)

    async def nudge(self) -> None:
        """Ends the wait of a claim of this worker that is under way. One that comes too late makes the next claim look at once."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.rpush(self._nudges, "1")
        pipeline.pexpire(self._nudges, _ms(HORIZON))
        await pipeline.execute()

    async def renew(self, held: Sequence[tuple[str, str]]) -> dict[str, str]:
        """Reports the worker alive and prolongs these (job id, owner). Returns who holds each job that another claim took."""
        arguments: list[str | int] = [self.worker_id, self._lease_ms, self._remembered_ms]
        for pair in held:
            arguments += pair
        return _holders(await self._renew([self._keys[0], self._workers], arguments))

    async def retake(self, forgotten: Sequence[tuple[Claimed, str]]) -> dict[str, str]:
        """Claims these (job, owner) once more, of which Valkey knows nothing. Returns who holds each job that another claim took."""
        arguments: list[Any] = [self._lease_ms, self._remembered_ms, expires_extra_ms]
        for claimed, owner in forgotten:
            arguments += claimed.job_id, owner, claimed.payload or b"", claimed.tries
        return _holders(await self._retake(self._keys[:1], arguments))

    async def settle(self, ended: Sequence[tuple[str, str, Settlement]]) -> dict[str, str]:
        """Ends these (job id, owner, settlement). Returns who holds each job that another claim took: nothing was done to it."""
        arguments: list[str | int] = [expires_extra_ms]
        for job_id, owner, settlement in ended:
            delay = "" if settlement.again_in is None else _ms(settlement.again_in)
            arguments += job_id, owner, delay, settlement.tries
        return _holders(await self._settle(self._keys, arguments))

    async def leave(self) -> None:
        """The worker no longer counts as alive."""
        await self._redis.zrem(self._workers, self.worker_id)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _holders(reply: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Job id -> owner, or `NOBODY`."""
    return {job_id.decode(): holder.decode() for job_id, holder in reply}
