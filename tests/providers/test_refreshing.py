"""A second reading: what has not changed costs one call per list, what has changed is what the provider holds then."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backend.clock import KST
from backend.errors import ProviderUnavailable
from backend.events import Industry
from backend.providers.api_codes import by_code
from backend.providers.contract import ApiType, CollectedAsset, Provider, Timestamps, TokenPair
from backend.providers.sandbox.catalogue import CATALOGUE
from backend.providers.sandbox.people import People
from tests.providers.journey import Journey

USER = "rich-4"


async def read(journey: Journey, provider: Provider, token: TokenPair, timestamps: Timestamps) -> dict[str, CollectedAsset]:
    client = journey.clients.provider(provider.org_code)
    answers = client.collect(token.access_token, ApiType.USER_REFRESH, journey.clock.now(), timestamps)
    return {asset.key: asset async for answer in answers for asset in answer}


async def codes(journey: Journey, provider: Provider) -> list[tuple[str, str]]:
    return [(call["api_code"], call["rsp_code"]) for call in await journey.calls(provider.org_code) if "/oauth/" not in call["path"]]


@pytest.mark.parametrize("industry", Industry)
async def test_a_second_reading_with_nothing_new_makes_list_calls_only_and_tells_nothing(journey: Journey, industry: Industry) -> None:
    provider = journey.first(industry)
    token = await journey.token(USER, provider)
    first = Timestamps()
    assert await read(journey, provider, token, first)
    assert first.moved
    before = len(await codes(journey, provider))
    again = Timestamps(first.reached)
    assert await read(journey, provider, token, again) == {}
    assert not again.moved
    calls = (await codes(journey, provider))[before:]
    assert {rsp_code for _, rsp_code in calls} == {"00001"}
    assert [code for code, _ in calls] == list(dict.fromkeys(code for code, _ in calls))
    assert {code for code, _ in calls} <= first.reached.keys()
    assert all(by_code(industry, code).is_timestamped for code in first.reached)


@pytest.mark.parametrize("industry", Industry)
async def test_a_reading_knows_of_which_kinds_it_was_told_everything(journey: Journey, industry: Industry) -> None:
    provider = journey.first(industry)
    token = await journey.token(USER, provider)
    first = Timestamps()
    found = {asset.kind for asset in (await read(journey, provider, token, first)).values()}
    assert found <= first.told_whole
    again = Timestamps(first.reached)
    await read(journey, provider, token, again)
    assert again.told_whole == frozenset()
    for code in first.reached:  # one list in full is not enough for a kind that another list may name, too
        part = Timestamps({other: stamp for other, stamp in first.reached.items() if other != code})
        told = {asset.kind for asset in (await read(journey, provider, token, part)).values()}
        assert part.told_whole <= first.told_whole
        assert {kind for kind in part.told_whole if kind not in told} <= {kind for kind in first.told_whole if kind not in found}


async def test_what_changed_is_read_again_in_full_and_only_then(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    token = await journey.token("alice", bank)
    known = Timestamps()
    before = await read(journey, bank, token, known)
    figures = People("moa", CATALOGUE).figures(bank.org_code, "alice")
    since = figures.on(journey.clock.now().astimezone(KST).date()).since
    days = 0
    while figures.on((journey.clock.now() + timedelta(days=1)).astimezone(KST).date()).since == since:
        journey.clock.move(timedelta(days=1))
        days += 1
        assert await read(journey, bank, token, Timestamps(known.reached)) == {}
    journey.clock.move(timedelta(days=1))
    assert days < 12
    again = Timestamps(known.reached)
    after = await read(journey, bank, token, again)
    assert again.moved
    assert again.reached["BA01"] > known.reached["BA01"]
    assert after.keys() == before.keys()
    assert any(after[key].balance != before[key].balance for key in before)
    assert after == await journey.assets("alice", bank)


async def test_a_collection_that_hears_nothing_moves_no_timestamp(journey: Journey) -> None:
    bank = journey.first(Industry.BANK)
    token = await journey.token("alice", bank)
    timestamps = Timestamps({"BA01": "20200101000000"})
    client = journey.clients.provider(bank.org_code)
    answers = client.collect(token.access_token, ApiType.USER_REFRESH, journey.clock.now(), timestamps)
    await journey.steer(bank, mode="down")
    with pytest.raises(ProviderUnavailable):
        await anext(answers)
    assert not timestamps.moved
