"""A CA that does not sign, and providers that misbehave in every way: what the person hears of it, and when."""

from __future__ import annotations

import asyncio
from datetime import datetime

from tests.registration.house import BANK, BANK2, CALL_DEADLINE, CARD, EFIN, INSU, INVEST, TELECOM, Client, House

BANK3, CARD2, CAPITAL, INVEST2 = "A1MOABK003", "B1MOACD002", "F1MOACP001", "C1MOAIV002"


# --- the CA ----------------------------------------------------------------------------------------------------------


async def test_a_denied_signature_ends_everything(house: House, anna: Client) -> None:
    await house.ca(mode="deny")
    following = await anna.register(BANK, CARD)
    denied = await following.ended("denied")
    assert denied["signature"]["status"] == "denied"
    assert following.said[-2:] == ["signature.denied", "registration.completed denied"]
    assert following.of(BANK) == following.of(CARD) == []
    assert (await anna.http.post(f"{following.path}/retry")).json()["code"] == "nothing_to_retry"
    assert (await anna.http.delete(following.path)).json()["code"] == "nothing_to_cancel"


async def test_nobody_signs_in_time(house: House, anna: Client) -> None:
    await house.ca(mode="never")
    async with house.another_api(signature_ttl=0.4) as url, house.client(anna.sub, url=url) as hasty:
        following = await hasty.register(BANK)
        expired = await following.ended("expired")
        assert expired["signature"]["status"] == "expired"
        assert "signature.expired" in following.said
        assert following.of(BANK) == []


async def test_who_signed_while_the_ca_could_not_say_so_has_signed_in_time(house: House, anna: Client) -> None:
    await house.ca(approve_after_ms=None)
    async with house.another_api(signature_ttl=0.9) as url, house.client(anna.sub, url=url) as hasty:
        following = await (await hasty.register(BANK)).heard("signature.requested requested")
        await house.ca(mode="down")
        await asyncio.sleep(0.1)  # now it is looked for only when its time is over
        await house.ca(mode="ok", approve_after_ms=0)
        await following.ended("completed")


async def test_the_person_decides_at_the_cas_page(house: House, anna: Client) -> None:
    await house.ca(approve_after_ms=None)
    following = await (await anna.register(BANK)).heard("signature.requested requested")
    assert following.view.registration["status"] == "signing"
    page = following.view.registration["signature"]["web_url"]
    assert (await house.http.get(page)).status_code == 200
    await house.ca(approve_after_ms=0)
    await following.ended("completed")


async def test_a_ca_that_is_down_is_waited_out(house: House, anna: Client) -> None:
    await house.ca(mode="down")
    following = await (await anna.register(BANK)).heard("registration.accepted")
    async with asyncio.timeout(5):
        while not [call for call in await house.calls() if "sign_request" in call["path"] or "/oauth/" in call["path"]]:
            await asyncio.sleep(0.02)
    assert (await anna.registration(following.id))["status"] == "signing"
    await house.ca(mode="ok")
    await following.ended("completed")


async def test_a_ca_that_hangs_until_the_time_is_over_is_an_expiry(house: House, anna: Client) -> None:
    await house.ca(mode="hang")
    async with house.another_api(signature_ttl=0.5) as url, house.client(anna.sub, url=url) as hasty:
        following = await hasty.register(BANK)
        expired = await following.ended("expired")
        assert expired["signature"] == {"status": "expired"}


# --- providers -------------------------------------------------------------------------------------------------------

SICK = {
    BANK: ("down", "provider_unavailable"),
    BANK2: ("reset", "provider_unavailable"),
    BANK3: ("http500", "provider_unavailable"),
    CARD: ("hang", "provider_timeout"),
    CARD2: ("drip", "provider_timeout"),
    INVEST: ("slow", "provider_timeout"),
    INSU: ("garbage", "provider_invalid_response"),
    EFIN: ("oversize", "provider_invalid_response"),
    CAPITAL: ("truncated", "provider_invalid_response"),
    TELECOM: ("http429", "provider_busy"),
}


async def test_every_way_to_misbehave_becomes_its_error(house: House, anna: Client) -> None:
    for org_code, (mode, _) in SICK.items():
        await house.provider(org_code, mode=mode)
    following = await anna.register(*SICK, INVEST2)
    partial = await following.ended("partial")
    assert {org_code: following.status(org_code)[1] for org_code in SICK} == {org_code: code for org_code, (_, code) in SICK.items()}
    assert following.status(INVEST2) == ("completed", None)

    for provider in partial["providers"]:
        if provider["error"] is not None:
            assert set(provider["error"]) == {"code", "title", "detail", "retryable", "user_action"}
            assert provider["error"]["retryable"] is True


async def test_nobody_waits_for_a_provider_that_hangs_and_that_one_not_for_ever(house: House, anna: Client) -> None:
    await house.provider(CARD, mode="hang")
    following = await anna.register(CARD, BANK)
    await following.ended("partial")
    at = {f"{event['type']} {event.get('org_code', '')}": datetime.fromisoformat(event["at"]) for event in following.events}
    well, ill = at[f"provider.completed {BANK}"], at[f"provider.failed {CARD}"]
    assert well < ill
    assert CALL_DEADLINE <= (ill - at["signature.completed "]).total_seconds() < CALL_DEADLINE + 2


async def test_what_a_provider_told_before_it_fell_ill_stays(house: House, anna: Client) -> None:
    following = await anna.register(BANK)
    await following.ended("completed")
    before = await anna.assets()
    await house.provider(BANK, mode="http500")
    await (await anna.register(BANK)).ended("failed")
    assert await anna.assets() == before


async def test_maintenance_is_deferred_told_once_and_mended_by_itself(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="maintenance")
    following = await anna.register(BANK, CARD)
    partial = await following.ended("partial")
    assert [provider["status"] for provider in partial["providers"]] == ["deferred", "completed"]
    deferred = next(event for event in following.events if event["type"] == "provider.deferred")
    assert deferred["data"]["reason"]
    assert datetime.fromisoformat(deferred["data"]["retry_at"]) > datetime.fromisoformat(deferred["at"])
    asked = len(await house.calls(BANK))
    async with asyncio.timeout(8):
        while len(await house.calls(BANK)) == asked:
            await asyncio.sleep(0.05)
    await house.provider(BANK, mode="ok")
    await following.ended("completed", times=2)
    assert following.of(BANK).count("deferred") == 1
    assert [said for said in following.said if said.startswith("registration.completed")] == [
        "registration.completed partial",
        "registration.completed completed",
    ]


async def test_a_deferred_provider_can_be_cancelled_and_is_left_alone_then(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="maintenance")
    following = await anna.register(BANK)
    await following.ended("partial")
    assert (await anna.http.delete(following.path)).json()["status"] == "cancelled"
    cancelled = await following.ended("cancelled", times=2)
    assert [provider["status"] for provider in cancelled["providers"]] == ["cancelled"]


async def test_a_token_that_is_refused_is_refreshed_once_and_then_asked_for_again(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="token_expired")
    following = await anna.register(BANK)
    await following.ended("failed")
    assert following.status(BANK) == ("failed", "consent_required")
    assert following.view.provider({"org_code": BANK})["error"]["user_action"] == "sign_again"
    calls = [call["path"].rpartition("/")[2] for call in await house.calls(BANK)]
    assert calls.count("token") == 2, "one on the consent, one on the refresh token"
