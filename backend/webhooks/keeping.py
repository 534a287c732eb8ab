"""Webhooks as operators keep them: made, listed, given another secret, tested, deleted. Secrets lie sealed and are shown once.

In: checked values. Out: webhooks. What is committed here holds for every fact that is committed later, on whatever node.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

from msgspec import Struct
from ulid import ULID

from backend.clock import Clock, iso
from backend.errors import Problem, Refused
from backend.events import to_json
from backend.storage import webhooks
from backend.storage.database import Database
from backend.storage.operators import Operator, note
from backend.storage.sealed import WEBHOOK_OLD_SECRET, WEBHOOK_SECRET
from backend.storage.statements import Connection, Row
from backend.storage.vault import Vault, VaultError
from backend.webhooks.signing import SECRET_BYTES

MOST_WEBHOOKS = 20
BOTH_SECRETS = timedelta(hours=24)  # how long the old secret signs beside the new one
TEST_EVENT = "webhook.test"


class Webhook(Struct, frozen=True, kw_only=True):
    """One webhook. `events` None: every type, those to come too."""

    id: str
    url: str
    events: tuple[str, ...] | None
    description: str
    status: str  # active or disabled
    keys: tuple[bytes, ...]  # the secret, and for a day the one before; none: the vault cannot open it, so nothing can be signed
    created_at: datetime
    failures: int
    rests_until: datetime | None
    last_delivered_at: datetime | None
    last_failed_at: datetime | None
    last_failure: str | None

    def __repr__(self) -> str:
        return f"Webhook({self.id})"


class Keeping:
    """Keeps webhooks. One per process, made by the composition root."""

    def __init__(self, *, database: Database, vault: Vault, clock: Clock, draw: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock
        self._draw = draw

    async def add(self, url: str, events: tuple[str, ...] | None, description: str, *, by: Operator) -> Webhook:
        """A new webhook with a new secret. Raises `Refused` when there are too many. Like all that is done `by` somebody, it is noted."""
        now, key = self._clock.now(), self._draw(SECRET_BYTES)
        webhook_id = f"wh_{ULID.from_datetime(now)}"
        row = {
            "id": webhook_id,
            "url": url,
            "events": list(events) if events is not None else None,
            "description": description,
            "status": "active",
            "secret_sealed": self._vault.seal(key, *WEBHOOK_SECRET.row(webhook_id)),
            "created_at": now,
        }

        async def deed(connection: Connection) -> Webhook:
            if len(await webhooks.listed(connection)) >= MOST_WEBHOOKS:
                raise Refused(Problem.VALIDATION_FAILED, f"There are {MOST_WEBHOOKS} webhooks already; delete one first.")
            await webhooks.add(connection, row)
            await note(connection, by, "webhook.added", at=now, about=webhook_id)
            return next(self._opened(each, now) for each in await webhooks.listed(connection) if each["id"] == webhook_id)

        return await self._database.transaction(deed)

    async def listed(self) -> list[Webhook]:
        """Every webhook, oldest first."""
        async with self._database.reading() as connection:
            rows = await webhooks.listed(connection)
        return [self._opened(row, self._clock.now()) for row in rows]

    async def counted(self) -> dict[str, tuple[int, int]]:
        """Pending and failed deliveries by webhook, each at most 10,000."""
        async with self._database.reading() as connection:
            return await webhooks.counted(connection)

    async def renew_secret(self, webhook_id: str, *, by: Operator) -> bytes:
        """A new secret; the old one, if it can be read, signs too for a day. Raises `Refused` unless there is such an active webhook."""
        now, key = self._clock.now(), self._draw(SECRET_BYTES)

        async def deed(connection: Connection) -> bool:
            before = next((row for row in await webhooks.listed(connection) if row["id"] == webhook_id), None)
            if before is None:
                return False
            old = self._readable(before["secret_sealed"], WEBHOOK_SECRET.row(webhook_id))
            renewed = await webhooks.renew_secret(
                connection,
                webhook_id,
                expected=before["secret_sealed"],
                old=self._vault.seal(old, *WEBHOOK_OLD_SECRET.row(webhook_id)) if old is not None else None,
                new=self._vault.seal(key, *WEBHOOK_SECRET.row(webhook_id)),
                until=now + BOTH_SECRETS,
            )
            return await _noted(connection, renewed, by, "webhook.secret_renewed", webhook_id, now)

        _or_refuse(await self._database.transaction(deed))
        return key

    async def test(self, webhook_id: str, *, by: Operator) -> None:
        """Leaves a delivery that is in nobody's feed, over the one that this caller left before. Raises `Refused`."""
        now = self._clock.now()
        event = to_json({"type": TEST_EVENT, "at": iso(now), "data": {}})

        async def deed(connection: Connection) -> bool:
            left = await webhooks.add_test(connection, webhook_id, by.who, uuid4(), event, now)
            return await _noted(connection, left, by, "webhook.tested", webhook_id, now)

        _or_refuse(await self._database.transaction(deed))

    async def delete(self, webhook_id: str, *, by: Operator) -> None:
        """Nothing more is sent, but for what is on its way. Raises `Refused`."""
        now = self._clock.now()

        async def deed(connection: Connection) -> bool:
            return await _noted(connection, await webhooks.delete(connection, webhook_id, now), by, "webhook.deleted", webhook_id, now)

        _or_refuse(await self._database.transaction(deed))

    def _opened(self, row: Row, now: datetime) -> Webhook:
        keys = [self._readable(row["secret_sealed"], WEBHOOK_SECRET.row(row["id"]))]
        if keys[0] is not None and row["old_secret_sealed"] is not None and row["old_secret_until"] > now:
            keys.append(self._readable(row["old_secret_sealed"], WEBHOOK_OLD_SECRET.row(row["id"])))
        return Webhook(
            id=row["id"],
            url=row["url"],
            events=tuple(row["events"]) if row["events"] is not None else None,
            description=row["description"],
            status=row["status"],
            keys=tuple(key for key in keys if key is not None),
            created_at=row["created_at"],
            failures=row["failures"],
            rests_until=row["rests_until"],
            last_delivered_at=row["last_delivered_at"],
            last_failed_at=row["last_failed_at"],
            last_failure=row["last_failure"],
        )

    def _readable(self, envelope: bytes, name: tuple[str, ...]) -> bytes | None:
        """None: it was sealed by a key that is lost, which is one webhook's trouble and not everybody's."""
        try:
            return self._vault.open(envelope, *name)
        except VaultError:
            return None


async def _noted(connection: Connection, done: bool, by: Operator, action: str, webhook_id: str, now: datetime) -> bool:
    """What was done is noted; what was not, is not."""
    if done:
        await note(connection, by, action, at=now, about=webhook_id)
    return done


def _or_refuse(found: bool) -> None:
    if not found:
        raise Refused(Problem.NOT_FOUND, "There is no such webhook, or it is disabled.")
