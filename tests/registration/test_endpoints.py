"""The contract of registrations and assets, over HTTP, with everything behind it real."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import httpx

from backend.providers.directory import BUILT_IN
from tests.registration.house import ALL_SEVEN, BANK, BANK2, CALL_DEADLINE, CARD, INVEST, TELECOM, Client, House


async def test_a_person_registers_at_all_seven_industries_and_sees_each_result(house: House, anna: Client) -> None:
    following = await anna.register(*ALL_SEVEN)
    accepted = following.snapshot
    assert accepted["status"] == "signing"
    assert accepted["signature"] == {"status": "pending"}
    assert [provider["org_code"] for provider in accepted["providers"]] == list(ALL_SEVEN)
    assert {(provider["status"], provider["assets"], provider["error"]) for provider in accepted["providers"]} == {("waiting", 0, None)}

    registration = await following.ended("completed")
    assert following.said[:3] == ["registration.accepted", "signature.requested requested", "signature.completed"]
    assert following.said[-1] == "registration.completed completed"
    assert {"web_url", "ios_app_scheme_url", "aos_app_scheme_url", "expires_at"} < set(registration["signature"])
    for org_code in ALL_SEVEN:
        told = following.of(org_code)
        assert told[0] == "connecting"
        assert told[-1] == "completed"
        assert set(told[1:-1]) == {"assets"}
    assert {provider["status"] for provider in registration["providers"]} == {"completed"}
    assets = await anna.assets()
    assert sum(provider["assets"] for provider in registration["providers"]) == len(assets)
    assert {asset["industry"] for asset in assets} == {provider["industry"] for provider in registration["providers"]}


async def test_what_was_pushed_last_is_what_is_stored(house: House, anna: Client) -> None:
    following = await anna.register(BANK, INVEST)
    await following.ended("completed")
    pushed = {asset["id"]: asset for event in following.events if event["type"] == "provider.assets" for asset in event["data"]["assets"]}
    stored = await anna.assets()
    assert {asset["id"]: asset for asset in stored} == pushed
    for asset in stored:
        assert set(asset) == {
            "id", "org_code", "industry", "kind", "name", "number_masked", "status", "balance", "as_of", "details",
        }  # fmt: skip
        if asset["balance"] is not None:
            assert set(asset["balance"]) == {"amount", "currency"}
            assert -Decimal(asset["balance"]["amount"]).as_tuple().exponent >= 2


async def test_the_answer_says_where_it_stands_and_the_position_misses_nothing(house: House, anna: Client) -> None:
    answer = await anna.http.post("/v1/registrations", json={"providers": [BANK]}, headers={"X-Request-Id": "my-request-1"})
    accepted = answer.json()
    assert answer.headers["location"] == f"/v1/registrations/{accepted['id']}"
    assert answer.headers["x-request-id"] == "my-request-1"
    assert accepted["position"]["offset"] == 0
    for path in (answer.headers["location"], "/v1/registrations", "/v1/assets"):
        found = await anna.get(path)
        assert found.status_code == 200
        epoch, _, offset = found.headers["x-feed-position"].partition(":")
        assert epoch == accepted["position"]["epoch"]
        assert int(offset) >= 0
        assert found.headers["x-request-id"].startswith("req_")


async def test_a_tag_stays_while_nothing_changes_whatever_else_happens_to_the_user(house: House, anna: Client) -> None:
    following = await anna.register(BANK)
    await following.ended("completed")
    first = await anna.get(following.path)
    await (await anna.register(CARD)).ended("completed")
    again = await anna.http.get(following.path, headers={"If-None-Match": f'"other", W/{first.headers["etag"]}'})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["x-feed-position"] != first.headers["x-feed-position"]
    assert (await anna.http.get(following.path, headers={"If-None-Match": '"other"'})).status_code == 200
    assert (await anna.http.get(following.path, headers={"If-None-Match": "*"})).status_code == 304
    assert (await anna.http.get(following.path, headers={"If-None-Match": '"*"'})).status_code == 200
    assert (await anna.http.get(following.path[:-1] + "!", headers={"If-None-Match": "*"})).status_code == 404


# --- idempotency keys ------------------------------------------------------------------------------------------------


async def test_the_same_key_and_body_are_answered_byte_for_byte(house: House, anna: Client, berta: Client) -> None:
    async def post(client: Client, *org_codes: str) -> httpx.Response:
        return await client.http.post("/v1/registrations", json={"providers": org_codes}, headers={"Idempotency-Key": "key-1"})

    first, again = await post(anna, BANK, CARD), await post(anna, BANK, CARD)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    other = await post(anna, CARD)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
    assert (await post(berta, CARD)).status_code == 202, "a key belongs to its user"
    assert len((await anna.get("/v1/registrations")).json()["registrations"]) == 1


async def test_the_first_answer_is_given_again_although_the_provider_has_left_the_directory(
    house: House, anna: Client, tmp_path: Path
) -> None:
    first = await anna.http.post("/v1/registrations", json={"providers": [BANK, CARD]}, headers={"Idempotency-Key": "k"})
    assert first.status_code == 202
    later = tmp_path / "providers.toml"
    later.write_text(BUILT_IN.read_text().replace(CARD, "B1MOACD009"))
    async with house.another_api(providers_file=later) as url, house.client(anna.sub, url=url) as again:
        same = await again.http.post("/v1/registrations", json={"providers": [BANK, CARD]}, headers={"Idempotency-Key": "k"})
        assert (same.status_code, same.content, same.headers["idempotent-replayed"]) == (202, first.content, "true")
        for providers, key in (([CARD], "k"), ([CARD, BANK], "k"), ([BANK, CARD], "another")):
            refused = await again.http.post("/v1/registrations", json={"providers": providers}, headers={"Idempotency-Key": key})
            assert (refused.status_code, refused.json()["code"]) == (422, "unknown_provider")


async def test_duplicates_at_once_are_one_registration(house: House, anna: Client) -> None:
    async def post() -> httpx.Response:
        return await anna.http.post("/v1/registrations", json={"providers": [BANK]}, headers={"Idempotency-Key": "key-1"})

    answers = await asyncio.gather(*(post() for _ in range(8)))
    assert len({answer.content for answer in answers}) == 1
    assert sorted(answer.headers.get("idempotent-replayed", "") for answer in answers) == ["", *["true"] * 7]
    assert len((await anna.get("/v1/registrations")).json()["registrations"]) == 1


async def test_a_refused_request_uses_no_key_up(house: House, anna: Client) -> None:
    headers = {"Idempotency-Key": "key-1"}
    assert (await anna.http.post("/v1/registrations", json={"providers": []}, headers=headers)).status_code == 422
    assert (await anna.http.post("/v1/registrations", json={"providers": [BANK]}, headers=headers)).status_code == 202


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_registrations_are_listed_newest_first_by_pages(house: House, anna: Client, berta: Client) -> None:
    made = [(await anna.register(BANK)).id for _ in range(5)]
    await berta.register(BANK)
    seen: list[str] = []
    page = (await anna.get("/v1/registrations", limit=2)).json()
    while True:
        seen += [registration["id"] for registration in page["registrations"]]
        if "next_page_token" not in page:
            break
        page = (await anna.get("/v1/registrations", limit=2, page_token=page["next_page_token"])).json()
    assert seen == made[::-1]
    one = await anna.registration(made[0])
    assert set((await anna.get("/v1/registrations")).json()["registrations"][0]) == set(one)


async def test_assets_are_listed_by_filter_and_page(house: House, anna: Client) -> None:
    await (await anna.register(BANK, BANK2, CARD)).ended("completed")
    everything = await anna.assets()
    assert {asset["org_code"] for asset in everything} == {BANK, BANK2, CARD}
    assert await anna.assets(industry="card") == [asset for asset in everything if asset["industry"] == "card"]
    assert await anna.assets(org_code=BANK2) == [asset for asset in everything if asset["org_code"] == BANK2]
    assert await anna.assets(industry="card", org_code=BANK) == []
    assert await anna.assets(org_code="Z9MOAXX001") == []
    paged, page_token = [], {}
    while True:
        page = (await anna.get("/v1/assets", limit=2, **page_token)).json()
        paged += page["assets"]
        if "next_page_token" not in page:
            break
        page_token = {"page_token": page["next_page_token"]}
    assert paged == everything


async def test_nobody_finds_anothers(house: House, anna: Client, berta: Client) -> None:
    following = await anna.register(BANK)
    await following.ended("completed")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
        answer = await berta.http.request(method, following.path + path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await berta.assets() == []
    assert (await berta.get("/v1/registrations")).json() == {"registrations": []}


async def test_the_directory_is_shown(house: House, anna: Client) -> None:
    providers = (await anna.get("/v1/providers")).json()["providers"]
    assert {"org_code": BANK, "name": "새벽은행", "industry": "bank", "status": "available"} in providers
    assert len({provider["industry"] for provider in providers}) == 7


async def test_a_second_registration_of_the_same_provider_finds_the_same_assets(house: House, anna: Client) -> None:
    await (await anna.register(TELECOM)).ended("completed")
    before = {asset["id"] for asset in await anna.assets()}
    await (await anna.register(TELECOM)).ended("completed")
    assert {asset["id"] for asset in await anna.assets()} == before
    assert [row["org_code"] for row in await house.execute("SELECT org_code FROM links WHERE user_id = $1", anna.sub)] == [TELECOM]


async def test_named_people_show_the_corners(house: House) -> None:
    async with house.client("empty-1") as empty, house.client("many-pages-1") as many, house.client("consent-expired-1") as expired:
        nothing = await (await empty.register(BANK)).ended("completed")
        assert nothing["providers"][0]["assets"] == 0
        assert (await (await many.register(BANK)).ended("completed"))["providers"][0]["assets"] >= 120
        following = await expired.register(BANK)
        await following.ended("failed")
        assert following.status(BANK) == ("failed", "consent_required")


# --- retrying --------------------------------------------------------------------------------------------------------


async def test_a_retry_uses_the_signed_consent(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="http500")
    following = await anna.register(BANK, CARD)
    partial = await following.ended("partial")
    assert [provider["status"] for provider in partial["providers"]] == ["failed", "completed"]
    await house.provider(BANK, mode="ok")

    answer = await anna.http.post(f"{following.path}/retry")
    assert answer.status_code == 202
    assert answer.headers["location"] == following.path
    assert answer.json()["status"] == "collecting"
    await following.ended("completed", times=2)
    assert following.said.count("signature.completed") == 1
    assert "registration.retried collecting" in following.said
    assert following.of(CARD).count("completed") == 1, "what was completed is not collected again"


async def test_a_retry_uses_the_link_when_the_consent_is_gone(house: House, anna: Client) -> None:
    await (await anna.register(BANK)).ended("completed")
    await house.provider(BANK, mode="down")
    following = await anna.register(BANK)
    await following.ended("failed")
    await house.provider(BANK, mode="ok")
    await house.execute("UPDATE consents SET signed_sealed = NULL WHERE registration_id = $1", following.id)
    assert (await anna.http.post(f"{following.path}/retry")).json()["status"] == "collecting"
    await following.ended("completed", times=2)


async def test_a_retry_with_neither_signs_again(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="http500")
    following = await anna.register(BANK, CARD)
    await following.ended("partial")
    await house.provider(BANK, mode="ok")
    await house.execute("UPDATE consents SET signed_sealed = NULL WHERE registration_id = $1", following.id)
    await house.execute("DELETE FROM links WHERE user_id = $1", anna.sub)
    assert (await anna.http.post(f"{following.path}/retry")).json()["status"] == "signing"
    await following.ended("completed", times=2)
    assert following.said.count("signature.requested requested") == following.said.count("signature.completed") == 2


async def test_a_consent_that_the_provider_does_not_take_is_signed_again(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="token_expired")
    following = await anna.register(BANK)
    await following.ended("failed")
    assert following.status(BANK) == ("failed", "consent_required")
    await house.provider(BANK, mode="ok")
    assert (await anna.http.post(f"{following.path}/retry")).json()["status"] == "signing"
    await following.ended("completed", times=2)


async def test_a_retry_has_a_time_to_sign_of_its_own(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="token_expired")
    following = await anna.register(BANK)
    await following.ended("failed")
    await house.execute("UPDATE registrations SET sign_before = now() - interval '1 hour' WHERE id = $1", following.id)
    await house.provider(BANK, mode="ok")
    await anna.http.post(f"{following.path}/retry")
    await following.ended("completed", times=2)


async def test_of_two_retries_at_once_one_is_accepted(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="http500")
    following = await anna.register(BANK)
    await following.ended("failed")
    answers = await asyncio.gather(*(anna.http.post(f"{following.path}/retry") for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    assert {answer.json().get("code") for answer in answers} == {None, "nothing_to_retry"}
    await following.ended("failed", times=2)


async def test_there_is_nothing_to_retry_or_to_cancel_when_all_is_well(house: House, anna: Client) -> None:
    following = await anna.register(BANK)
    await following.ended("completed")
    for method, path, code in (("POST", "/retry", "nothing_to_retry"), ("DELETE", "", "nothing_to_cancel")):
        answer = await anna.http.request(method, following.path + path)
        assert (answer.status_code, answer.json()["code"]) == (409, code)


# --- cancelling ------------------------------------------------------------------------------------------------------


async def test_cancelling_while_the_person_should_sign(house: House, anna: Client) -> None:
    await house.ca(approve_after_ms=None)
    following = await (await anna.register(BANK, CARD)).heard("signature.requested requested")
    answer = await anna.http.delete(following.path)
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    cancelled = await following.ended("cancelled")
    assert [provider["status"] for provider in cancelled["providers"]] == ["cancelled", "cancelled"]
    assert (await anna.http.delete(following.path)).status_code == 409


async def test_cancelling_while_providers_are_being_read(house: House, anna: Client) -> None:
    await house.provider(BANK, mode="hang")
    following = await anna.register(BANK, CARD)
    await following.until(lambda: "connecting" in following.of(BANK) and "completed" in following.of(CARD))
    assert (await anna.http.delete(following.path)).status_code == 202
    cancelled = await following.ended("cancelled")
    assert [provider["status"] for provider in cancelled["providers"]] == ["cancelled", "completed"]
    await asyncio.sleep(CALL_DEADLINE)  # the bank's deadline passes, and nobody is told
    assert (await following.unheard()) == []
