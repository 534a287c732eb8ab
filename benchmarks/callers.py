"""Who calls a bank, as a process of its own: our `Transport.call`, the httpx client over the same line, or the line alone.

In: the bank's URL; for how long, how many calls at once. Out, when asked: how many were answered, the CPU that they took, times in ms.
Log lines are written as production writes them, to nowhere.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from backend.clock import SystemClock
from backend.events import Industry
from backend.logs import configure_logs
from backend.providers.calling.transport import Repeats, Transport
from backend.providers.calling.wire import HEADERS, open_wire
from backend.providers.calls import JSON
from backend.providers.contract import ApiType, Provider
from backend.providers.ids import Serials
from backend.providers.industries import bank
from backend.providers.reading import Asking
from backend.settings import Settings
from benchmarks.companions import Answering, serve
from benchmarks.listed_bank import ACCOUNTS, BODY, CALLS

ORG_CODE = "A1MOABK001"
TOKEN = "access-token-of-a-usual-length-" + "x" * 64
OPERATOR = "ZVMOA00000"
MOST_TIMES = 2000  # of one round

Once = Callable[[], Awaitable[None]]


def _asking(provider: Provider) -> Asking:
    return Asking(provider=provider, token=TOKEN, api_type=ApiType.USER_REFRESH, today=date(2026, 11, 22))


def by_transport(wire: httpx.AsyncBaseTransport, provider: Provider) -> Once:
    """As a collection calls: from the call as a value to typed accounts, with deadline, judging, budget of repeats and log line."""
    transport = Transport(
        ORG_CODE,
        wire=wire,
        base_url=provider.base_url,
        operator=OPERATOR,
        serials=Serials(0),
        clock=SystemClock(),
        deadline=20.0,
        repeats=Repeats(),
    )
    asking, listing = _asking(provider), bank.LISTINGS[0]

    async def once() -> None:
        page: Any = await transport.call(asking.call(listing), within=60.0)
        if len(page.account_list) != ACCOUNTS:
            raise AssertionError("not the page that was sent")

    return once


def by_client(wire: httpx.AsyncBaseTransport, provider: Provider) -> Once:
    """httpx as it comes, without a deadline, judging, parsing or log line."""
    client = httpx.AsyncClient(transport=wire, trust_env=False, timeout=None)
    url, query, headers = _request(provider)

    async def once() -> None:
        if len((await client.get(url, params=query, headers=headers)).content) != len(BODY):
            raise AssertionError("not the page that was sent")

    return once


def by_client_as_collected(wire: httpx.AsyncBaseTransport, provider: Provider) -> Once:
    """httpx as it comes, with the calls of a whole collection in turn."""
    client = httpx.AsyncClient(transport=wire, trust_env=False, timeout=None)
    url, query, headers = _request(provider)
    asked = json.dumps({"org_code": ORG_CODE, "account_num": "110123456700", "seqno": "1", "search_timestamp": "0"}).encode()
    turn = itertools.cycle(range(CALLS))

    async def once() -> None:
        place = next(turn)
        if place < 2:
            answer = await client.get(url if place else url.replace("/accounts", "/irps"), params=query, headers=headers)
        else:
            more = {**headers, "Content-Type": JSON}
            answer = await client.post(f"{url}/deposit/{'detail' if place % 2 else 'basic'}", content=asked, headers=more)
        if answer.status_code != 200 or not answer.content:
            raise AssertionError("no answer")

    return once


def by_line(wire: httpx.AsyncBaseTransport, provider: Provider) -> Once:
    """The least: what `open_wire` returns, asked by itself."""
    url, query, headers = _request(provider)
    whole = httpx.URL(url, params=query)

    async def once() -> None:
        response = await wire.handle_async_request(httpx.Request("GET", whole, headers=headers))
        if len(await response.aread()) != len(BODY):
            raise AssertionError("not the page that was sent")
        await response.aclose()

    return once


def _request(provider: Provider) -> tuple[str, dict[str, str], dict[str, str]]:
    call = _asking(provider).call(bank.LISTINGS[0])
    named = {"Authorization": f"Bearer {TOKEN}", "x-api-tran-id": f"{OPERATOR}M00000000000001", "x-api-type": ApiType.USER_REFRESH.value}
    return f"{provider.base_url}{call.path}", dict(call.query), {**HEADERS, **named}


WAYS: dict[str, Callable[[httpx.AsyncBaseTransport, Provider], Once]] = {
    "ours": by_transport,
    "client": by_client,
    "client-as-collected": by_client_as_collected,
    "line": by_line,
}


async def called(once: Once, seconds: float, at_once: int) -> dict[str, Any]:
    """`at_once` loops, each calling again when it is answered."""
    times: list[float] = []
    answered = 0
    begun, cpu = time.monotonic(), time.process_time()

    async def loop() -> None:
        nonlocal answered
        while (moment := time.monotonic()) - begun < seconds:
            await once()
            answered += 1
            if len(times) < MOST_TIMES:
                times.append((time.monotonic() - moment) * 1000)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(loop())
    return {"answered": answered, "seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu, "times": times}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.callers")
    parser.add_argument("way", choices=tuple(WAYS))
    parser.add_argument("--url", required=True)
    asked = parser.parse_args()
    told, sys.stderr = sys.stderr, Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # it lasts as long as the process
    configure_logs(Settings(data=Path(), log_format="json"), process="caller")
    sys.stderr = told

    async def begin() -> Answering:
        provider = Provider(org_code=ORG_CODE, name="bank", industry=Industry.BANK, base_url=asked.url, allow_private=True)
        once = WAYS[asked.way](open_wire(provider), provider)
        return lambda question: called(once, question["seconds"], question["at_once"])

    serve(begin)


if __name__ == "__main__":
    main()
