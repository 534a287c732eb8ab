"""Whether anybody waits for an institution."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from backend.providers.calls import Scope
from backend.providers.circuits import Circuit
from backend.registration.probes import Probes
from backend.storage.database import Database
from backend.storage.tables import metadata
from tests.storage.given import entered, insert

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
BANK, CARD, CA = "A1MOABK001", "B1MOACD001", "ZZMOACA001"
OF = {"user_id": "anna", "updated_at": NOW}
REGISTRATION = OF | {
    "id": "reg_1",
    "status": "collecting",
    "run": 1,
    "signature_status": "completed",
    "signature_run": 1,
    "sign_before": NOW,
    "request_id": "req_1",
    "created_at": NOW,
}
ITEM = OF | {"registration_id": "reg_1", "org_code": BANK, "position": 0, "status": "deferred", "run": 1}
REFRESH = {"user_id": "anna", "id": "ref_1", "request_id": "req_1", "created_at": NOW}
REFRESHED = OF | {"refresh_id": "ref_1", "org_code": BANK, "position": 0, "status": "refreshing"}
REVOCATION = {"user_id": "anna", "org_code": BANK, "created_at": NOW}


async def waits(database: Database, *rows: tuple[str, dict[str, Any]]) -> dict[str, bool]:
    """For whom somebody waits, when these rows are there."""
    async with database.reading() as connection:
        await entered(connection, "anna", NOW)
        for table, row in rows:
            await insert(connection, metadata.tables[table], [row])
    probes = Probes(institutions=None, database=database, collecting=None)  # type: ignore[arg-type]  # nobody is called
    asked = [Circuit(BANK, Scope.READ), Circuit(BANK, Scope.TOKEN), Circuit(CARD, Scope.READ), Circuit(CA, Scope.CA)]
    return {f"{each.org_code}/{each.scope}": True for each in asked if await probes.is_awaited(each)}


AT_THE_BANK = {f"{BANK}/read": True, f"{BANK}/token": True}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((), {}),
        ((("registrations", REGISTRATION), ("registration_items", ITEM)), AT_THE_BANK),
        ((("registrations", REGISTRATION), ("registration_items", ITEM | {"status": "failed"})), {}),
        ((("refreshes", REFRESH), ("refresh_items", REFRESHED)), AT_THE_BANK),
        ((("refreshes", REFRESH), ("refresh_items", REFRESHED | {"status": "completed"})), {}),
        ((("revocations", REVOCATION),), AT_THE_BANK),
        ((("registrations", REGISTRATION | {"status": "signing"}),), {f"{CA}/ca": True}),
    ],
)
async def test_who_has_begun_something_there_waits_until_it_has_ended(
    database: Database, rows: tuple[tuple[str, dict[str, Any]], ...], expected: dict[str, bool]
) -> None:
    assert await waits(database, *rows) == expected
