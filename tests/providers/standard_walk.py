"""What a provider holds, read by the letter of the standard with nothing but HTTP: raw answers by asset, to compare ours with.

It shares no line with the code that it examines: paths and lists are written out here, values stay the strings that they are on the wire.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from backend.events import Industry

Row = dict[str, Any]


@dataclass(frozen=True)
class About:
    """A call about one asset, and which rows of the list it knows."""

    path: str
    knows: Callable[[Row], bool] = lambda _: True
    is_get: bool = False


@dataclass(frozen=True)
class Assets:
    """A list, and what can be asked about each of its rows."""

    path: str
    rows: str
    key: str  # how we name the asset; the row's words
    named: tuple[str, ...] = ()
    about: tuple[About, ...] = ()


def _kind(*kinds: str) -> Callable[[Row], bool]:
    return lambda row: (
        row.get("account_type", row.get("insu_type", "")).startswith(kinds) or (row.get("is_minus") == "true" and "3" in kinds)
    )


_IRP = Assets("/irps", "irp_list", "irp:{account_num}", ("account_num",), (About("/irps/basic"), About("/irps/detail")))

HELD: dict[Industry, tuple[Assets, ...]] = {
    Industry.BANK: (
        Assets(
            "/accounts",
            "account_list",
            "account:{account_num}:{seqno}",
            ("account_num", "seqno"),
            (
                *(About(f"/accounts/deposit/{each}", _kind("1")) for each in ("basic", "detail")),
                *(About(f"/accounts/invest/{each}", _kind("2")) for each in ("basic", "detail")),
                *(About(f"/accounts/loan/{each}", _kind("3")) for each in ("basic", "detail")),
            ),
        ),
        _IRP,
    ),
    Industry.CARD: (
        Assets("/cards", "card_list", "card:{card_id}", ("card_id",), (About("/cards/{card_id}", is_get=True),)),
        Assets("/points", "point_list", "point:{point_name}"),
        Assets("/loans/short-term", "short_term_list", "short:{loan_dtime}"),
        Assets("/loans/long-term", "long_term_list", "long:{loan_num}"),
        Assets("/prepaid", "pp_list", "prepaid:{pp_id}", ("pp_id",), (About("/prepaid/balance"),)),
        Assets("/payments", "pay_list", "bill"),
        Assets("/bills", "bill_list", "bill"),
        Assets("/payments/revolving", "revolving_list", "bill"),
    ),
    Industry.INVEST: (
        Assets(
            "/accounts",
            "account_list",
            "account:{account_num}",
            ("account_num",),
            (About("/accounts/basic"), About("/accounts/products"), About("/accounts/pension", _kind("105"))),
        ),
        _IRP,
    ),
    Industry.INSU: (
        Assets(
            "/insurances",
            "insu_list",
            "insurance:{insu_num}",
            ("insu_num",),
            (
                *(About(f"/insurances/{each}") for each in ("basic", "contracts", "payment", "coverages")),
                About("/insurances/car", _kind("15")),
            ),
        ),
        Assets("/loans", "loan_list", "account:{account_num}:{seqno}", ("account_num",), (About("/loans/basic"), About("/loans/detail"))),
        _IRP,
    ),
    Industry.EFIN: (
        Assets(
            "/prepaid",
            "fob_list",
            "prepaid:{fob_id}:{account_id}",
            ("fob_id", "account_id"),
            (About("/prepaid/balance"), About("/prepaid/charge")),
        ),
        Assets("/paid", "account_list", "paid:{sub_key}", ("sub_key",), (About("/paid/methods"),)),
    ),
    Industry.CAPITAL: (
        Assets(
            "/loans",
            "account_list",
            "account:{account_num}:{seqno}",
            ("account_num", "seqno"),
            (*(About(f"/loans/{each}", _kind("31")) for each in ("basic", "detail")), About("/loans/oplease/basic", _kind("3710"))),
        ),
    ),
    Industry.TELECOM: (Assets("/telecoms", "telecom_list", "telecom:{mgmt_id}", ("mgmt_id",), (About("/telecoms/bills"),)),),
}


class Walk:
    """One person at one provider."""

    def __init__(self, http: httpx.AsyncClient, org_code: str, industry: Industry, token: str, months: tuple[str, str]) -> None:
        self._http = http
        self._org_code = org_code
        self._base = f"/{org_code}/v1/{industry}"
        self._held = HELD[industry]
        self._token = token
        self._months = {"from_month": months[0], "to_month": months[1]}
        self._serials = itertools.count()

    async def everything(self) -> dict[str, list[Row]]:
        """Every answer about every asset, by the key that we give it; a list's row comes first."""
        told: dict[str, list[Row]] = {}
        for assets in self._held:
            params = self._months if assets.path == "/bills" else {}
            async for page in self._pages(assets.path, params, is_get=True):
                for row in page[assets.rows]:
                    words = {"seqno": "", **row, **(row.get("account_list") or [{}])[0]}
                    answers = told.setdefault(assets.key.format_map(words), [])
                    answers.append(row)
                    answers += await self._details(assets, words)
        return told

    async def _details(self, assets: Assets, words: Row) -> list[Row]:
        named = {name: words[name] for name in assets.named if words[name]}
        answers = []
        for about in assets.about:
            if not about.knows(words):
                continue
            params = {} if about.is_get else dict(named)
            if about.path == "/insurances/contracts":
                params["insured_no"] = "01"
            if about.path == "/telecoms/bills":
                params |= self._months
            answers += [page async for page in self._pages(about.path.format_map(words), params, is_get=about.is_get)]
        return answers

    async def _pages(self, path: str, params: dict[str, str], *, is_get: bool) -> AsyncIterator[Row]:
        sent = {"org_code": self._org_code, **params}
        headers = {
            "authorization": f"Bearer {self._token}",
            "x-api-type": "user-search",
            "x-api-tran-id": f"ZVMOA00000M{next(self._serials):014}",
        }
        while True:
            if is_get:
                answer = await self._http.get(self._base + path, params=sent, headers=headers)
            else:
                answer = await self._http.post(self._base + path, json=sent, headers=headers)
            page: Row = answer.json()
            assert page["rsp_code"] == "00000", (path, page)
            yield page
            if "next_page" not in page:
                return
            sent["next_page"] = page["next_page"]
