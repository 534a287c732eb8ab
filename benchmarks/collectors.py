"""A worker's collecting as a process that is asked over pipes: whole collections of one bank, stored and told as in a registration.

In: how many registrations to make ready, then for how long to collect how many at once. Out: calls, seconds, CPU of this process. Each
collection is another person's, who has a link with a good token, so that no CA and no token endpoint is called. The bank is
`listed_bank`, PostgreSQL and Valkey are real; the jobs' queue and its leases are not part of it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from backend.clock import SystemClock
from backend.hands import hands_of
from backend.identity import Identity
from backend.logs import configure_logs
from backend.providers.clients import http_clients
from backend.registration.people import People
from backend.services import Foundation, found
from backend.settings import Settings
from backend.storage import links
from backend.storage.sealed import ACCESS_TOKEN, REFRESH_TOKEN
from backend.storage.statements import Connection
from backend.storage.vault import Vault
from benchmarks.callers import ORG_CODE, TOKEN
from benchmarks.companions import Answering, serve
from benchmarks.listed_bank import ACCOUNTS, CALLS

KEYS = "k1:" + base64.b64encode(b"v" * 32).decode()
NAME = "reg_01J00000000000000000000000"
DIRECTORY = """
[ca]
org_code = "CAMOA00001"
name = "CA"
base_url = "{url}"
allow_private = true

[[providers]]
org_code = "{org_code}"
name = "bank"
industry = "bank"
base_url = "{url}"
allow_private = true
"""
_PERSON = "INSERT INTO users (user_id, person_sealed, created_at, feed_offset) VALUES ($1, $2, $3, 0)"
_REGISTRATION = """
    INSERT INTO registrations (user_id, id, status, run, signature_status, signature_run, sign_before, request_id, created_at, updated_at)
    VALUES ($1, $2, 'collecting', 1, 'completed', 1, $3, 'req_benchmark', $3, $3)
"""
_ITEM = """
    INSERT INTO registration_items (user_id, registration_id, org_code, position, status, run, updated_at)
    VALUES ($1, $2, $3, 0, 'waiting', 1, $4)
"""


class Ready:
    """People whose bank is still to be read."""

    def __init__(self, foundation: Foundation, vault: Vault) -> None:
        self._foundation = foundation
        self._vault = vault
        self._people = People(vault=vault, derive=True)
        self.users: list[str] = []

    async def add(self, count: int) -> None:
        for _ in range(count):
            user_id = f"bench {uuid4().hex}"
            await self._foundation.database.transaction(lambda connection, who=user_id: self._made(connection, who))
            self.users.append(user_id)

    async def _made(self, connection: Connection, user_id: str) -> None:
        now = self._foundation.clock.now()
        person = self._people.sealed(Identity(user_id=user_id, scopes=frozenset({"user"}), expires_at=now + timedelta(hours=1)))
        await connection.execute(_PERSON, user_id, person, now)
        await connection.execute(_REGISTRATION, user_id, NAME, now)
        await connection.execute(_ITEM, user_id, NAME, ORG_CODE, now)
        link = {
            "org_code": ORG_CODE,
            "status": "active",
            "consent_tx_id": "MD_benchmark",
            "consent_ends_on": (now + timedelta(days=365)).date(),
            "consented_at": now,
            "access_token_sealed": self._vault.seal(TOKEN.encode(), *ACCESS_TOKEN.row(user_id, ORG_CODE)),
            "access_expires_at": now + timedelta(days=90),
            "refresh_token_sealed": self._vault.seal(TOKEN.encode(), *REFRESH_TOKEN.row(user_id, ORG_CODE)),
            "refresh_expires_at": now + timedelta(days=365),
            "scope": "bank.list",
            "updated_at": now,
        }
        await links.save(connection, user_id, link)


async def collected(foundation: Foundation, hands: Any, ready: Ready, seconds: float, at_once: int) -> dict[str, Any]:
    """`at_once` loops, each taking the next person when one is done. Raises when there are too few of them, or one was not read whole."""
    done: list[str] = []
    begun, cpu = time.monotonic(), time.process_time()

    async def loop() -> None:
        while time.monotonic() - begun < seconds:
            user_id = ready.users.pop()
            await hands.collecting.collect(user_id, NAME, ORG_CODE, 1)
            done.append(user_id)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(loop())
    await foundation.handling.finish()
    told = {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu, "answered": len(done) * CALLS}
    async with foundation.database.reading() as connection:
        stored = await connection.fetchval("SELECT count(*) FROM assets WHERE user_id = ANY($1)", done)
        facts = await connection.fetchval("SELECT sum(feed_offset) FROM users WHERE user_id = ANY($1)", done)
    if stored != len(done) * ACCOUNTS:
        raise AssertionError(f"{stored} assets of {len(done)} people")
    return {**told, "facts": int(facts) / (len(done) * CALLS)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.collectors")
    for name in ("--url", "--database", "--valkey", "--folder"):
        parser.add_argument(name, required=True)
    asked = parser.parse_args()
    file = Path(asked.folder) / "providers.toml"
    file.write_text(DIRECTORY.format(url=asked.url, org_code=ORG_CODE), "utf-8")
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        data=Path(asked.folder),
        database_url=asked.database,
        valkey_url=asked.valkey,
        vault_keys=KEYS,
        asset_id_secret="benchmark",
        providers_file=file,
        log_format="json",
    )
    told, sys.stderr = sys.stderr, Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # it lasts as long as the process
    configure_logs(settings, process="collector")
    sys.stderr = told

    async def begin() -> Answering:
        foundation = found(settings, SystemClock())
        hands = hands_of(foundation, http_clients(foundation.directory, settings, foundation.clock))
        ready = Ready(foundation, Vault(KEYS))

        async def answer(question: dict[str, Any]) -> object:
            if "ready" in question:
                return await ready.add(question["ready"])
            return await collected(foundation, hands, ready, question["seconds"], question["at_once"])

        return answer

    serve(begin)


if __name__ == "__main__":
    main()
