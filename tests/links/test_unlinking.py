"""How links end: by the person, at the provider, by their day. Nothing that was read under a revoked link stays, and the provider knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest

from backend.clock import KST, SystemClock
from backend.registration import collecting
from backend.storage.vault import Vault
from tests.links.test_forgetting import rows_of
from tests.links.test_refreshing import forget, linked, refreshed
from tests.registration.house import BANK, CARD, VAULT_KEYS, Client, Following, House

JSON = dict[str, Any]
T = TypeVar("T")


async def links(client: Client) -> dict[str, JSON]:
    answer = await client.get("/v1/links")
    assert answer.headers["x-feed-position"]
    return {link["org_code"]: link for link in answer.json()["links"]}


async def history(house: House, client: Client, org_code: str) -> list[str]:
    sql = "SELECT happened FROM consent_history WHERE user_id = $1 AND org_code = $2 ORDER BY id"
    return [row["happened"] for row in await house.execute(sql, client.sub, org_code)]


async def told(house: House, org_code: str, since: int, seconds: float = 8) -> list[JSON]:
    """Until nothing is owed any more: how the provider was told."""
    async with asyncio.timeout(seconds):
        while await house.execute("SELECT 1 FROM revocations WHERE org_code = $1", org_code):
            await asyncio.sleep(0.05)
    return [call for call in (await house.calls(org_code))[since:] if call["path"].endswith("/revoke")]


async def withdrawn(house: House, client: Client) -> None:
    """The person ends their consent at the bank itself."""
    row = (await house.execute("SELECT access_token_sealed FROM links WHERE user_id = $1 AND org_code = $2", client.sub, BANK))[0]
    token = Vault(VAULT_KEYS).open(row["access_token_sealed"], "links", "access", client.sub, BANK).decode()
    who = {"org_code": BANK, "client_id": "moa-sandbox-client", "client_secret": "moa-sandbox-secret"}
    headers = {"x-api-tran-id": "ZVMOA00000M00000000000001"}
    told = await house.http.post(f"{house.settings.sandbox_url}/{BANK}/oauth/2.0/revoke", data={**who, "token": token}, headers=headers)
    assert told.json()["rsp_code"] == "00000"


def of_links(following: Following) -> list[JSON]:
    return [event for event in following.events if event["type"].startswith("link.")]


async def test_links_are_shown_with_their_state(anna: Client, berta: Client) -> None:
    await linked(anna, BANK, CARD)
    shown = await links(anna)
    assert set(shown) == {BANK, CARD}
    bank = shown[BANK]
    assert (bank["industry"], bank["status"]) == ("bank", "active")
    assert bank["name"]
    assert datetime.fromisoformat(bank["consent_expires_at"]) > SystemClock().now() + timedelta(days=360)
    assert datetime.fromisoformat(bank["last_refreshed_at"]) <= SystemClock().now()
    assert await links(berta) == {}


async def test_a_revoked_link_leaves_nothing_of_that_provider_and_the_provider_is_told(house: House, anna: Client) -> None:
    following = await linked(anna, BANK, CARD)
    asked = len(await house.calls(BANK))
    answer = await anna.http.delete(f"/v1/links/{BANK}")
    assert (answer.status_code, answer.json()["status"]) == (202, "revoked")
    await following.heard("link.revoked")
    event = of_links(following)[0]
    assert event["org_code"] == event["data"]["org_code"] == BANK
    assert "error" not in event["data"]
    assert {asset["org_code"] for asset in await anna.assets()} == {CARD}
    assert {code: link["status"] for code, link in (await links(anna)).items()} == {BANK: "revoked", CARD: "active"}
    assert [call["rsp_code"] for call in await told(house, BANK, asked)] == ["00000"]
    assert await history(house, anna, BANK) == ["granted", "revoked"]
    row = (await house.execute("SELECT * FROM links WHERE user_id = $1 AND org_code = $2", anna.sub, BANK))[0]
    assert [row[name] for name in ("access_token_sealed", "refresh_token_sealed", "notice_on")] == [None] * 3

    assert (await anna.http.delete(f"/v1/links/{BANK}")).status_code == 202, "again, when the first answer was lost"
    assert await history(house, anna, BANK) == ["granted", "revoked"]
    assert (await refreshed(following, BANK))[BANK]["error"]["code"] == "consent_required"
    assert (await refreshed(following)).keys() == {CARD}

    await linked(anna, BANK)
    assert (await links(anna))[BANK]["status"] == "active"


async def test_a_provider_that_is_down_is_told_later(house: House, anna: Client) -> None:
    await linked(anna, BANK)
    await house.provider(BANK, mode="http500")
    asked = len(await house.calls(BANK))
    assert (await anna.http.delete(f"/v1/links/{BANK}")).status_code == 202
    async with asyncio.timeout(5):
        while not (await house.calls(BANK))[asked:]:
            await asyncio.sleep(0.02)
    await house.provider(BANK, mode="ok")
    assert "00000" in [call["rsp_code"] for call in await told(house, BANK, asked)]


@asynccontextmanager
async def while_a_token_is_given(house: House, doing: Coroutine[Any, Any, T], grant_type: bytes) -> AsyncIterator[asyncio.Task[T]]:
    """What is done makes us ask the bank for a token in this way; the block runs while the bank has not answered yet."""
    heard = house.recorder.bodies = []
    await house.provider(BANK, mode="slow", latency_ms={"p50": 800, "p99": 850})
    task = asyncio.create_task(doing)
    try:
        async with asyncio.timeout(5):
            while not any(b"grant_type=" + grant_type in body for body in heard):
                await asyncio.sleep(0.005)
        yield task
    finally:
        house.recorder.bodies = None
        await house.provider(BANK, mode="ok")


async def is_dead(house: House, since: int) -> bool:
    """Whether the bank was told to end the very token that it gave last: one that it had dropped before is answered 99999."""
    async with asyncio.timeout(8):
        while True:
            calls = [call for call in (await house.calls(BANK))[since:] if "/oauth/" in call["path"]]
            given = [place for place, call in enumerate(calls) if call["path"].endswith("/token") and call["status"] == 200]
            if given and any(call.get("rsp_code") == "00000" for call in calls[given[-1] + 1 :]):
                return True
            await asyncio.sleep(0.05)


async def test_a_token_that_is_given_while_its_link_is_revoked_ends_too(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    asked = len(await house.calls(BANK))
    async with while_a_token_is_given(house, anna.register(BANK), b"password") as again:
        assert (await anna.http.delete(f"/v1/links/{BANK}")).status_code == 202
    assert await is_dead(house, asked)
    await (await again).ended("failed")
    await following.heard("registration.completed failed")
    assert [event["type"] for event in of_links(following)] == ["link.revoked"]
    assert (await links(anna))[BANK]["status"] == "revoked"
    assert await history(house, anna, BANK) == ["granted", "revoked"]
    assert await anna.assets() == []


async def test_a_token_that_is_renewed_while_its_link_is_revoked_ends_too(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    await house.execute("UPDATE links SET access_expires_at = now() + interval '1 minute' WHERE user_id = $1", anna.sub)
    asked = len(await house.calls(BANK))
    async with while_a_token_is_given(house, refreshed(following, BANK), b"refresh_token") as refreshing:
        assert (await anna.http.delete(f"/v1/links/{BANK}")).status_code == 202
    assert (await refreshing)[BANK]["error"]["code"] == "consent_required"
    assert await is_dead(house, asked)
    assert await history(house, anna, BANK) == ["granted", "revoked"]


@pytest.mark.parametrize("known", [True, False])
async def test_a_token_that_is_given_while_its_user_is_erased_ends_too(house: House, anna: Client, known: bool) -> None:
    if known:
        await linked(anna, BANK)
    asked = len(await house.calls(BANK))
    async with while_a_token_is_given(house, anna.register(BANK), b"password") as registering:
        assert (await anna.http.delete("/v1/me")).status_code == 202
    await registering
    assert await is_dead(house, asked)
    assert not set(await rows_of(house, anna.sub)) - {"consent_history", "revocations"}


@pytest.mark.parametrize("known", [True, False])
async def test_a_token_that_is_given_while_its_registration_is_cancelled_is_read_with_by_nobody(
    house: House, anna: Client, known: bool
) -> None:
    """Nobody wants a link that they cancelled. One that was there goes on: the provider has dropped its old token for the new one."""
    if known:
        await linked(anna, BANK)
    asked = len(await house.calls(BANK))
    async with while_a_token_is_given(house, anna.register(BANK), b"password") as registering:
        registration = (await anna.get("/v1/registrations")).json()["registrations"][0]
        assert (await anna.http.delete(f"/v1/registrations/{registration['id']}")).status_code == 202
    await (await registering).ended("cancelled")
    if known:
        async with asyncio.timeout(5):
            while not await house.execute("SELECT 1 FROM consent_history WHERE user_id = $1 OFFSET 1", anna.sub):
                await asyncio.sleep(0.05)
        assert (await links(anna))[BANK]["status"] == "active"
    else:
        assert await is_dead(house, asked)
        assert await links(anna) == {}
        assert await history(house, anna, BANK) == []
    assert {call["path"] for call in (await house.calls(BANK))[asked:]} <= {f"/{BANK}/oauth/2.0/token", f"/{BANK}/oauth/2.0/revoke"}


async def test_a_token_whose_registration_is_cancelled_before_the_provider_fails_ends_too(
    house: House, anna: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled after the last look and before the first answer: what fails then must not leave a link behind."""
    monkeypatch.setattr(collecting, "LOOKED_AGAIN_AFTER", 60.0)
    asked = len(await house.calls(BANK))
    async with while_a_token_is_given(house, anna.register(BANK), b"password") as registering:
        following = await registering
        assert (await anna.http.delete(following.path)).status_code == 202
    await house.provider(BANK, mode="http500")
    await following.ended("cancelled")
    async with asyncio.timeout(8):
        while not await house.execute("SELECT 1 FROM revocations WHERE user_id = $1", anna.sub):
            assert await links(anna) == {}
            await asyncio.sleep(0.05)
    await house.provider(BANK, mode="ok")
    assert await is_dead(house, asked)
    assert await links(anna) == {}
    assert await history(house, anna, BANK) == []


async def test_what_cannot_be_revoked_disturbs_nothing(house: House, anna: Client) -> None:
    """There is no link before the first token: a registration that is under way is cancelled, not revoked."""
    async with while_a_token_is_given(house, anna.register(BANK), b"password") as registering:
        assert (await anna.http.delete(f"/v1/links/{BANK}")).status_code == 404
    await (await registering).ended("completed")
    assert (await links(anna))[BANK]["status"] == "active"


async def test_what_is_still_being_read_ends_with_its_link(house: House, anna: Client) -> None:
    await linked(anna, BANK)
    await house.provider(BANK, mode="maintenance")
    following = await anna.register(BANK)
    await following.ended("partial")
    assert (await anna.http.delete(f"/v1/links/{BANK}")).status_code == 202
    await house.provider(BANK, mode="ok")
    await following.ended("failed", times=2)
    assert following.status(BANK) == ("failed", "consent_required")
    assert await anna.assets() == []
    await following.heard("link.revoked")
    retried = await anna.http.post(f"{following.path}/retry")
    assert retried.json()["status"] == "signing", "what was signed before is not good any more"
    await following.ended("completed", times=3)


async def test_a_refresh_under_way_brings_nothing_of_a_revoked_link_back(house: House, anna: Client) -> None:
    following = await linked(anna, BANK, CARD)
    await forget(house, anna, BANK)
    await house.provider(BANK, mode="slow", latency_ms={"p50": 300, "p99": 400})
    assert (await anna.http.post("/v1/refresh", json={"providers": [BANK]})).status_code == 202
    assert (await anna.http.delete(f"/v1/links/{BANK}")).status_code == 202
    await following.heard("refresh.completed")
    ended = following.events[-1]["data"]["providers"][0]
    assert (ended["status"], ended["error"]["code"]) == ("failed", "consent_required")
    assert {asset["org_code"] for asset in await anna.assets()} == {CARD}
    assert "asset.refreshed" not in following.said


async def test_only_ones_own_links_can_be_revoked(anna: Client, berta: Client) -> None:
    await linked(anna, BANK)
    for path in (BANK, CARD, "..", "x" * 40):
        assert (await berta.http.delete(f"/v1/links/{path}")).status_code in {404, 405}
    assert (await links(anna))[BANK]["status"] == "active"


async def test_a_consent_that_ended_at_the_provider_is_told_with_what_to_do(house: House) -> None:
    async with house.client("consent-expired-41") as client:
        following = await client.register(BANK)
        await following.ended("failed")
        await following.heard("link.expired")
        event = of_links(following)[0]
        assert (event["data"]["org_code"], event["data"]["error"]["user_action"]) == (BANK, "sign_again")
        assert (await links(client))[BANK]["status"] == "consent_expired"
        assert await history(house, client, BANK) == ["granted", "expired"]


async def test_a_withdrawal_at_the_provider_is_told_with_what_to_do_and_forgets_nothing(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    await withdrawn(house, anna)

    before = await anna.assets()
    assert (await refreshed(following))[BANK]["error"]["code"] == "consent_required"
    await following.heard("link.revoked")
    assert of_links(following)[0]["data"]["error"]["user_action"] == "sign_again"
    assert (await links(anna))[BANK]["status"] == "revoked"
    assert await history(house, anna, BANK) == ["granted", "withdrawn"]
    assert await anna.assets() == before

    assert (await anna.http.delete(f"/v1/links/{BANK}")).status_code == 202
    assert await anna.assets() == [], "what the person wants to be erased is erased, however the link ended"
    assert await history(house, anna, BANK) == ["granted", "withdrawn"]


@pytest.mark.parametrize("ends_in", ["90 days", "1 minute"])
async def test_a_withdrawal_that_is_met_while_a_token_is_renewed_is_told_too(house: House, anna: Client, ends_in: str) -> None:
    """A token that the provider refuses is renewed after the reading, one that is about to end before it."""
    await house.provider(BANK, mode="out_of_window")  # gives a token, and nothing to read
    following = await anna.register(BANK)
    await following.ended("failed")
    assert (await links(anna))[BANK]["status"] == "active"
    await house.provider(BANK, mode="ok")
    await withdrawn(house, anna)
    await house.execute("UPDATE links SET access_expires_at = now() + $2::text::interval WHERE user_id = $1", anna.sub, ends_in)

    assert (await anna.http.post(f"{following.path}/retry")).json()["status"] == "collecting"
    await following.ended("failed", times=2)
    assert following.status(BANK) == ("failed", "consent_required")
    await following.heard("link.revoked")
    assert of_links(following)[0]["data"]["error"]["user_action"] == "sign_again"
    assert (await links(anna))[BANK]["status"] == "revoked"
    assert await history(house, anna, BANK) == ["granted", "withdrawn"]


async def test_the_end_of_a_consent_is_told_thirty_days_before_and_on_its_day(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    today = SystemClock().now().astimezone(KST).date()
    move = "UPDATE links SET consent_ends_on = CAST($2 AS date), notice_on = CAST($2 AS date) - 30 WHERE user_id = $1"
    await house.execute(move, anna.sub, today + timedelta(days=30))
    await following.heard("link.expiring")
    assert (await links(anna))[BANK]["status"] == "active"

    await house.execute("UPDATE links SET consent_ends_on = $2, notice_on = $2 WHERE user_id = $1", anna.sub, today)
    await following.heard("link.expired")
    assert of_links(following)[-1]["data"]["error"]["user_action"] == "sign_again"
    assert [event["type"] for event in of_links(following)] == ["link.expiring", "link.expired"], "each is told once"
    assert (await links(anna))[BANK]["status"] == "consent_expired"
    assert await history(house, anna, BANK) == ["granted", "expired"]
    assert await anna.assets(), "what was read stays"
    assert (await anna.http.delete(f"/v1/links/{BANK}")).json()["status"] == "revoked"
    assert await anna.assets() == []
