from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import date
from typing import Any

import orjson
import pytest

from backend.errors import ProviderError, ProviderInvalidResponse, ProviderUnavailable, Trouble
from backend.events import Industry
from backend.providers.calls import Call
from backend.providers.contract import ApiType, CollectedAsset
from backend.providers.gathering import CONCURRENT_CALLS, MOST_PAGES, gather
from backend.providers.industries import LISTINGS
from backend.providers.outcomes import Failure, Finding, RspCode, error_of, failed
from backend.providers.payloads import Page
from backend.providers.reading import Asking
from tests.providers.given import BANK, provider

Body = dict[str, Any]


class Institution:
    """Answers calls out of a function, and remembers what was asked and how many were in flight."""

    def __init__(self, answer: Callable[[str, Body], Awaitable[Body]], industry: Industry = Industry.BANK) -> None:
        self._answer = answer
        self.industry = industry
        self.asked: list[tuple[str, Body]] = []
        self.in_flight = 0
        self.most = 0
        self.cancelled = 0

    async def call(self, call: Call[Page | None]) -> Page | None:
        told = dict(call.query) or orjson.loads(call.body or b"")
        self.asked.append((call.api_code, told))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            return call.read(RspCode.OK, orjson.dumps(await self._answer(call.api_code, told)))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    def gather(self) -> Any:
        asking = Asking(provider=provider(industry=self.industry), token="t", api_type=ApiType.USER_CONSENT, today=date(2026, 11, 22))
        return gather(LISTINGS[self.industry], asking, self.call)

    async def everything(self) -> list[tuple[CollectedAsset, ...]]:
        return [assets async for assets in self.gather()]


def account(number: int) -> Body:
    return {"account_num": f"1101234{number:05}", "is_consent": "true", "prod_name": "통장", "account_type": "1001", "account_status": "01"}


def listed(*numbers: int, next_page: str | None = None) -> Body:
    return {"account_list": [account(number) for number in numbers], **({"next_page": next_page} if next_page else {})}


BALANCE: Body = {"detail_list": [{"balance_amt": "10.00"}]}


def refusal(code: RspCode) -> ProviderError:
    return error_of(BANK, Finding(Trouble.REFUSED, code))


async def test_an_asset_comes_as_its_list_shows_it_and_again_whole_with_its_detail() -> None:
    async def answer(code: str, _told: Body) -> Body:
        return listed(1) if code == "BA01" else BALANCE

    first, second = await Institution(answer).everything()
    assert [asset.balance for asset in first] == [None]
    assert second[0].balance is not None
    assert (second[0].key, second[0].name) == (first[0].key, first[0].name)


async def test_pages_come_one_after_the_other_each_with_the_cursor_of_the_one_before() -> None:
    async def answer(code: str, told: Body) -> Body:
        if code != "BA01":
            return BALANCE
        return {None: listed(1, next_page="a"), "a": listed(2, next_page="b"), "b": listed(3)}[told.get("next_page")]

    bank = Institution(answer)
    answers = await bank.everything()
    assert [told.get("next_page") for code, told in bank.asked if code == "BA01"] == [None, "a", "b"]
    assert len({asset.key for assets in answers for asset in assets}) == 3


async def test_details_are_in_flight_together_up_to_the_bound() -> None:
    async def answer(code: str, _told: Body) -> Body:
        if code == "BA01":
            return listed(*range(40))
        await asyncio.sleep(0)
        return BALANCE

    bank = Institution(answer)
    answers = await bank.everything()
    assert bank.most == CONCURRENT_CALLS
    assert len(answers) == 41


async def test_a_row_that_comes_again_on_the_next_page_is_one_asset() -> None:
    async def answer(code: str, told: Body) -> Body:
        if code != "BA01":
            return BALANCE
        return listed(2, 3) if told.get("next_page") else listed(1, 2, next_page="a")

    bank = Institution(answer)
    await bank.everything()
    assert sum(code == "BA03" for code, _ in bank.asked) == 3


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"]])
async def test_a_cursor_that_comes_again_is_an_invalid_answer(cursors: list[str]) -> None:
    left = iter(cursors)

    async def answer(_code: str, _told: Body) -> Body:
        return {"account_list": [], "next_page": next(left)}

    with pytest.raises(ProviderInvalidResponse):
        await Institution(answer).everything()


async def test_pages_without_end_are_an_invalid_answer() -> None:
    async def answer(_code: str, told: Body) -> Body:
        return {"account_list": [], "next_page": told.get("next_page", "") + "x"}

    bank = Institution(answer)
    with pytest.raises(ProviderInvalidResponse):
        await bank.everything()
    assert len(bank.asked) == MOST_PAGES


@pytest.mark.parametrize("code", [RspCode.ASSET_NOT_CONSENTED, RspCode.NO_ASSET, RspCode.ASSET_NOT_NORMAL])
async def test_an_asset_that_is_gone_loses_its_detail_only(code: RspCode) -> None:
    async def answer(api_code: str, told: Body) -> Body:
        if api_code == "BA01":
            return listed(1, 2)
        if told["account_num"].endswith("1"):
            raise refusal(code)
        return BALANCE

    answers = await Institution(answer).everything()
    assert [len(assets) for assets in answers] == [2, 1]


async def test_the_same_refusal_of_a_list_ends_the_collection() -> None:
    async def answer(_code: str, _told: Body) -> Body:
        raise refusal(RspCode.NO_ASSET)

    with pytest.raises(ProviderError):
        await Institution(answer).everything()


async def test_one_call_without_an_answer_ends_the_collection_and_what_came_before_stands() -> None:
    async def answer(code: str, told: Body) -> Body:
        if code == "BA01":
            return listed(1, 2, 3)
        if told["account_num"].endswith("2"):
            raise failed(BANK, Failure.RESET)
        await asyncio.Event().wait()
        return BALANCE

    bank = Institution(answer)
    answers = bank.gather()
    assert len(await anext(answers)) == 3
    with pytest.raises(ProviderUnavailable):
        await anext(answers)
    assert (bank.in_flight, bank.cancelled) == (0, 2)


async def test_closing_it_early_leaves_no_call_in_flight() -> None:
    async def answer(code: str, _told: Body) -> Body:
        if code == "BA01":
            return listed(*range(20))
        await asyncio.Event().wait()
        return BALANCE

    bank = Institution(answer)
    before = asyncio.all_tasks()
    async with aclosing(bank.gather()) as answers:
        await anext(answers)
        waiting = asyncio.ensure_future(anext(answers))
        while bank.in_flight < CONCURRENT_CALLS:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (bank.in_flight, bank.cancelled) == (0, CONCURRENT_CALLS)
    assert asyncio.all_tasks() == before


async def test_breaking_off_between_two_answers_cancels_the_rest() -> None:
    gate = asyncio.Event()

    async def answer(code: str, told: Body) -> Body:
        if code == "BA01":
            return listed(1, 2, next_page="a") if "next_page" not in told else listed(3)
        await gate.wait()
        return BALANCE

    bank = Institution(answer)
    async with aclosing(bank.gather()) as answers:
        await anext(answers)
        await anext(answers)
        assert bank.in_flight == 2
    assert bank.in_flight == 0


async def test_two_lists_of_one_industry_are_read_side_by_side() -> None:
    async def answer(code: str, _told: Body) -> Body:
        await asyncio.sleep(0)
        return {"fob_list": []} if code == "EF01" else {"account_list": [{"sub_key": "s", "is_consent": "true"}]}

    efin = Institution(answer, Industry.EFIN)
    [assets] = await efin.everything()
    assert efin.most == 2
    assert [asset.key for asset in assets] == ["paid:s"]
