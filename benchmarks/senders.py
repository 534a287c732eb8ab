"""A batch worker's reading of due links as a process that is asked over pipes; and the same calls by the bare client, nothing stored.

In: how many links to make ready, and in which state; then which way to read them. Out: seconds, CPU of this process. Providers are the
sandbox's without latency, PostgreSQL and Valkey are real. Intents are committed by tenths of a second, as a sender does.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from backend.batch.calendar import in_korea, sunday_of
from backend.batch.commands import BEGINNING, last_day
from backend.batch.gentle import Gentle
from backend.batch.refreshing import Attempt
from backend.batches import batch_terms
from backend.cli.seeding import Minting
from backend.clock import SystemClock
from backend.hands import Hands, hands_of, sending_of
from backend.logs import configure_logs
from backend.providers.clients import ProviderClients, http_clients
from backend.providers.contract import ApiType, Timestamps
from backend.providers.sandbox.options import SandboxOptions
from backend.services import Foundation, found
from backend.settings import Settings
from backend.storage import batch_commands, batch_sends, seeding
from backend.storage.batch_sends import Run, State
from backend.storage.statements import Row
from backend.storage.vault import Vault
from benchmarks.companions import Answering, serve

KEYS = "k1:" + base64.b64encode(b"v" * 32).decode()
ORG_CODE = "A1MOABK001"
AT_ONCE = 24  # links that are being read
IN_A_CHUNK = 11  # links of a tenth of a second


class Links:
    """Due links of one bank, made ready and read."""

    def __init__(self, foundation: Foundation, hands: Hands, clients: ProviderClients) -> None:
        self._foundation = foundation
        self._hands = hands
        self._clients = clients
        self._terms = batch_terms(foundation.settings)
        sending = sending_of(foundation, hands, terms=self._terms, gate=lambda _: True, gentle=Gentle())
        self._refreshing = sending._tools.refreshing
        self._minting = Minting(SandboxOptions(), Vault(KEYS), foundation.clock)
        provider = foundation.directory().provider(ORG_CODE)
        assert provider is not None
        self._provider = provider
        self._numbers = count()
        self._rows: list[Row] = []
        self._run: Run | None = None

    async def ready(self, number: int, *, known: bool) -> None:
        """So many new links; `known`: read before, so that there is nothing new."""
        now, name = self._foundation.clock.now(), f"bench-{os.getpid()}-{next(self._numbers)}"
        users = [f"{name}-{each:05d}" for each in range(number)]
        people = {user: self._minting.person(user) for user in users}
        await seeding.seed(self._foundation.database, people, [self._minting.link(user, self._provider, now) for user in users], now)
        async with self._foundation.database.reading() as connection:
            self._rows = await connection.fetch("SELECT * FROM links WHERE user_id = ANY($1) ORDER BY link_id", users)
            minute, week = now.replace(microsecond=next(self._numbers)), sunday_of(in_korea(now))
            end = {"limit_due": last_day(week), "limit_link": 2**62, "size": number, "per_tenth": IN_A_CHUNK, "per_minute": number}
            start = {"start_due": BEGINNING.due_on, "start_link": BEGINNING.link_id}
            command = {"org_code": ORG_CODE, "minute": minute, "week": week, "day": week, **start, **end, "now": now}
            await batch_commands.make(connection, command)
            row = await batch_sends.begin(connection, ORG_CODE, minute, now)
        assert row is not None
        self._run = Run(ORG_CODE, minute, row["run"])
        if known:
            await self.read("batch")
            async with self._foundation.database.reading() as connection:
                await connection.execute("DELETE FROM batch_refreshes")
                await connection.execute("UPDATE links SET due_on = DEFAULT, last_refreshed_at = NULL")
                self._rows = await connection.fetch("SELECT * FROM links WHERE user_id = ANY($1) ORDER BY link_id", users)

    async def read(self, way: str) -> dict[str, float]:
        """All of them. Raises AssertionError if one was not read."""
        begin = self._by_batch if way == "batch" else self._bare
        begun, cpu = time.monotonic(), time.process_time()
        flying: set[asyncio.Future[None]] = set()
        for first in range(0, len(self._rows), IN_A_CHUNK):
            flying |= {asyncio.ensure_future(each) for each in await begin(self._rows[first : first + IN_A_CHUNK])}
            while len(flying) >= AT_ONCE:
                done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
        await asyncio.gather(*flying)
        return {"links": len(self._rows), "seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}

    async def _by_batch(self, rows: Sequence[Row]) -> list[Awaitable[None]]:
        run, now, due = self._run, self._foundation.clock.now(), self._terms.due_at(self._foundation.clock.now())
        assert run is not None
        users = [row["user_id"] for row in rows]
        meant = await self._foundation.database.single(lambda connection: batch_sends.intend(connection, run, due, users, now))
        assert len(meant) == len(rows)

        async def refreshed(row: Row) -> None:
            came = await self._refreshing.refresh(Attempt(run, due.week, row["attempt"], row), self._provider)
            assert came.state is State.RECORDED

        return [refreshed(row) for row in meant]

    async def _bare(self, rows: Sequence[Row]) -> list[Awaitable[None]]:
        async def collected(row: Row) -> None:
            held = self._hands.linking.held_in(row)
            assert held is not None
            client, stamps = self._clients.provider(ORG_CODE, row["user_id"]), Timestamps(row["search_timestamps"])
            async for _ in client.collect(held.grant.tokens.access_token, ApiType.SCHEDULED, self._foundation.clock.now(), stamps):
                pass

        return [collected(row) for row in rows]


def _log_to_nobody(settings: Settings) -> None:
    """Every line is made, as in production; after `serve` has said where its own go."""
    told, sys.stderr = sys.stderr, Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # it lasts as long as the process
    configure_logs(settings, process="sender")
    sys.stderr = told


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.senders")
    for name in ("--url", "--database", "--valkey", "--folder"):
        parser.add_argument(name, required=True)
    asked = parser.parse_args()
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        data=Path(asked.folder),
        database_url=asked.database,
        valkey_url=asked.valkey,
        sandbox_url=asked.url,
        vault_keys=KEYS,
        asset_id_secret="benchmark",
        log_format="json",
    )

    async def begin() -> Answering:
        _log_to_nobody(settings)
        foundation = found(settings, SystemClock())
        clients = http_clients(foundation.directory, settings, foundation.clock)
        links = Links(foundation, hands_of(foundation, clients), clients)
        ways: dict[str, Callable[[dict[str, Any]], Awaitable[object]]] = {
            "ready": lambda question: links.ready(question["ready"], known=question["known"]),
            "way": lambda question: links.read(question["way"]),
        }

        async def answer(question: dict[str, Any]) -> object:
            return await ways[next(iter(question))](question)

        return answer

    serve(begin)


if __name__ == "__main__":
    main()
