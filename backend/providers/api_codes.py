"""The one table of the standard's data APIs: (industry, method, path) to code, class, scope and parameters. RULE: pure.

Code, sandbox, metrics and documents name a call by its API code (BA01 … TC04, CM01, CM02; standard, section 4, first attachment).
Paths are what follows `<base path>/<version>/<industry>`; a `{card_id}` in a path is one segment. No addresses, no bodies here.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from backend.events import Industry


class ApiClass(StrEnum):
    """기본 or 추가; scheduled calls of both go once a week (standard, section 7)."""

    BASIC = "basic"
    ADDITIONAL = "additional"


class Api(Struct, frozen=True):
    """One data API. Every one also takes `org_code`; all but CM01 want a token whose scope holds `scope`."""

    code: str
    industry: Industry
    method: str
    path: str
    api_class: ApiClass
    scope: str  # "": no scope is asked for
    params: tuple[str, ...]  # beyond org_code and what the path names, in the standard's order

    @property
    def is_timestamped(self) -> bool:
        """Whether `search_timestamp` may be sent, and 00001 UP_TO_DATE be answered."""
        return "search_timestamp" in self.params

    @property
    def is_paged(self) -> bool:
        """Whether `next_page` and `limit` may be sent."""
        return "limit" in self.params


_TS = "search_timestamp"
_PG = "next_page,limit"
_DAYS = "from_date,to_date"
_MONTHS = "from_month,to_month"
_ACCOUNT = "account_num,seqno"

# code, method, path, class (기 basic / 추 additional), scope without the industry, parameters
_Row = tuple[str, str, str, str, str, str]

_IRP: tuple[_Row, ...] = (
    ("IR01", "GET", "/irps", "기", "list", _TS),
    ("IR02", "POST", "/irps/basic", "기", "irp", f"account_num,{_TS}"),
    ("IR03", "POST", "/irps/detail", "추", "irp", f"account_num,{_TS},{_PG}"),
    ("IR04", "POST", "/irps/transactions", "추", "irp", f"account_num,{_DAYS},{_PG}"),
)

_COMMON: tuple[_Row, ...] = (
    ("CM01", "GET", "/apis", "기", "", "client_id"),  # no token, no version in its URI
    ("CM02", "GET", "/consents", "기", "", ""),
)

_ROWS: dict[Industry, tuple[_Row, ...]] = {
    Industry.BANK: (
        ("BA01", "GET", "/accounts", "기", "list", f"{_TS},{_PG}"),
        ("BA02", "POST", "/accounts/deposit/basic", "기", "deposit", f"{_ACCOUNT},{_TS}"),
        ("BA03", "POST", "/accounts/deposit/detail", "추", "deposit", f"{_ACCOUNT},{_TS}"),
        ("BA04", "POST", "/accounts/deposit/transactions", "추", "deposit", f"{_ACCOUNT},{_DAYS},{_PG}"),
        ("BA11", "POST", "/accounts/invest/basic", "기", "invest", f"{_ACCOUNT},{_TS}"),
        ("BA12", "POST", "/accounts/invest/detail", "추", "invest", f"{_ACCOUNT},{_TS}"),
        ("BA13", "POST", "/accounts/invest/transactions", "추", "invest", f"{_ACCOUNT},{_DAYS},{_PG}"),
        ("BA21", "POST", "/accounts/loan/basic", "기", "loan", f"{_ACCOUNT},{_TS}"),
        ("BA22", "POST", "/accounts/loan/detail", "추", "loan", f"{_ACCOUNT},{_TS}"),
        ("BA23", "POST", "/accounts/loan/transactions", "추", "loan", f"{_ACCOUNT},{_DAYS},{_PG}"),
        *_IRP,
    ),
    Industry.CARD: (
        ("CD01", "GET", "/cards", "기", "list", f"{_TS},{_PG}"),
        ("CD02", "GET", "/cards/{card_id}", "기", "card", _TS),
        ("CD03", "GET", "/cards/{card_id}/approval-domestic", "추", "card", f"{_DAYS},{_PG}"),
        ("CD04", "GET", "/cards/{card_id}/approval-overseas", "추", "card", f"{_DAYS},{_PG}"),
        ("CD11", "GET", "/points", "추", "point", _TS),
        ("CD21", "GET", "/bills", "기", "bill", f"{_MONTHS},{_PG}"),
        ("CD22", "GET", "/bills/detail", "기", "bill", f"seqno,charge_month,{_PG}"),
        ("CD23", "GET", "/payments", "추", "bill", _TS),
        ("CD24", "GET", "/payments/revolving", "추", "bill", _TS),
        ("CD31", "GET", "/loans", "기", "loan", _TS),
        ("CD32", "GET", "/loans/short-term", "추", "loan", _TS),
        ("CD33", "GET", "/loans/long-term", "추", "loan", _TS),
        ("PP01", "GET", "/prepaid", "기", "prepaid", f"{_TS},{_PG}"),
        ("PP02", "POST", "/prepaid/balance", "추", "prepaid", f"pp_id,{_TS}"),
        ("PP03", "POST", "/prepaid/transactions", "추", "prepaid", f"pp_id,{_DAYS},{_PG}"),
        ("PP04", "POST", "/prepaid/approval", "추", "prepaid", f"pp_id,{_DAYS},{_PG}"),
    ),
    Industry.INVEST: (
        ("IV01", "GET", "/accounts", "기", "list", f"{_TS},{_PG}"),
        ("IV02", "POST", "/accounts/basic", "추", "account", f"account_num,{_TS}"),
        ("IV03", "POST", "/accounts/transactions", "추", "account", f"account_num,{_DAYS},{_PG}"),
        ("IV04", "POST", "/accounts/products", "추", "account", f"account_num,{_TS},{_PG}"),
        ("IV05", "POST", "/accounts/pension", "추", "account", f"account_num,{_TS}"),  # the standard's text names no code: ours
        *_IRP,
    ),
    Industry.INSU: (
        ("IS01", "GET", "/insurances", "기", "list", f"{_TS},{_PG}"),
        ("IS02", "POST", "/insurances/basic", "기", "insurance", f"insu_num,{_TS}"),
        ("IS03", "POST", "/insurances/contracts", "기", "insurance", f"insu_num,insured_no,{_TS}"),
        ("IS04", "POST", "/insurances/car", "기", "insurance", f"insu_num,{_TS}"),
        ("IS05", "POST", "/insurances/payment", "기", "insurance", f"insu_num,{_TS}"),
        ("IS06", "POST", "/insurances/transactions", "추", "insurance", f"insu_num,{_DAYS},{_PG}"),
        ("IS07", "POST", "/insurances/car/transactions", "추", "insurance", f"insu_num,car_number,{_DAYS},{_PG}"),
        ("IS08", "POST", "/insurances/coverages", "추", "insurance", f"insu_num,{_TS}"),
        ("IS11", "GET", "/loans", "기", "list", f"{_TS},{_PG}"),
        ("IS12", "POST", "/loans/basic", "기", "loan", f"account_num,{_TS}"),
        ("IS13", "POST", "/loans/detail", "추", "loan", f"account_num,{_TS}"),
        ("IS14", "POST", "/loans/transactions", "추", "loan", f"account_num,{_DAYS},{_PG}"),
        *_IRP,
    ),
    Industry.EFIN: (
        ("EF01", "GET", "/prepaid", "기", "list", f"{_TS},{_PG}"),
        ("EF02", "POST", "/prepaid/balance", "추", "prepaid", f"fob_id,account_id,{_TS}"),
        ("EF03", "POST", "/prepaid/charge", "기", "prepaid", f"fob_id,account_id,{_TS}"),
        ("EF04", "POST", "/prepaid/transactions", "추", "prepaid", f"fob_id,account_id,{_DAYS},{_PG}"),
        ("EF11", "GET", "/paid", "기", "list", f"{_TS},{_PG}"),
        ("EF12", "POST", "/paid/methods", "기", "paid", f"sub_key,{_TS}"),
        ("EF13", "POST", "/paid/transactions", "추", "paid", f"sub_key,{_DAYS},{_PG}"),
    ),
    Industry.CAPITAL: (
        ("CP01", "GET", "/loans", "기", "list", f"{_TS},{_PG}"),
        ("CP02", "POST", "/loans/basic", "기", "loan", f"{_ACCOUNT},{_TS}"),
        ("CP03", "POST", "/loans/detail", "추", "loan", f"{_ACCOUNT},{_TS}"),
        ("CP04", "POST", "/loans/transactions", "추", "loan", f"{_ACCOUNT},{_DAYS},{_PG}"),
        ("CP05", "POST", "/loans/oplease/basic", "기", "loan", f"{_ACCOUNT},{_TS}"),
        ("CP06", "POST", "/loans/oplease/transactions", "추", "loan", f"{_ACCOUNT},{_DAYS},{_PG}"),
    ),
    Industry.TELECOM: (
        ("TC01", "GET", "/telecoms", "기", "list", f"{_TS},{_PG}"),
        ("TC02", "POST", "/telecoms/bills", "추", "mgmt", f"mgmt_id,{_MONTHS}"),
        ("TC03", "POST", "/telecoms/transactions", "추", "mgmt", f"mgmt_id,{_MONTHS}"),
        ("TC04", "POST", "/telecoms/paid-transactions", "추", "mgmt", f"mgmt_id,{_DAYS},{_PG}"),
    ),
}

# The scope of one consent for everything (MyData 2.0: one signature, all assets; standard, section 6).
FULL_SCOPES: dict[Industry, str] = {
    Industry.BANK: "bank.list bank.deposit bank.invest bank.loan bank.irp",
    Industry.CARD: "card.list card.card card.prepaid card.point card.bill card.loan",
    Industry.INVEST: "invest.list invest.account invest.irp",
    Industry.INSU: "insu.list insu.insurance insu.loan insu.irp",
    Industry.EFIN: "efin.list efin.prepaid efin.paid",
    Industry.CAPITAL: "capital.list capital.loan",
    Industry.TELECOM: "telecom.list telecom.mgmt",
}


def _api(industry: Industry, row: _Row) -> Api:
    code, method, path, api_class, scope, params = row
    return Api(
        code,
        industry,
        method,
        path,
        ApiClass.BASIC if api_class == "기" else ApiClass.ADDITIONAL,
        f"{industry}.{scope}" if scope else "",
        tuple(filter(None, params.split(","))),
    )


APIS: tuple[Api, ...] = tuple(_api(industry, row) for industry, rows in _ROWS.items() for row in (*_COMMON, *rows))

_BY_CODE = {(api.industry, api.code): api for api in APIS}
_BY_PATH: dict[tuple[str, str], dict[str, Api]] = {}
for _each in APIS:
    _BY_PATH.setdefault((_each.industry, _each.path), {})[_each.method] = _each


def by_code(industry: Industry, code: str) -> Api:
    """The API of that code (IR01 … IR04, CM01 and CM02 are in several industries). Raises KeyError."""
    return _BY_CODE[industry, code]


def by_path(industry: str, path: str) -> dict[str, Api]:
    """The APIs under a path (`/accounts`, `/cards/1234`), by method; empty: the standard has no such path."""
    found = _BY_PATH.get((industry, path))
    if found is None and path.startswith("/cards/"):
        card_id, _, rest = path.removeprefix("/cards/").partition("/")
        if card_id:
            found = _BY_PATH.get((industry, "/cards/{card_id}" + (f"/{rest}" if rest else "")))
    return found or {}
