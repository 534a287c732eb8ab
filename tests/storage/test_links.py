"""What becomes of a link's tokens when two write of it at one moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime

from backend.storage import links as storage
from backend.storage import revocations
from backend.storage.database import Database
from backend.storage.links import End
from backend.storage.tables import links
from tests.storage.given import entered, insert

ORG = "A1MOABK001"
NOW = datetime(2026, 11, 25, 3, tzinfo=UTC)
LINK = {"user_id": "anna", "org_code": ORG, "status": "active", "consent_tx_id": "tx", "scope": "bank.list", "consented_at": NOW}
MOMENTS = {"consent_ends_on": date(2027, 1, 1), "created_at": NOW, "updated_at": NOW}
TOKENS = {"access_token_sealed": b"old", "access_expires_at": NOW, "refresh_token_sealed": b"old", "refresh_expires_at": NOW}


async def test_the_token_that_is_owed_is_the_one_that_was_written_while_the_link_ended(database: Database) -> None:
    async with database.reading() as worker, database.reading() as api, database.reading() as onlooker:
        await entered(worker, "anna", NOW)
        await insert(worker, links, [{**LINK, **MOMENTS, **TOKENS}])
        renewing = worker.transaction()
        await renewing.start()
        assert await storage.renew(worker, "anna", {**LINK, **TOKENS, "access_token_sealed": b"new", "updated_at": NOW})
        how = End(status="revoked", happened="revoked", is_owed=True)
        ending = asyncio.create_task(storage.end(api, "anna", ORG, how, NOW))
        async with asyncio.timeout(5):
            while not await onlooker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        await renewing.commit()
        assert await ending == MOMENTS["consent_ends_on"]
        owed = await revocations.find(api, "anna", ORG)
    assert owed is not None
    assert owed["token_sealed"] == b"new"  # the provider has dropped the old one
