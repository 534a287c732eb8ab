"""A refresh reads what changed since the last reading that came to its end, and tells it; nothing new costs list calls only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.registration.house import ALL_SEVEN, BANK, CARD, DEFERRAL, TELECOM, Client, Following, House

JSON = dict[str, Any]


async def kept(house: House, client: Client, org_code: str) -> dict[str, str]:
    """What the link remembers of each list."""
    sql = "SELECT search_timestamps FROM links WHERE user_id = $1 AND org_code = $2"
    return dict(json.loads((await house.execute(sql, client.sub, org_code))[0]["search_timestamps"]))


async def forget(house: House, client: Client, org_code: str) -> None:
    """What is read next is read in full."""
    await house.execute("UPDATE links SET search_timestamps = '{}' WHERE user_id = $1 AND org_code = $2", client.sub, org_code)


async def refreshed(following: Following, *org_codes: str) -> JSON:
    """Asks for a refresh and follows it to its end. Returns what `refresh.completed` says, by provider."""
    client = following.client
    answer = await client.http.post("/v1/refresh", json={"providers": org_codes} if org_codes else {})
    assert answer.status_code == 202, answer.text
    name = answer.json()["refresh_id"]
    await following.until(lambda: name in {event["data"].get("refresh_id") for event in following.events})
    told = next(event["data"] for event in following.events if event["data"].get("refresh_id") == name)
    shown = (await client.get(answer.headers["location"])).json()
    assert shown["status"] == "completed"
    assert shown["providers"] == told["providers"]
    return {provider["org_code"]: provider for provider in told["providers"]}


async def linked(client: Client, *org_codes: str) -> Following:
    following = await client.register(*org_codes)
    await following.ended("completed")
    return following


async def versions(house: House, client: Client) -> list[tuple[str, str]]:
    """Which row versions the assets are: a write of any kind is another."""
    rows = await house.execute("SELECT id, xmin::text FROM assets WHERE user_id = $1 ORDER BY id", client.sub)
    return [(row["id"], row["xmin"]) for row in rows]


async def test_what_the_lists_reached_is_kept_and_a_new_consent_reads_everything_again(house: House, anna: Client) -> None:
    first = await (await anna.register(BANK)).ended("completed")
    assert "BA01" in await kept(house, anna, BANK)
    again = await (await anna.register(BANK)).ended("completed")
    assert again["providers"][0]["assets"] == first["providers"][0]["assets"] > 0
    assert "BA01" in await kept(house, anna, BANK)


async def test_a_refresh_with_nothing_new_makes_list_calls_only_and_writes_no_asset(house: House, anna: Client) -> None:
    following = await linked(anna, BANK, CARD)
    before, asked, heard = await versions(house, anna), len(await house.calls()), len(following.events)
    ended = await refreshed(following)
    assert {code: item["status"] for code, item in ended.items()} == {BANK: "completed", CARD: "completed"}
    assert [event["type"] for event in following.events[heard:]] == ["refresh.completed"]
    calls = (await house.calls())[asked:]
    assert {call["rsp_code"] for call in calls} == {"00001"}
    assert {call["api_type"] for call in calls} == {"user-refresh"}
    assert await versions(house, anna) == before


async def test_what_changed_is_written_and_told_whole_and_nothing_else(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    before = {asset["id"]: asset for asset in await anna.assets()}
    changed = sorted(before)[0]
    await house.execute("UPDATE assets SET name = 'as it was' WHERE user_id = $1 AND id = $2", anna.sub, changed)
    rows = dict(await versions(house, anna))
    await forget(house, anna, BANK)
    await refreshed(following, BANK)
    told = [event for event in following.events if event["type"] == "asset.refreshed"]
    assert [event["org_code"] for event in told] == [BANK]
    assert "registration_id" not in told[0]
    [asset] = told[0]["data"]["assets"]
    now = {asset["id"]: asset for asset in await anna.assets()}
    assert asset == now[changed]
    assert {**asset, "as_of": None} == {**before[changed], "as_of": None}
    assert {name for name, version in await versions(house, anna) if version != rows[name]} == {changed}
    assert {**now, changed: None} == {**before, changed: None}
    assert await kept(house, anna, BANK)


@pytest.mark.parametrize("org_code", ALL_SEVEN)
async def test_what_is_read_again_in_full_is_what_is_stored_and_costs_no_write_and_no_word(house: House, org_code: str) -> None:
    """As at a provider without timestamps; two have many pages. That what is read is what they hold, `test_figures.py` examines."""
    kind, least = ("many-pages", 120) if org_code in {BANK, TELECOM} else ("rich", 2)
    async with house.client(f"{kind}-{ALL_SEVEN.index(org_code) + 90}") as client:
        following = await linked(client, org_code)
        before, shown, heard = await versions(house, client), await client.assets(), len(following.events)
        assert len(before) >= least
        await forget(house, client, org_code)
        asked = len(await house.calls(org_code))
        assert (await refreshed(following))[org_code]["status"] == "completed"
        assert {call["rsp_code"] for call in (await house.calls(org_code))[asked:]} == {"00000"}
        assert [event["type"] for event in following.events[heard:]] == ["refresh.completed"]
        assert await versions(house, client) == before
        assert await client.assets() == shown


async def with_an_account_that_has_gone(house: House, client: Client) -> str:
    """The id of an account at the bank that no list of the bank names."""
    copy = """
        INSERT INTO assets
          (user_id, id, org_code, industry, kind, name, number_masked, status, balance_amount, balance_currency, as_of, details)
        SELECT user_id, 'ast_gone', org_code, industry, kind, name, number_masked, status, '5.00', 'KRW', as_of, details
        FROM assets WHERE user_id = $1 AND kind = 'deposit' AND status = 'active' ORDER BY id LIMIT 1 RETURNING id
    """
    return str((await house.execute(copy, client.sub))[0]["id"])


async def test_what_no_list_names_any_more_is_told_once_as_closed_and_stays(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    gone = await with_an_account_that_has_gone(house, anna)
    await refreshed(following, BANK)
    assert "asset.refreshed" not in following.said, "a list with nothing new says nothing of what it names"

    for _ in range(2):
        await forget(house, anna, BANK)
        await refreshed(following, BANK)
    [told] = [event["data"]["assets"] for event in following.events if event["type"] == "asset.refreshed"]
    assert [(asset["id"], asset["status"], asset["balance"]) for asset in told] == [(gone, "closed", None)]
    assert told[0] in await anna.assets()


async def test_what_is_gone_when_a_link_is_made_anew_is_told_in_the_registration(house: House, anna: Client) -> None:
    await linked(anna, BANK)
    gone = await with_an_account_that_has_gone(house, anna)
    following = await anna.register(BANK)
    ended = await following.ended("completed")
    [closed] = [asset for asset in await anna.assets() if asset["id"] == gone]
    assert (closed["status"], closed["balance"]) == ("closed", None)
    told = [event["data"]["assets"] for event in following.events if event["type"] == "provider.assets"]
    assert [closed in assets for assets in told].count(True) == 1
    assert ended["providers"][0]["assets"] == len(await anna.assets())


async def until_tried_again(house: House, org_code: str) -> None:
    """The provider was called, and again some time later."""
    before = len(await house.calls(org_code))
    async with asyncio.timeout(8):
        while not (calls := (await house.calls(org_code))[before:]) or calls[-1]["at"] - calls[0]["at"] < DEFERRAL / 2:
            await asyncio.sleep(0.05)


async def test_a_provider_that_rests_is_tried_again_by_itself(house: House, anna: Client) -> None:
    following = await linked(anna, BANK, CARD)
    await house.execute("UPDATE assets SET name = 'as it was' WHERE user_id = $1", anna.sub)
    await forget(house, anna, BANK)
    await forget(house, anna, CARD)
    await house.provider(CARD, mode="maintenance")
    refreshing = asyncio.create_task(refreshed(following))
    await until_tried_again(house, CARD)
    async with asyncio.timeout(8):
        while "asset.refreshed" not in following.said:
            await asyncio.sleep(0.02)
    assert {event["org_code"] for event in following.events if event["type"] == "asset.refreshed"} == {BANK}, "nobody waits for it"
    await house.provider(CARD, mode="ok")
    assert {code: item["status"] for code, item in (await refreshing).items()} == {BANK: "completed", CARD: "completed"}
    assert "as it was" not in {asset["name"] for asset in await anna.assets()}


async def test_each_provider_ends_as_it_does_and_a_failure_forgets_nothing(house: House, anna: Client) -> None:
    following = await linked(anna, BANK, CARD, TELECOM)
    reached = await kept(house, anna, BANK)
    await house.provider(BANK, mode="http500")
    await house.provider(CARD, mode="maintenance")
    refreshing = asyncio.create_task(refreshed(following))
    await until_tried_again(house, CARD)
    await house.execute("UPDATE refreshes SET created_at = created_at - interval '5 minutes' WHERE user_id = $1", anna.sub)
    ended = await refreshing
    assert {code: item["error"] and item["error"]["code"] for code, item in ended.items()} == {
        BANK: "provider_unavailable",
        CARD: "provider_resting",
        TELECOM: None,
    }
    assert await kept(house, anna, BANK) == reached


async def test_a_token_about_to_end_is_refreshed_first_and_one_that_is_refused_once(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    await house.execute("UPDATE links SET access_expires_at = now() + interval '1 minute' WHERE user_id = $1", anna.sub)
    asked = len(await house.calls(BANK))
    assert (await refreshed(following))[BANK]["status"] == "completed"
    assert [call["path"].rpartition("/")[2] for call in (await house.calls(BANK))[asked:]].count("token") == 1

    await house.provider(BANK, mode="token_expired")
    asked = len(await house.calls(BANK))
    assert (await refreshed(following))[BANK]["error"]["code"] == "consent_required"
    assert [call["path"].rpartition("/")[2] for call in (await house.calls(BANK))[asked:]].count("token") == 1
    await house.provider(BANK, mode="ok")
    assert (await refreshed(following))[BANK]["status"] == "completed"


async def test_a_provider_that_was_never_linked_wants_a_consent(anna: Client) -> None:
    following = await linked(anna, BANK)
    ended = await refreshed(following, BANK, CARD)
    assert (ended[BANK]["status"], ended[CARD]["error"]["user_action"]) == ("completed", "sign_again")


async def test_a_body_that_does_not_say_how_long_it_is_is_not_taken_for_none(house: House, anna: Client) -> None:
    await linked(anna, BANK, CARD)

    async def chosen() -> AsyncIterator[bytes]:
        yield b'{"providers":["%b"]}' % BANK.encode()

    answer = await anna.http.post("/v1/refresh", content=chosen())
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), "not a refresh of everything"


async def test_who_asks_twice_is_given_the_refresh_that_is_under_way(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    await house.provider(BANK, mode="slow", latency_ms={"p50": 400, "p99": 500})
    first, second = [(await anna.http.post("/v1/refresh")).json() for _ in range(2)]
    assert first["refresh_id"] == second["refresh_id"]
    assert first["status"] == "refreshing"
    await following.heard("refresh.completed")
    third = (await anna.http.post("/v1/refresh")).json()
    assert third["refresh_id"] != first["refresh_id"]
    await following.heard("refresh.completed", times=2)


async def test_a_refresh_whose_job_was_lost_is_found_again(house: House, anna: Client) -> None:
    following = await linked(anna, BANK)
    insert = "INSERT INTO refreshes (user_id, id, request_id, created_at) VALUES ($1, $2, 'req_12345678', now() - interval '9 s')"
    await house.execute(insert, anna.sub, "ref_01J00000000000000000000000")
    item = """
        INSERT INTO refresh_items (user_id, refresh_id, org_code, position, status, updated_at)
        VALUES ($1, $2, $3, 0, 'refreshing', now() - interval '9 s')
    """
    await house.execute(item, anna.sub, "ref_01J00000000000000000000000", BANK)
    await following.heard("refresh.completed")


async def test_what_cannot_be_refreshed_is_refused(anna: Client, berta: Client) -> None:
    async def refusal(client: Client, **body: object) -> tuple[int, str]:
        answer = await client.http.post("/v1/refresh", json=body)
        return answer.status_code, answer.json()["code"]

    assert await refusal(anna) == (409, "nothing_to_refresh")
    following = await linked(anna, BANK)
    assert await refusal(anna, providers=["X1NOBODY01"]) == (422, "unknown_provider")
    assert await refusal(anna, providers=[]) == (422, "validation_failed")
    assert await refusal(anna, providers=[BANK, BANK]) == (422, "validation_failed")
    assert await refusal(anna, banks=[BANK]) == (422, "validation_failed")
    name = (await anna.http.post("/v1/refresh")).json()["refresh_id"]
    assert (await anna.get(f"/v1/refresh/{name}")).headers["x-feed-position"]
    assert (await berta.get(f"/v1/refresh/{name}")).status_code == 404
    assert (await anna.get("/v1/refresh/ref_1")).status_code == 404
    await following.heard("refresh.completed")
