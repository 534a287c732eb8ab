"""Deliveries leave for their receivers: claimed by lease, signed, posted, settled. Runs in every worker.

In: rows that `publish` wrote; `published`, set after each commit of this process; a sweep each second for all that came otherwise.
Out: POSTs. Each webhook has a lane of its own, so a slow receiver holds up nobody else. No lock or connection is held during a call.
A killed worker's deliveries are sent again when their lease is over: at least once, never exactly once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from msgspec.structs import replace

from backend.clock import Clock
from backend.errors import EngineUnavailable
from backend.storage import webhooks
from backend.storage.database import Database
from backend.storage.statements import Connection
from backend.storage.webhooks import ILL_AFTER, Claim
from backend.webhooks.keeping import Keeping, Webhook
from backend.webhooks.retrying import FORGOTTEN_AFTER, GIVEN_UP_AFTER, GONE, NoAnswer, is_delivered, is_over, next_try
from backend.webhooks.signing import body_of, headers_of, message_id
from backend.webhooks.underway import UnderWay

AT_ONCE = 8  # calls to one webhook from one worker
GATHER_SECONDS = 0.02  # what is committed within this time after a wake-up goes with it
LEASE_SPARE = timedelta(seconds=15)  # for settling, beyond the deadline of the call
STOP_SECONDS = 2.0  # for calls under way when the worker stops; what is left is sent again by another

log = structlog.get_logger()


class Post(Protocol):
    """How a receiver is called."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> int | NoAnswer: ...


class Lane:
    """One webhook's deliveries, at most `AT_ONCE` of them under way."""

    def __init__(self, webhook: Webhook, *, database: Database, post: Post, clock: Clock, lease: timedelta) -> None:
        self.webhook = webhook
        self.woken = asyncio.Event()
        self._database = database
        self._post = post
        self._clock = clock
        self._lease = lease
        self._under_way = UnderWay(failed=self._failed, ended=self.woken.set)

    async def run(self) -> None:
        """Until cancelled: then the calls under way have a moment to end."""
        try:
            while True:
                await self.woken.wait()
                await asyncio.sleep(GATHER_SECONDS)
                self.woken.clear()
                try:
                    await self.send_due()
                except EngineUnavailable as exc:
                    log.info("webhook.postponed", webhook_id=self.webhook.id, engine=exc.engine)
        finally:
            await self._under_way.end_within(STOP_SECONDS)

    async def send_due(self) -> int:
        """Starts what may be sent now; returns how many."""
        slots = AT_ONCE - len(self._under_way)
        if slots <= 0:
            return 0
        claims = await self._database.transaction(lambda connection: self._claim(connection, slots))
        for claim in claims:
            self._under_way.begin(self._deliver(claim))
        return len(claims)

    async def idle(self) -> None:
        """When every call that is under way has ended."""
        await self._under_way.idle()

    async def _claim(self, connection: Connection, slots: int) -> list[Claim]:
        now = self._clock.now()
        until = now + self._lease
        if self.webhook.failures >= ILL_AFTER:
            if self._under_way or not await webhooks.may_probe(connection, self.webhook.id, now=now, until=until):
                return []
            slots = 1
        return await webhooks.claim(connection, self.webhook.id, slots=slots, now=now, until=until)

    def _failed(self, exc: BaseException) -> None:
        log.error("webhook.failed", webhook_id=self.webhook.id, error=type(exc).__name__)

    async def _deliver(self, claim: Claim) -> None:
        message = message_id(claim.id)
        body = body_of(message, claim.user_id, claim.offset, claim.event)
        started = self._clock.monotonic()
        answer = await self._post.post(self.webhook.url, headers_of(self.webhook.keys, message, self._clock.now(), body), body)
        log.info(
            "webhook.attempt",
            webhook_id=self.webhook.id,
            message_id=message,
            answer=answer,
            attempt=claim.attempts + 1,
            ms=round((self._clock.monotonic() - started) * 1000, 1),
        )
        try:
            if not await self._settle(claim, answer):
                log.warning("webhook.lease_lost", webhook_id=self.webhook.id, message_id=message)
        except EngineUnavailable as exc:
            log.warning("webhook.sent_again_later", webhook_id=self.webhook.id, message_id=message, engine=exc.engine)

    async def _settle(self, claim: Claim, answer: int | NoAnswer) -> bool:
        now = self._clock.now()
        well = is_delivered(answer)
        # The row tells the fleet's count with the next sweep; until then this lane goes by what it saw itself.
        self.webhook = replace(self.webhook, failures=0 if well else self.webhook.failures + 1)

        async def deed(connection: Connection) -> bool:
            if well:
                return await webhooks.delivered(connection, claim, now)
            if answer == GONE:
                await webhooks.disable(connection, claim.webhook_id, str(answer), now)
            due_at = next_try(claim.attempts + 1, now, random.random())  # noqa: S311  # jitter, not a secret
            over = is_over(claim.created_at, now)
            return await webhooks.failed(connection, claim, str(answer), due_at=due_at, over=over, now=now)

        return await self._database.transaction(deed)


class Sender:
    """The lanes of one worker. A sweep of it brings the lanes up to date with the rows and wakes them."""

    name = "webhooks"

    def __init__(
        self, *, keeping: Keeping, database: Database, post: Post, clock: Clock, deadline: float, published: asyncio.Event
    ) -> None:
        self._keeping = keeping
        self._open: Callable[[Webhook], Lane] = lambda webhook: Lane(
            webhook, database=database, post=post, clock=clock, lease=timedelta(seconds=deadline) + LEASE_SPARE
        )
        self._published = published
        self._lanes: dict[str, tuple[Lane, asyncio.Task[None]]] = {}
        self._mute: set[str] = set()  # webhooks that nothing can be signed for, each told once

    async def run(self) -> None:
        """Wakes the lanes after every commit of this process. Until cancelled, then the lanes end."""
        try:
            while True:
                await self._published.wait()
                self._published.clear()
                self._wake()
                await asyncio.sleep(GATHER_SECONDS)
        finally:
            await self._close(set(self._lanes))

    async def sweep(self, now: datetime) -> int:  # noqa: ARG002  # rows say it all
        """Learns which webhooks there are, with their secrets and their health. It finds nothing to mend."""
        active = [webhook for webhook in await self._keeping.listed() if webhook.status == "active"]
        self._tell_of({webhook.id for webhook in active if not webhook.keys})
        known = {webhook.id: webhook for webhook in active if webhook.keys}
        await self._close(self._lanes.keys() - known.keys())
        for webhook_id, webhook in known.items():
            if webhook_id in self._lanes:
                self._lanes[webhook_id][0].webhook = webhook
            else:
                lane = self._open(webhook)
                self._lanes[webhook_id] = (lane, asyncio.create_task(lane.run()))
        self._wake()
        return 0

    def _tell_of(self, mute: set[str]) -> None:
        """Their deliveries wait for another secret, until they are given up for their age."""
        for webhook_id in mute - self._mute:
            mend = f"give it a new one with POST /v1/webhooks/{webhook_id}/secret, or put the lost key back into MOA_VAULT_KEYS"
            log.error("webhook.secret_unreadable", webhook_id=webhook_id, mend=mend)
        self._mute = mute

    def _wake(self) -> None:
        for lane, _ in self._lanes.values():
            lane.woken.set()

    async def _close(self, webhook_ids: set[str]) -> None:
        tasks = [self._lanes.pop(webhook_id)[1] for webhook_id in webhook_ids]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class DeliverySweep:
    """Gives up deliveries after three days, forgets them a week later, and clears away what is left of webhooks that ended."""

    name = "webhook_deliveries"

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def sweep(self, now: datetime) -> int:
        """How many rows went."""

        def deed(connection: Connection) -> Awaitable[int]:
            return webhooks.clean(connection, pending_before=now - GIVEN_UP_AFTER, failed_before=now - FORGOTTEN_AFTER, now=now)

        return await self._database.transaction(deed)
