"""The poll, line by line of the contract."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.realtime.given import Api, event, token, until


async def ask(client: httpx.AsyncClient, **params: Any) -> httpx.Response:
    return await client.get("/v1/events", params=params)


async def test_without_a_position_there_is_only_the_newest(api: Api) -> None:
    await api.append(1, 3)
    position = await api.feed.position("anna")
    async with api.http() as client:
        answer = await ask(client)
    assert answer.json() == {"epoch": position.epoch, "offset": 3, "recovered": True, "events": []}
    assert answer.headers["x-feed-position"] == str(position)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


async def test_events_come_with_their_offset_in_order(api: Api) -> None:
    await api.append(1, 3)
    epoch = (await api.feed.position("anna")).epoch
    async with api.http() as client:
        answer = await ask(client, since=f"{epoch}:1")
    told = answer.json()
    assert (told["epoch"], told["offset"], told["recovered"]) == (epoch, 3, True)
    assert [(item["offset"], item["data"]["n"], item["type"]) for item in told["events"]] == [
        (2, 2, "provider.connecting"),
        (3, 3, "provider.connecting"),
    ]
    assert answer.headers["x-feed-position"] == f"{epoch}:3"


@pytest.mark.parametrize("since", ["_:0", "gone:2", "{epoch}:9", "{epoch}:999999999999999"])
@pytest.mark.parametrize("wait", [0, 5])
async def test_lost_history_is_said_at_once(api: Api, since: str, wait: int) -> None:
    await api.append(1, 3)
    epoch = (await api.feed.position("anna")).epoch
    async with api.http() as client:
        told = (await ask(client, since=since.replace("{epoch}", epoch), wait=wait)).json()
    assert told == {"epoch": epoch, "offset": 3, "recovered": False, "events": []}


@pytest.mark.parametrize(
    "params",
    [{"since": since} for since in ("", "1", "e:", ":1", "e:-1", "e:1.5", "e:1:2", "e 1", "é:1", "e:١", "e:" + "9" * 16, "x" * 65 + ":1")]
    + [{"wait": wait} for wait in ("-1", "31", "30.5", "nan", "inf", "1e1", "", "soon")],
)
async def test_what_is_malformed_is_refused_by_name(api: Api, params: dict[str, str]) -> None:
    async with api.http() as client:
        answer = await ask(client, **params)
    assert answer.status_code == 400
    assert answer.json()["code"] == "malformed_request"
    assert answer.json()["errors"][0]["field"] in params


async def test_a_wait_ends_with_the_first_event(api: Api) -> None:
    position = await api.feed.position("anna")
    async with api.http() as client:
        waiting = asyncio.create_task(ask(client, since=str(position), wait=30))
        await until(lambda: bool(api.hub._places))
        await api.append(1, 2)
        async with asyncio.timeout(2):
            told = (await waiting).json()
    assert told["offset"] == 2
    assert [item["offset"] for item in told["events"]] == [1, 2]
    await until(lambda: not api.hub._open)


async def test_a_wait_without_events_ends_by_itself(api: Api) -> None:
    position = await api.feed.position("anna")
    async with api.http() as client:
        told = (await ask(client, since=str(position), wait=0.05)).json()
    assert told == {"epoch": position.epoch, "offset": 0, "recovered": True, "events": []}


async def test_history_that_is_lost_during_the_wait_is_said(api: Api) -> None:
    await api.append(1, 1)
    position = await api.feed.position("anna")
    async with api.http() as client:
        waiting = asyncio.create_task(ask(client, since=str(position), wait=30))
        await until(lambda: bool(api.hub._places))
        await api.feed.append("anna", [(7, event(7))], rebase=True)
        told = (await waiting).json()
    assert (told["recovered"], told["offset"], told["events"]) == (False, 7, [])


async def test_who_hangs_up_is_forgotten(api: Api) -> None:
    position = await api.feed.position("anna")
    async with api.http() as client:
        waiting = asyncio.create_task(ask(client, since=str(position), wait=30))
        await until(lambda: bool(api.hub._places))
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: not api.hub._open)


async def test_a_drain_answers_who_waits(api: Api) -> None:
    position = await api.feed.position("anna")
    async with api.http() as client:
        waiting = asyncio.create_task(ask(client, since=str(position), wait=30))
        await until(lambda: bool(api.hub._places))
        await api.hub.drain(0)
        answer = await waiting
        assert answer.json()["recovered"]
        assert answer.headers["connection"] == "close", "or the next poll would meet a connection that is closed under it"
        assert (await ask(client, since=str(position), wait=1)).status_code == 503


@pytest.mark.parametrize(
    ("path", "bearer", "status", "code"),
    [
        ("/v1/events", "", 401, "unauthenticated"),
        ("/v1/events", "Bearer nonsense", 401, "token_invalid"),
        ("/v1/events", f"Bearer {token(ttl=-1)}", 401, "token_expired"),
        ("/v1/events", f"Bearer {token(scope='ops')}", 403, "scope_missing"),
        ("/ops/events", f"Bearer {token(scope='user')}", 403, "scope_missing"),
        ("/ops/events", f"Bearer {token(scope='user ops')}", 200, ""),
    ],
)
async def test_only_who_may_listen_is_answered(api: Api, path: str, bearer: str, status: int, code: str) -> None:
    async with api.http(Authorization=bearer) as client:
        for accept in ("application/json", *(("text/event-stream",) if code else ())):
            answer = await client.get(path, headers={"Accept": accept})
            assert answer.status_code == status
            assert answer.json().get("code", "") == code


async def test_nobody_polls_another_users_events(api: Api) -> None:
    await api.append(1, 2, "ben")
    position = await api.feed.position("ben")
    async with api.http("anna") as client:
        told = (await ask(client, since=f"{position.epoch}:0")).json()
    assert (told["recovered"], told["events"]) == (False, [])
