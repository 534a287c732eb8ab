"""Messages leave for the operators' channels: claimed by lease, posted as Slack takes them, settled.

In: rows of `storage.notices`. Out: POSTs of `{"text": …}`. An attempt that surely came to nothing (no connection, an answer that is no
2xx) is made again; one whose answer was lost (deadline, broken connection, our process killed) is made again too, under the same
`Idempotency-Key`. A receiver that heeds the key has one message in the end; one that does not, Slack itself among them, may show a message
twice when an answer got lost, and never misses one.
The path of a channel's URL is its secret: nothing here logs, stores or raises it. No lock or connection is held during a call.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit

import orjson
import structlog
from msgspec import Struct

from backend.clock import Clock
from backend.errors import EngineUnavailable
from backend.storage import notices
from backend.storage.database import Database
from backend.storage.notices import Claim
from backend.webhooks.addresses import Reach, fault_of
from backend.webhooks.retrying import NoAnswer, is_delivered, next_try
from backend.webhooks.underway import UnderWay

DEADLINE = 30.0  # seconds of one attempt: a slow receiver is better waited for than asked twice
LEASE = timedelta(seconds=DEADLINE + 15)
LONGEST_PAUSE = timedelta(minutes=5)
GIVEN_UP_AFTER = timedelta(days=1)  # a message of yesterday is no news
EVERY = 1.0  # seconds from one look at what is due to the next
STOP_SECONDS = 5.0  # for calls under way when this process stops or leads no more; what is left is sent again by another

log = structlog.get_logger()


class Post(Protocol):
    """How a receiver is called."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int | NoAnswer: ...


class Channel(Struct, frozen=True):
    """Where operators want to be told."""

    id: str  # a digest of the URL
    host: str
    url: str  # secret

    def __repr__(self) -> str:
        return f"Channel({self.id}, {self.host})"


def channels_of(urls: str, reach: Reach) -> tuple[tuple[Channel, ...], tuple[str, ...]]:
    """From a comma-separated list: those that can be called, and what is wrong with the others, which names their place and not the URL."""
    found: dict[str, Channel] = {}
    faults = []
    for place, url in enumerate((each.strip() for each in urls.split(",") if each.strip()), 1):
        if (fault := fault_of(url, reach)) is not None:
            faults.append(f"MOA_NOTICE_WEBHOOKS, number {place}: {fault}")
            continue
        digest = hashlib.sha256(url.encode()).hexdigest()[:16]
        found[digest] = Channel(digest, urlsplit(url).hostname or "", url)
    return tuple(found.values()), tuple(faults)


def body_of(text: str) -> bytes:
    """As Slack takes it: what would be a link or a call to everybody is plain text."""
    return orjson.dumps({"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")})


class Messenger:
    """Sends, while `run` runs. Any number of them may: a row is one's at a time."""

    def __init__(
        self,
        *,
        database: Database,
        channels: Sequence[Channel],
        post: Post,
        clock: Clock,
        draw: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._channels = {channel.id: channel for channel in channels}
        self._post = post
        self._clock = clock
        self._draw = draw
        self._sleep = sleep
        self._under_way = UnderWay(failed=_failed)

    async def run(self) -> None:
        """Until it is cancelled: then the calls under way have a moment to end."""
        if not self._channels:
            log.info("notices.no_channel", set="MOA_NOTICE_WEBHOOKS")
        try:
            while True:
                try:
                    await self.send_due()
                except EngineUnavailable as exc:
                    log.info("notices.postponed", engine=exc.engine)
                await self._sleep(EVERY)
        finally:
            await self._under_way.end_within(STOP_SECONDS)

    async def send_due(self) -> int:
        """Starts what may be sent now; returns how many."""
        if not self._channels:
            return 0
        now = self._clock.now()
        claims = await self._database.single(lambda connection: notices.claim(connection, list(self._channels), now=now, until=now + LEASE))
        for claim in claims:
            self._under_way.begin(self._deliver(claim))
        return len(claims)

    async def oldest(self) -> datetime | None:
        """When the oldest message was written that waits to be sent; None: none does. Raises `EngineUnavailable`."""
        async with self._database.reading() as connection:
            return await notices.oldest(connection, list(self._channels))

    async def idle(self) -> None:
        """When every call that is under way has ended."""
        await self._under_way.idle()

    async def _deliver(self, claim: Claim) -> None:
        is_news = self._clock.now() - claim.created_at < GIVEN_UP_AFTER  # else nobody was there to send it, or its channel was not named
        answer = await self._posted(claim) if is_news else None
        try:
            await self._settle(claim, answer)
        except EngineUnavailable as exc:
            log.warning("notice.sent_again_later", topic=claim.topic, channel=claim.channel, engine=exc.engine)

    async def _posted(self, claim: Claim) -> int | NoAnswer:
        channel = self._channels[claim.channel]
        headers = {"Idempotency-Key": str(claim.id)}
        started = self._clock.monotonic()
        answer = await self._post.post(channel.url, headers, body_of(claim.body))
        log.info(
            "notice.attempt",
            topic=claim.topic,
            channel=channel.id,
            host=channel.host,
            answer=answer,
            attempt=claim.attempts + 1,
            ms=round((self._clock.monotonic() - started) * 1000, 1),
        )
        return answer

    async def _settle(self, claim: Claim, answer: int | NoAnswer | None) -> None:
        """`answer` None: it was not sent any more."""
        now = self._clock.now()
        if answer is not None and is_delivered(answer):
            await self._database.single(lambda connection: notices.sent(connection, claim, now))
        elif now - claim.created_at >= GIVEN_UP_AFTER:
            if await self._database.single(lambda connection: notices.give_up(connection, claim, now)):
                log.error("notice.given_up", topic=claim.topic, channel=claim.channel)
        else:
            due_at = min(next_try(claim.attempts + 1, now, self._draw()), now + LONGEST_PAUSE)
            await self._database.single(lambda connection: notices.again(connection, claim, due_at))


def _failed(exc: BaseException) -> None:
    log.error("notice.failed", error=type(exc).__name__)
