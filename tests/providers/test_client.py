"""The clients against the sandbox, over real HTTP: what each industry answers, what each person is, how each provider can be ill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

import pytest
import structlog
from msgspec.structs import replace

from backend.errors import ConsentRequired, ProviderError, ProviderTimeout, ProviderUnavailable, Trouble
from backend.events import AssetKind, Industry
from backend.providers.api_codes import FULL_SCOPES
from backend.providers.calls import Call
from backend.providers.clients import http_clients
from backend.providers.contract import ApiType, TokenPair
from backend.providers.directory import Directory
from backend.providers.outcomes import Weight, token_is_worn, weight_of
from tests.providers.given import person
from tests.providers.journey import Journey

T = TypeVar("T")

LISTS_AND_DETAILS = {
    Industry.BANK: {"BA01", "BA02", "BA03", "BA11", "BA12", "BA21", "BA22", "IR01", "IR02", "IR03"},
    Industry.CARD: {"CD01", "CD02", "CD11", "CD21", "CD23", "CD31", "CD32", "CD33", "PP01", "PP02"},
    Industry.INVEST: {"IV01", "IV02", "IV04", "IV05", "IR01", "IR02", "IR03"},
    Industry.INSU: {"IS01", "IS02", "IS03", "IS04", "IS05", "IS08", "IS11", "IS12", "IS13", "IR01", "IR02", "IR03"},
    Industry.EFIN: {"EF01", "EF02", "EF03", "EF11", "EF12"},
    Industry.CAPITAL: {"CP01", "CP02", "CP03", "CP05"},
    Industry.TELECOM: {"TC01", "TC02"},
}


@pytest.mark.parametrize("industry", Industry)
async def test_a_rich_person_is_read_completely_in_every_industry(journey: Journey, industry: Industry) -> None:
    provider = journey.first(industry)
    assets = await journey.assets("rich", provider)
    assert len(assets) >= 30
    calls = [call for call in await journey.calls(provider.org_code) if "/oauth/" not in call["path"]]
    assert {call["api_code"] for call in calls} - {"CD24"} == LISTS_AND_DETAILS[industry]  # CD24 of who pays a part only
    assert {call["rsp_code"] for call in calls} == {"00000"}
    assert {call["api_type"] for call in calls} == {"user-consent"}
    assert len({call["tran_id"] for call in calls}) == len(calls)
    with_figures = {AssetKind.DEPOSIT, AssetKind.INVESTMENT, AssetKind.PENSION, AssetKind.LOAN, AssetKind.PREPAID}
    leased = {"account_type": "3710"}.items()  # an operating lease is no debt
    assert all(asset.balance for asset in assets.values() if asset.kind in with_figures and not leased <= asset.details.items())
    assert all(asset.details for asset in assets.values())


async def test_no_account_number_stands_in_what_is_shown(journey: Journey) -> None:
    for industry in Industry:
        for asset in (await journey.assets("rich", journey.first(industry))).values():
            if asset.kind is AssetKind.POINT or asset.key == "bill":
                continue  # its key is its name
            secret = asset.key.split(":")[1]
            assert secret not in json.dumps([asset.name, asset.number_masked, asset.details])


async def test_every_balance_is_the_one_that_the_bank_tells(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    token = await journey.token("alice", bank)
    headers = {"authorization": f"Bearer {token.access_token}", "x-api-type": "user-search", "x-api-tran-id": "ZVMOA00000M12345678901234"}
    answers = await journey.collected(bank, token)
    deposits = [asset for asset in {a.key: a for each in answers for a in each}.values() if asset.kind is AssetKind.DEPOSIT]
    assert deposits
    for asset in deposits:
        _, account_num, seqno = asset.key.split(":")
        body = {"org_code": bank.org_code, "account_num": account_num, "search_timestamp": "0", **({"seqno": seqno} if seqno else {})}
        told = await journey.sandbox.post(f"/{bank.org_code}/v1/bank/accounts/deposit/detail", json=body, headers=headers)
        assert asset.balance is not None
        assert asset.balance.amount == Decimal(told.json()["detail_list"][0]["balance_amt"])


async def test_many_pages_are_read_one_after_the_other_to_the_end(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    assert sum(key.startswith("account:") for key in await journey.assets("many-pages", bank)) == 120
    calls = await journey.calls(bank.org_code)
    assert sum(call.get("api_code") == "BA01" for call in calls) == 3


async def test_a_person_who_has_nothing_is_collected_without_an_asset(journey: Journey) -> None:
    for industry in Industry:
        assert await journey.assets("empty", journey.first(industry)) == {}


async def test_an_overdrawn_account_is_a_deposit_with_a_negative_balance(journey: Journey) -> None:
    assets = (await journey.assets("minus-account", journey.first(Industry.BANK))).values()
    [minus] = [asset for asset in assets if asset.details.get("is_minus")]
    assert minus.kind is AssetKind.DEPOSIT
    assert minus.balance is not None
    assert minus.balance.amount < 0


async def test_a_closed_asset_keeps_what_its_list_said_and_the_others_are_complete(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    assets = list((await journey.assets("closed-account", bank)).values())
    assert [asset.status for asset in assets if asset.balance is None] == ["closed"]
    assert {call["rsp_code"] for call in await journey.calls(bank.org_code) if call["status"] == 403} == {"40305"}


async def test_an_ended_consent_is_not_a_worn_token(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    with pytest.raises(ConsentRequired) as caught:
        await journey.assets("consent-expired", bank)
    assert not token_is_worn(caught.value)


async def test_a_token_pair_says_when_it_ends_and_what_it_is_for(journey: Journey) -> None:
    pair = await journey.token("alice", journey.first(Industry.CARD))
    assert pair.scope == FULL_SCOPES[Industry.CARD]
    assert pair.access_expires_at == journey.clock.now() + timedelta(days=30)
    assert pair.refresh_expires_at == journey.clock.now() + timedelta(days=365)
    assert pair.access_token not in repr(pair)


async def test_one_signature_opens_providers_of_all_industries(journey: Journey) -> None:
    providers = [journey.first(industry) for industry in Industry]
    signed = await journey.signed("alice", *providers)

    async def token(org_code: str) -> TokenPair:
        return await journey.clients.provider(org_code).request_token(person("alice"), signed[org_code], journey.clock.now())

    pairs = await asyncio.gather(*(token(each.org_code) for each in providers))
    assert [pair.scope for pair in pairs] == [FULL_SCOPES[each.industry] for each in providers]


async def test_a_refreshed_token_reads_on_and_keeps_its_refresh_token(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    pair = await journey.token("alice", bank)
    journey.clock.move(timedelta(days=29))
    fresh = await journey.clients.provider(bank.org_code).refresh_token(pair, journey.clock.now())
    assert fresh.access_token != pair.access_token
    assert (fresh.refresh_token, fresh.refresh_expires_at, fresh.scope) == (pair.refresh_token, pair.refresh_expires_at, pair.scope)
    journey.clock.move(timedelta(days=2))
    assert await journey.collected(bank, fresh)


async def test_a_revoked_pair_is_worn_and_revoking_it_again_is_fine(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    pair = await journey.token("alice", bank)
    client = journey.clients.provider(bank.org_code)
    await client.revoke_token(pair.access_token)
    await client.revoke_token(pair.access_token)
    with pytest.raises(ConsentRequired) as caught:
        await journey.collected(bank, pair)
    assert token_is_worn(caught.value)
    with pytest.raises(ConsentRequired):
        await client.refresh_token(pair, journey.clock.now())


@pytest.mark.parametrize(
    ("mode", "trouble"),
    [
        ("down", Trouble.UNAVAILABLE),
        ("reset", Trouble.UNAVAILABLE),
        ("http500", Trouble.UNAVAILABLE),
        ("garbage", Trouble.INVALID_RESPONSE),
        ("oversize", Trouble.INVALID_RESPONSE),
        ("truncated", Trouble.INVALID_RESPONSE),
        ("http429", Trouble.BUSY),
        ("maintenance", Trouble.RESTING),
        ("out_of_window", Trouble.BUSY),
        ("token_expired", Trouble.CONSENT_REQUIRED),
    ],
)
async def test_a_misbehaving_provider_becomes_what_the_contract_says(journey: Journey, mode: str, trouble: Trouble) -> None:
    bank = journey.first(Industry.BANK)
    pair = await journey.token("alice", bank)
    await journey.steer(bank, mode=mode)
    for _ in range(8):  # `garbage` is another kind each time
        with pytest.raises(ProviderError) as caught:
            await journey.collected(bank, pair)
        assert caught.value.TROUBLE is trouble
    if mode == "http429":
        assert caught.value.retry_at == journey.clock.now() + timedelta(seconds=2)


@pytest.mark.parametrize("mode", ["down", "reset", "http500", "garbage", "oversize", "truncated", "http429", "maintenance"])
async def test_a_token_endpoint_misbehaves_alike(journey: Journey, mode: str) -> None:
    bank = journey.first(Industry.BANK)
    signed = await journey.signed("alice", bank)
    await journey.steer(bank, mode=mode)
    expected = {"down": Trouble.UNAVAILABLE, "reset": Trouble.UNAVAILABLE, "http500": Trouble.UNAVAILABLE, "http429": Trouble.BUSY}
    expected["maintenance"] = Trouble.RESTING
    with pytest.raises(ProviderError) as caught:
        await journey.clients.provider(bank.org_code).request_token(person("alice"), signed[bank.org_code], journey.clock.now())
    assert caught.value.TROUBLE is expected.get(mode, Trouble.INVALID_RESPONSE)


@pytest.mark.parametrize("mode", ["hang", "drip"])
async def test_a_provider_that_does_not_end_is_a_timeout_within_the_deadline_of_its_entry(journey: Journey, mode: str) -> None:
    bank = journey.first(Industry.BANK)
    pair = await journey.token("alice", bank)
    await journey.steer(bank, mode=mode)
    clients = http_clients(lambda: journey.directory, journey.settings.model_copy(update={"call_deadline": 0.15}), journey.clock)
    async with clients:
        with pytest.raises(ProviderTimeout):
            async for _ in clients.provider(bank.org_code).collect(pair.access_token, ApiType.USER_CONSENT, journey.clock.now()):
                pass


async def test_a_collection_that_is_closed_early_leaves_nothing_running(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    pair = await journey.token("rich", bank)
    client = journey.clients.provider(bank.org_code)
    before = asyncio.all_tasks()
    async with aclosing(client.collect(pair.access_token, ApiType.USER_CONSENT, journey.clock.now())) as answers:
        await anext(answers)
        await anext(answers)
    left = {task for task in asyncio.all_tasks() - before if "gathering" in repr(task) or "HttpProviderClient" in repr(task)}
    assert left == set()


async def test_a_collection_as_a_whole_has_a_deadline(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    pair = await journey.token("rich", bank)
    answers = journey.clients.provider(bank.org_code).collect(pair.access_token, ApiType.USER_CONSENT, journey.clock.now())
    await anext(answers)
    journey.clock.move(timedelta(seconds=61))
    with pytest.raises(ProviderTimeout, match="cut"):
        async for _ in answers:
            pass


async def test_what_a_collections_own_deadline_cuts_off_is_no_failure_of_the_provider(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    pair = await journey.token("alice", bank)
    await journey.steer(bank, mode="hang")
    hasty = replace(bank, collection_deadline=0.15)  # its entry says so; a call has 5 s
    directory = Directory(journey.directory.ca, {hasty.org_code: hasty})
    weights: list[Weight] = []

    class Hears:
        async def through(self, org_code: str, call: Call[T], attempt: Callable[[], Awaitable[T]]) -> T:
            try:
                return await attempt()
            except ProviderError as error:
                weights.append(weight_of(error, 0.15, 20.0))
                raise

    async with http_clients(lambda: directory, journey.settings, journey.clock, guard=Hears()) as clients:
        with pytest.raises(ProviderTimeout, match="cut"):
            async for _ in clients.provider(bank.org_code).collect(pair.access_token, ApiType.USER_CONSENT, journey.clock.now()):
                pass
    assert set(weights) == {Weight.IGNORED}


async def test_a_provider_that_the_directory_does_not_have_is_unavailable(journey: Journey) -> None:
    with pytest.raises(ProviderUnavailable, match="unknown"):
        journey.clients.provider("NOBODY0000")


async def test_no_log_line_of_a_whole_journey_holds_a_secret(journey: Journey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    bank = journey.first(Industry.BANK)
    with structlog.testing.capture_logs() as lines:
        pair = await journey.token("alice", bank)
        answers = await journey.collected(bank, pair)
    told = str(lines) + "".join(record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn"))
    assert any(line.get("api_code") == "AU13" for line in lines)
    numbers = [asset.key.split(":")[1] for assets in answers for asset in assets]
    for secret in [pair.access_token, pair.refresh_token, person("alice").user_ci, *numbers, "moa-sandbox-secret"]:
        assert secret not in told
