"""Data APIs: every industry's lists and details, who is refused what, pages, timestamps, scheduled rules."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from backend.clock import KST, ManualClock
from backend.events import Industry
from backend.providers.api_codes import APIS, Api, by_code
from backend.providers.sandbox.app import tokens_of
from backend.providers.sandbox.asking import in_window, is_unchanged, years_back
from backend.providers.sandbox.catalogue import CATALOGUE
from backend.providers.sandbox.options import SandboxOptions
from backend.providers.sandbox.people import Detail, People
from tests.sandbox.conftest import NOON
from tests.sandbox.operator import BANK, FIRST, Operator

CARD, INVEST, EFIN = FIRST[Industry.CARD], FIRST[Industry.INVEST], FIRST[Industry.EFIN]
OTHERS = {
    "insured_no": "01",
    "car_number": "12가3456",
    "from_date": "20260101",
    "to_date": "20261122",
    "from_month": "202601",
    "to_month": "202611",
    "charge_month": "202610",
}


def leaves(value: object) -> Iterator[object]:
    """Every JSON value that is neither object nor array."""
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


async def _refs(operator: Operator, user: str, api: Api) -> dict[str, str]:
    """Parameters that name an asset which the call knows; {} if it is about none."""
    resource = CATALOGUE[api.industry].get(api.code)
    if not isinstance(resource, Detail) or resource.of is None:
        return {}
    listed = (await operator.call(user, FIRST[api.industry], resource.of)).json()
    (rows,) = [value for name, value in listed.items() if name.endswith("_list")]
    types = [row.get("account_type", row.get("insu_type", "")) for row in rows]
    row = next((row for row, kind in zip(rows, types, strict=True) if kind.startswith(resource.kinds)), None)
    if row is None:
        return {}
    names = ("account_num", "seqno", "card_id", "pp_id", "insu_num", "fob_id", "sub_key", "mgmt_id")
    first = next(name for name in names if name in row and (name in api.params or name in api.path))
    return {name: row[name] for name in (first, "seqno") if name in row}


@pytest.mark.parametrize("industry", list(Industry))
async def test_every_call_of_the_standard_answers_in_strings_only(operator: Operator, industry: Industry) -> None:
    for api in (each for each in APIS if each.industry == industry and each.code != "CM01"):
        given = OTHERS | await _refs(operator, "rich", api)
        told_of = {name: value for name, value in given.items() if name in api.params or name == "card_id"}
        answer = await operator.call("rich", FIRST[industry], api.code, **told_of)
        told = answer.json()
        assert (answer.status_code, told["rsp_code"]) == (200, "00000"), (api.code, told)
        assert all(isinstance(leaf, str) and leaf for leaf in leaves(told)), api.code
        for name in (each.removesuffix("_list") for each in told if each.endswith("_list")):
            assert told[f"{name}_cnt"] == str(len(told[f"{name}_list"])), api.code


async def test_what_the_consent_does_not_cover_is_refused(operator: Operator) -> None:
    narrow = tokens_of(SandboxOptions()).issue(CARD, "alice", "card.list", {"end_date": "20271122"}, NOON)
    header: dict[str, str | None] = {"authorization": f"Bearer {narrow.access_token}"}
    assert (await operator.call("alice", CARD, "CD01", header)).status_code == 200
    answer = await operator.call("alice", CARD, "CD11", header)
    assert (answer.status_code, answer.json()["rsp_code"]) == (401, "40104")


async def test_the_catalogue_has_every_api_of_the_table() -> None:
    for api in APIS:
        assert api.code in CATALOGUE[api.industry] or api.code in ("CM01", "CM02"), api


async def test_apis_are_listed_without_a_token_or_a_version(operator: Operator) -> None:
    address = f"{operator.url}/{BANK}/bank/apis"
    told = (await operator.http.get(address, params={"org_code": BANK}, headers={"x-api-tran-id": operator.tran_id()})).json()
    assert told["version"] == "v1"
    assert {"api_code": "BA01", "api_uri": "/v1/bank/accounts"} in told["api_list"]


async def test_the_consent_can_be_read_back(operator: Operator) -> None:
    told = (await operator.call("alice", BANK, "CM02")).json()
    assert (told["end_date"], told["fnd_cycle"], told["is_scheduled"]) == ("20271122", "1/w", "true")


@pytest.mark.parametrize(
    ("headers", "status", "rsp_code"),
    [
        ({"authorization": None}, 401, "40101"),
        ({"authorization": "Bearer x.y.z"}, 401, "40101"),
        ({"x-api-tran-id": None}, 400, "40002"),
        ({"x-api-tran-id": "ZVMOA00000M1"}, 400, "40002"),
        ({"x-api-type": None}, 400, "40002"),
        ({"x-api-type": "whatever"}, 400, "40002"),
    ],
)
async def test_a_wrong_header_is_refused(operator: Operator, headers: dict[str, str | None], status: int, rsp_code: str) -> None:
    answer = await operator.call("alice", BANK, "BA01", headers)
    assert (answer.status_code, answer.json()["rsp_code"]) == (status, rsp_code)


async def test_the_tran_id_comes_back_on_errors_too(operator: Operator) -> None:
    answer = await operator.call("alice", BANK, "BA01", {"x-api-tran-id": f"ZVMOA00000M{7:014}", "authorization": None})
    assert answer.headers["x-api-tran-id"] == "ZVMOA00000M00000000000007"


async def test_a_token_is_good_at_its_own_provider_only(operator: Operator) -> None:
    other = await operator.token("alice", CARD)
    assert (await operator.call("alice", BANK, "BA01", {"authorization": f"Bearer {other}"})).json()["rsp_code"] == "40101"


@pytest.mark.parametrize(
    ("params", "rsp_code"),
    [
        ({"limit": "0"}, "40001"),
        ({"limit": "501"}, "40001"),
        ({"limit": "ten"}, "40001"),
        ({"limit": ""}, "40001"),
        ({"next_page": "somewhere"}, "40001"),
        ({"next_page": "nffff"}, "40001"),
        ({"search_timestamp": "yesterday"}, "40001"),
        ({"org_code": CARD}, "40303"),
    ],
)
async def test_a_wrong_parameter_is_refused(operator: Operator, params: dict[str, str], rsp_code: str) -> None:
    whole = {"org_code": BANK, **params}
    token = await operator.token("alice", BANK)
    headers = {"x-api-tran-id": operator.tran_id(), "x-api-type": "user-consent", "authorization": f"Bearer {token}"}
    answer = await operator.raw(by_code(Industry.BANK, "BA01"), BANK, "/accounts", headers, whole)
    assert answer.json()["rsp_code"] == rsp_code


@pytest.mark.parametrize(
    ("method", "path", "status", "rsp_code"),
    [
        ("GET", "/v1/bank/nothing", 404, "40401"),
        ("GET", "/v1/card/cards", 404, "40401"),
        ("GET", "/v2/bank/accounts", 400, "40003"),
        ("POST", "/v1/bank/accounts", 405, "40501"),
        ("GET", "/v1/bank/accounts/deposit/detail", 405, "40501"),
        ("GET", "/", 404, "40401"),
    ],
)
async def test_a_wrong_address_is_refused(operator: Operator, method: str, path: str, status: int, rsp_code: str) -> None:
    answer = await operator.http.request(method, f"{operator.url}/{BANK}{path}", headers={"x-api-tran-id": operator.tran_id()})
    assert (answer.status_code, answer.json()["rsp_code"]) == (status, rsp_code)


async def test_an_unknown_organisation_has_no_endpoint(operator: Operator) -> None:
    answer = await operator.http.get(f"{operator.url}/A1NOBODY00/v1/bank/accounts")
    assert (answer.status_code, answer.json()["rsp_code"]) == (404, "40401")


async def test_a_body_that_is_not_an_object_of_strings_is_refused(operator: Operator) -> None:
    address = f"{operator.url}/{BANK}/v1/bank/accounts/deposit/detail"
    token = await operator.token("alice", BANK)
    headers = {"x-api-tran-id": operator.tran_id(), "x-api-type": "user-consent", "authorization": f"Bearer {token}"}
    for body in (b"{", b"[]", b'{"org_code":1}', b"[" * 100_000, b"\xff"):
        answer = await operator.http.post(address, content=body, headers={**headers, "content-type": "application/json"})
        assert answer.json()["rsp_code"] == "40001"
    assert (await operator.http.post(address, content=b"{}", headers=headers)).json()["rsp_code"] == "40002"
    huge = await operator.http.post(address, content=b" " * (1024 * 1024 + 1), headers={**headers, "content-type": "application/json"})
    assert huge.json()["rsp_code"] == "40001"


async def test_an_asset_of_somebody_else_is_not_found(operator: Operator) -> None:
    bobs = (await operator.call("bob", BANK, "BA01")).json()["account_list"][0]["account_num"]
    answer = await operator.call("alice", BANK, "BA03", account_num=bobs)
    assert (answer.status_code, answer.json()["rsp_code"]) == (404, "40402")


async def test_a_deposit_is_no_loan(operator: Operator) -> None:
    deposit = (await operator.call("alice", BANK, "BA01")).json()["account_list"][0]["account_num"]
    assert (await operator.call("alice", BANK, "BA22", account_num=deposit)).json()["rsp_code"] == "40402"


async def _pages(operator: Operator, user: str, org_code: str, code: str, **params: str) -> list[list[Any]]:
    pages: list[list[Any]] = []
    while True:
        told = (await operator.call(user, org_code, code, **params)).json()
        (rows,) = [value for name, value in told.items() if name.endswith("_list")]
        pages.append(rows)
        if "next_page" not in told:
            return pages
        params["next_page"] = told["next_page"]


async def test_many_assets_come_in_pages_without_overlap(operator: Operator) -> None:
    pages = await _pages(operator, "many-pages", BANK, "BA01", limit="500")
    assert [len(page) for page in pages] == [50, 50, 20]
    smaller = await _pages(operator, "many-pages", BANK, "BA01", limit="17")
    whole = [row["account_num"] for page in pages for row in page]
    assert whole == [row["account_num"] for page in smaller for row in page]
    assert len(set(whole)) == 120


async def test_an_asset_on_the_last_page_has_its_details(operator: Operator) -> None:
    last = (await _pages(operator, "many-pages", CARD, "CD01"))[-1][-1]
    assert (await operator.call("many-pages", CARD, "CD02", card_id=last["card_id"])).json()["rsp_code"] == "00000"


def test_the_standards_timestamps() -> None:
    assert not is_unchanged("40", "0")
    assert is_unchanged("40", "100")
    assert not is_unchanged("150", "100")
    assert is_unchanged("150", "200")


async def test_what_has_not_changed_is_not_sent_again(operator: Operator) -> None:
    first = (await operator.call("alice", BANK, "BA01", search_timestamp="0")).json()
    assert first["search_timestamp"] == "20261122120000"
    again = await operator.call("alice", BANK, "BA01", search_timestamp=first["search_timestamp"])
    assert (again.status_code, again.json()) == (200, {"rsp_code": "00001", "rsp_msg": "성공 (UP_TO_DATE)"})
    account = first["account_list"][0]["account_num"]
    detail = (await operator.call("alice", BANK, "BA03", account_num=account, search_timestamp=first["search_timestamp"])).json()
    assert detail["rsp_code"] == "00001"


def test_the_standards_periods() -> None:
    today = date(2021, 12, 1)
    assert (years_back(today, 1), years_back(today, 5)) == (date(2020, 12, 2), date(2016, 12, 2))
    assert years_back(date(2024, 2, 29), 1) == date(2023, 3, 1)


async def test_a_timestamp_is_good_until_something_moves(operator: Operator, clock: ManualClock) -> None:
    async def asked(search_timestamp: str) -> dict[str, Any]:
        return dict((await operator.call("alice", BANK, "BA01", search_timestamp=search_timestamp)).json())

    first = (await asked("0"))["search_timestamp"]
    since = People("moa", CATALOGUE).figures(BANK, "alice")
    assert (await asked(first))["rsp_code"] == "00001"
    while since.on((clock.now() + timedelta(days=1)).astimezone(KST).date()).since < first[:8]:
        clock.move(timedelta(days=1))
        assert (await asked(first))["rsp_code"] == "00001"
    clock.move(timedelta(days=1))
    second = await asked(first)
    assert (second["rsp_code"], second["search_timestamp"] > first) == ("00000", True)
    assert (await asked(second["search_timestamp"]))["rsp_code"] == "00001"


@pytest.mark.parametrize(
    ("first", "last", "api_type", "rsp_code"),
    [
        ("20251123", "20261122", "user-consent", "00000"),
        ("20251122", "20261122", "user-consent", "40004"),
        ("20211123", "20261122", "user-search", "00000"),
        ("20211122", "20261122", "user-search", "40304"),
        ("20261022", "20261122", "scheduled", "00000"),
        ("20261021", "20261122", "scheduled", "40004"),
        ("20261122", "20261101", "user-consent", "40001"),
        ("20260231", "20261101", "user-consent", "40001"),
    ],
)
async def test_a_period_has_the_bounds_of_the_standard(operator: Operator, first: str, last: str, api_type: str, rsp_code: str) -> None:
    account = (await operator.call("alice", BANK, "BA01")).json()["account_list"][0]["account_num"]
    answer = await operator.call("alice", BANK, "BA04", {"x-api-type": api_type}, account_num=account, from_date=first, to_date=last)
    assert answer.json()["rsp_code"] == rsp_code


async def test_a_scheduled_call_succeeds_once_a_week_where_the_quota_is_enforced(operator: Operator, clock: ManualClock) -> None:
    scheduled: dict[str, str | None] = {"x-api-type": "scheduled"}
    await operator.steer(BANK, enforce=["quota"])
    assert (await operator.call("alice", BANK, "BA01", scheduled)).json()["rsp_code"] == "00000"
    refused = await operator.call("alice", BANK, "BA01", scheduled)
    assert (refused.status_code, refused.json()["rsp_code"]) == (429, "42901")
    assert (await operator.call("alice", BANK, "BA01")).json()["rsp_code"] == "00000"  # a user's call
    assert (await operator.call("bob", BANK, "BA01", scheduled)).json()["rsp_code"] == "00000"
    clock.move(timedelta(days=6, hours=11, minutes=59))  # Saturday, 23:59 in KST
    assert (await operator.call("alice", BANK, "BA01", scheduled)).json()["rsp_code"] == "42901"
    clock.move(timedelta(minutes=1))
    assert (await operator.call("alice", BANK, "BA01", scheduled)).json()["rsp_code"] == "00000"


async def test_a_scheduled_call_outside_the_window_is_refused_where_it_is_enforced(operator: Operator, clock: ManualClock) -> None:
    scheduled: dict[str, str | None] = {"x-api-type": "scheduled"}
    await operator.steer(BANK, enforce=["window"])
    refused = await operator.call("alice", BANK, "BA01", scheduled)
    assert (refused.status_code, refused.json()["rsp_code"]) == (500, "50009")
    clock.move(timedelta(hours=14))  # 02:00 in KST
    assert (await operator.call("alice", BANK, "BA01", scheduled)).json()["rsp_code"] == "00000"


def test_a_window_begins_on_the_minute_and_ends_before_it() -> None:
    windows = ("0030:0530", "2230:2300")
    inside = [in_window(windows, datetime(2026, 11, 22, hour, minute, tzinfo=KST)) for hour, minute in ((0, 29), (0, 30), (5, 29), (5, 30))]
    assert inside == [False, True, True, False]
