from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import date
from typing import Any

import orjson
import pytest

from backend.errors import ProviderError, ProviderInvalidResponse, ProviderUnavailable, Trouble
from backend.events import Industry
from backend.providers import gathering
from backend.providers.calls import Call
from backend.providers.contract import ApiType, CollectedAsset, Timestamps
from backend.providers.gathering import CONCURRENT_CALLS, MOST_IDLE_PAGES, MOST_PAGES, MOST_WAITING, gather
from backend.providers.industries import bank, invest, irp
from backend.providers.outcomes import Failure, Finding, RspCode, error_of, failed, of_answer
from backend.providers.payloads import Page
from backend.providers.reading import Asking, Detail, Found, Listing
from tests.providers.given import BANK, provider

Body = dict[str, Any]


def with_balances(page: bank.Accounts) -> Iterator[Found]:
    """What a bank's accounts are, with one detail each."""
    for found in bank.found(page):
        yield Found(found.asset, tuple(detail for detail in found.details if detail.api_code == "BA03"))


ACCOUNTS = Listing("BA01", bank.Accounts, with_balances)


class Institution:
    """Answers calls out of a function, and remembers what was asked and how many were in flight."""

    def __init__(self, answer: Callable[[str, Body], Awaitable[Body]], *listings: Listing[Any]) -> None:
        self._answer = answer
        self.listings: Sequence[Listing[Any]] = listings or (ACCOUNTS,)
        self.timestamps = Timestamps()
        self.industry = Industry.BANK
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
            body = await self._answer(call.api_code, told)
            code = body.get("rsp_code", RspCode.OK)
            if (finding := of_answer(200, code, call.accepts)) is not None:
                raise error_of(BANK, finding)
            return call.read(code, orjson.dumps(body))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    def gather(self) -> Any:
        asking = Asking(
            provider=provider(industry=self.industry),
            token="t",
            api_type=ApiType.USER_CONSENT,
            today=date(2026, 11, 22),
            timestamps=self.timestamps,
        )
        return gather(self.listings, asking, self.call)

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
    async def answer(code: str, told: Body) -> Body:
        page = int(told.get("next_page", "0"))
        return listed(page, next_page=str(page + 1)) if code == "BA01" else BALANCE

    bank = Institution(answer)
    with pytest.raises(ProviderInvalidResponse):
        await bank.everything()
    assert sum(code == "BA01" for code, _ in bank.asked) == MOST_PAGES


@pytest.mark.parametrize("rows", [(), (1, 2)])
async def test_pages_that_bring_nothing_new_are_not_asked_for_for_long(rows: tuple[int, ...]) -> None:
    """An institution that turns its last page into another, with a new cursor each time: of three lists that would be 600 calls."""
    numbers = itertools.count()

    async def answer(code: str, _told: Body) -> Body:
        return listed(*rows, next_page=f"c{next(numbers)}") if code == "BA01" else BALANCE

    bank = Institution(answer)
    with pytest.raises(ProviderInvalidResponse):
        await bank.everything()
    assert sum(code == "BA01" for code, _ in bank.asked) <= MOST_IDLE_PAGES + 2


async def test_a_cursor_where_the_standard_has_no_pages_is_a_field_like_any_other_that_nobody_knows() -> None:
    """It cannot be sent back: the same call would be made again."""

    async def answer(code: str, _told: Body) -> Body:
        return listed(1) if code == "BA01" else {**BALANCE, "next_page": "x"}

    bank = Institution(answer)
    assert len(await bank.everything()) == 2
    assert [code for code, _ in bank.asked] == ["BA01", "BA03"]


async def test_some_pages_without_anything_new_are_no_fault() -> None:
    """A page may have any number of rows, none, too (standard, section 3)."""

    async def answer(code: str, told: Body) -> Body:
        if code != "BA01":
            return BALANCE
        page = int(told.get("next_page", "0"))
        rows = [page] if page % MOST_IDLE_PAGES == 0 else []
        return listed(*rows, next_page=str(page + 1) if page < 4 * MOST_IDLE_PAGES else None)

    assert len({asset.key for assets in await Institution(answer).everything() for asset in assets}) == 5


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
        return {"BA01": listed(1), "IR01": {"irp_list": []}, "BA03": BALANCE}[code]

    both = Institution(answer, ACCOUNTS, irp.LISTING)
    await both.everything()
    assert both.most == 2


async def test_an_answer_may_lead_to_further_lists_and_to_further_details() -> None:
    async def answer(code: str, _told: Body) -> Body:
        return {"BA01": listed(1), "BA22": {"balance_amt": "7"}, "BA03": BALANCE}.get(code, {"account_list": []})

    more = Detail("BA22", {"account_num": "1"}, bank.LoanDetail, bank.with_overdraft)

    def then_more(page: bank.Accounts) -> Iterator[Found]:
        for found in with_balances(page):
            yield Found(found.asset, tuple(Detail(d.api_code, d.named, d.answer, d.add, lambda _: (more,)) for d in found.details))

    first = Listing("BA01", bank.Accounts, then_more, lambda _: (Listing("BA11", bank.Accounts, bank.found),))
    house = Institution(answer, first)
    answers = await house.everything()
    assert sorted(code for code, _ in house.asked) == ["BA01", "BA03", "BA11", "BA22"]
    assert answers[-1][0].details["overdraft"] == {"balance_amt": "7"}


@pytest.mark.parametrize("code", [RspCode.NO_SCOPE, RspCode.NO_ENDPOINT])
async def test_a_list_that_is_not_offered_is_left_out_where_it_may_be(code: RspCode) -> None:
    async def answer(api_code: str, _told: Body) -> Body:
        if api_code == "IR01":
            raise refusal(code)
        return listed(1) if api_code == "BA01" else BALANCE

    assert len(await Institution(answer, ACCOUNTS, irp.LISTING).everything()) == 2
    with pytest.raises(ProviderError):
        await Institution(answer, ACCOUNTS, Listing("IR01", irp.Irps, irp.found)).everything()


async def test_a_list_is_asked_for_what_changed_since_it_was_read_and_its_details_for_everything() -> None:
    stamps = {"BA01": "20261122100000", "IR01": "0"}

    async def answer(code: str, told: Body) -> Body:
        stamp = {"search_timestamp": stamps[code]} if code in stamps else {}
        if code == "IR01":
            return {"irp_list": [], **stamp}
        if code == "BA03":
            return {**BALANCE, "search_timestamp": "20261122110000"}
        if told.get("search_timestamp") == stamps["BA01"]:
            return {"rsp_code": RspCode.UP_TO_DATE}
        return listed(2) if told.get("next_page") else {**listed(1, next_page="a"), **stamp}

    house = Institution(answer, ACCOUNTS, irp.LISTING)
    await house.everything()
    assert {code: told["search_timestamp"] for code, told in house.asked if "search_timestamp" in told} == dict.fromkeys(
        ("BA01", "BA03", "IR01"), "0"
    )
    assert house.timestamps.reached == {"BA01": "20261122100000"}
    assert house.timestamps.moved

    again = Institution(answer, ACCOUNTS, irp.LISTING)
    again.timestamps = Timestamps(house.timestamps.reached)
    assert await again.everything() == []
    assert [code for code, _ in again.asked] == ["BA01", "IR01"]
    assert again.timestamps.reached == {"BA01": "20261122100000"}
    assert not again.timestamps.moved


@pytest.mark.parametrize("where", ["a list that was never read", "a detail", "a second page"])
async def test_nothing_new_is_no_answer_to_who_asks_for_everything(where: str) -> None:
    """Believed, a detail without an answer took the balance away that is known, and a list's second page the accounts behind it."""

    async def answer(code: str, told: Body) -> Body:
        asked = "a detail" if code != "BA01" else "a second page" if "next_page" in told else "a list that was never read"
        if asked == where:
            return {"rsp_code": RspCode.UP_TO_DATE}
        return BALANCE if code != "BA01" else listed(1, next_page="a" if where == "a second page" else None)

    with pytest.raises(ProviderInvalidResponse):
        await Institution(answer).everything()


async def test_a_provider_that_stops_keeping_timestamps_is_read_in_full_again() -> None:
    async def answer(code: str, _told: Body) -> Body:
        return {**listed(1), "search_timestamp": "0"} if code == "BA01" else BALANCE

    house = Institution(answer)
    house.timestamps = Timestamps({"BA01": "20261122100000", "CD32": "20261122100000"})
    await house.everything()
    assert house.timestamps.reached == {"CD32": "20261122100000"}
    assert house.timestamps.moved


async def test_details_that_grow_without_end_are_an_invalid_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of one link's details may become one event: a hundred thousand products of one account would cut every subscriber off."""
    monkeypatch.setattr(gathering, "MOST_ROWS", 2_000)
    numbers = itertools.count()

    async def answer(code: str, _told: Body) -> Body:
        if code == "IV01":
            return {"account_list": [{"account_num": "1", "is_consent": "true", "account_name": "a", "account_type": "101"}]}
        if code == "IV02":
            return {"basic_list": []}
        row = {"prod_type": "401", "prod_code": "005930", "eval_amt": "1", "currency_code": "KRW"}
        return {"prod_list": [{**row, "prod_name": f"p{next(numbers)}"} for _ in range(500)], "next_page": f"c{next(numbers)}"}

    house = Institution(answer, invest.LISTINGS[0])
    house.industry = Industry.INVEST
    with pytest.raises(ProviderInvalidResponse):
        await house.everything()
    assert sum(code == "IV04" for code, _ in house.asked) == 5


async def test_details_without_end_are_an_invalid_answer() -> None:
    many = tuple(Detail("BA03", {"account_num": str(n)}, bank.DepositDetail, bank.with_deposit) for n in range(MOST_WAITING))

    async def answer(code: str, _told: Body) -> Body:
        return listed(1) if code == "BA01" else BALANCE

    def with_many(page: bank.Accounts) -> Iterator[Found]:
        for found in with_balances(page):
            yield Found(found.asset, tuple(Detail(d.api_code, d.named, d.answer, d.add, lambda _: (*many, *many)) for d in found.details))

    with pytest.raises(ProviderInvalidResponse):
        await Institution(answer, Listing("BA01", bank.Accounts, with_many)).everything()
