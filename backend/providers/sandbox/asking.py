"""A provider's data APIs: who asks, whether they may, for what, and what there is to tell (standard, sections 2 to 5).

The order of the checks: endpoint, method, headers, token, consent, scope, org_code, parameters, asset, scheduled rules, timestamp.
In: one request and the behaviour of the moment. Out: an answer, or `Refusal`. Nothing here waits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from backend.clock import KST, Clock
from backend.providers.api_codes import APIS, Api, by_path
from backend.providers.contract import ApiType, Provider
from backend.providers.sandbox.bounded import Bounded
from backend.providers.sandbox.catalogue import CATALOGUE
from backend.providers.sandbox.figures import Period
from backend.providers.sandbox.people import PAGE, Asked, Detail, Fields, Holding, Listing, People, Trait, trait_of
from backend.providers.sandbox.steering import Behaviour, Rule
from backend.providers.sandbox.tokens import Grant, Kind, Tokens
from backend.providers.sandbox.wire import Answer, Request, Rsp, ok, refuse, says

VERSION = "v1"

_OPTIONAL = {"search_timestamp", "next_page", "limit", "seqno", "account_id", "client_id"}
_ASSET_PARAMS = ("account_num", "seqno", "pp_id", "insu_num", "fob_id", "sub_key", "mgmt_id")
_SHAPES = {
    "search_timestamp": re.compile(r"0|[0-9]{14}"),
    "limit": re.compile(r"[1-9][0-9]?|[1-4][0-9]{2}|500"),
    "next_page": re.compile(r"n[0-9a-f]{1,8}"),
    **dict.fromkeys(("from_date", "to_date"), re.compile(r"[0-9]{8}")),
    **dict.fromkeys(("from_month", "to_month", "charge_month"), re.compile(r"[0-9]{4}(0[1-9]|1[0-2])")),
}
_THREE_MONTHS = frozenset(("BA23", "IS06", "IS07", "IS14", "CP04", "CP06"))  # beside the calls that ask for months
_API_TYPES = frozenset(ApiType)
_QUOTA_ENTRIES = 500_000


def endpoint(provider: Provider, request: Request) -> Api:
    """Which API a request means. Raises 40303, 40003, 40401, 40501."""
    parts = request.path.split("/", 3)  # "", version, industry, resource; of CM01: "", industry, "apis"
    if parts[1:] == [provider.industry, "apis"]:
        found = by_path(provider.industry, "/apis")
    elif len(parts) < 4 or parts[2] != provider.industry or parts[3] == "apis":
        raise refuse(Rsp.NO_ENDPOINT)
    elif parts[1] != VERSION:
        raise refuse(Rsp.BAD_VERSION if re.fullmatch(r"v[0-9]+", parts[1]) else Rsp.NO_ENDPOINT)
    else:
        found = by_path(provider.industry, f"/{parts[3]}")
    if not found:
        raise refuse(Rsp.NO_ENDPOINT)
    if request.method not in found:
        raise refuse(Rsp.WRONG_METHOD)
    return found[request.method]


def is_unchanged(modified: str, search_timestamp: str) -> bool:
    """Whether there is nothing newer than what the operator has (standard, sections 3 and 9). Both N(14), or "0"."""
    return int(modified) <= int(search_timestamp)


@dataclass(kw_only=True, eq=False)
class DataApis:
    """One provider's data."""

    provider: Provider
    people: People
    tokens: Tokens
    clock: Clock
    _sent: Bounded[tuple[str, ...], None] = field(default_factory=lambda: Bounded(_QUOTA_ENTRIES))  # scheduled calls, by week

    def answer(self, request: Request, behaviour: Behaviour) -> Answer:
        """Carries a request out. Raises `Refusal`."""
        api = endpoint(self.provider, request)
        request.check_tran_id()
        now = self.clock.now().astimezone(KST)
        if api.code == "CM01":
            self._check_params(api, request.params())
            return ok(self._own_apis())
        if request.api_type not in _API_TYPES:
            raise refuse(Rsp.BAD_HEADER, "x-api-type")
        grant = self._check_grant(request, api, now)
        params = request.params()
        self._check_params(api, params)
        if api.code == "CM02":
            return ok(dict(grant.consent))
        return self._tell(api, request, params, behaviour, grant.user, now)

    def forget_calls(self) -> None:
        """The quota of scheduled calls is unused again."""
        self._sent.clear()

    def _own_apis(self) -> Fields:
        own = [api for api in APIS if api.industry == self.provider.industry]
        uris = [{"api_code": api.code, "api_uri": f"/{VERSION}/{api.industry}{api.path}"} for api in own if api.code != "CM01"]
        return {"version": VERSION, "min_version": VERSION, "api_cnt": str(len(uris)), "api_list": uris}

    def _check_grant(self, request: Request, api: Api, now: datetime) -> Grant:
        grant = self.tokens.read(request.bearer or "")
        if grant is None or grant.kind is not Kind.ACCESS or grant.org_code != self.provider.org_code:
            raise refuse(Rsp.INVALID_TOKEN)
        request.user = grant.user
        if not self.tokens.is_live(grant, now):
            raise refuse(Rsp.INVALID_TOKEN)
        if grant.consent["end_date"] < f"{now:%Y%m%d}" or trait_of(grant.user) is Trait.CONSENT_EXPIRED:
            raise refuse(Rsp.CONSENT_ENDED)
        if api.scope and api.scope not in grant.scope.split(" "):
            raise refuse(Rsp.NO_SCOPE)
        return grant

    def _check_params(self, api: Api, params: dict[str, str]) -> None:
        if "org_code" not in params:
            raise refuse(Rsp.BAD_PARAMETER, "org_code")
        if params["org_code"] != self.provider.org_code:
            raise refuse(Rsp.UNKNOWN_ORG_CODE)
        for name in api.params:
            value = params.get(name)
            if not value and (value is not None or name not in _OPTIONAL):
                raise refuse(Rsp.BAD_PARAMETER, name)
            if value and name in _SHAPES and not _SHAPES[name].fullmatch(value):
                raise refuse(Rsp.BAD_PARAMETER, name)

    def _tell(self, api: Api, request: Request, params: dict[str, str], behaviour: Behaviour, user: str, now: datetime) -> Answer:
        resource = CATALOGUE[self.provider.industry][api.code]
        if isinstance(resource, Listing):
            rows = [{**each.ref, **each.entry} for each in self._others(user, api.code)]
            about = self.people.person(self.provider.org_code, user).on(now.date())
        else:
            about, rows = self._asset(resource, request, params, user).on(now.date()), []
        self._check_schedule(request, params, behaviour, (user, api.code, *about.ref.values()), now)
        if "next_page" not in params and is_unchanged(f"{about.figures.since}000000", params.get("search_timestamp", "0")):
            return says(Rsp.UP_TO_DATE)
        body: Fields = {"search_timestamp": f"{now:%Y%m%d%H%M%S}"} if api.is_timestamped and "next_page" not in params else {}
        if isinstance(resource, Listing):
            if resource.has_reg_date:
                body["reg_date"] = about.figures.day("registered", 2018, 2024)
            return ok(body | _page(api, resource.stem, rows, params))
        period = _period(api, params, ApiType(request.api_type or ""), now)
        asked = Asked(about, params, period, lambda code: self._others(user, code))
        told = resource.tell(asked)
        if isinstance(told, dict):
            return ok(body | told)
        return ok(body | resource.head(asked) | _page(api, resource.stem, told, params))

    def _others(self, user: str, code: str) -> tuple[Holding, ...]:
        return self.people.holdings(self.provider.industry, self.provider.org_code, user, code)

    def _asset(self, resource: Detail, request: Request, params: dict[str, str], user: str) -> Holding:
        """The asset that a call is about. Raises 40402, 40305."""
        if resource.of is None:
            return self.people.person(self.provider.org_code, user)
        named = {name: params[name] for name in _ASSET_PARAMS if name in params}
        if request.path.startswith(f"/{VERSION}/card/cards/"):
            named = {"card_id": request.path.split("/")[4]}
        for holding in self._others(user, resource.of):
            if all(holding.ref.get(name) == value for name, value in named.items()):
                break
        else:
            raise refuse(Rsp.UNKNOWN_ASSET)
        as_loan = holding.is_minus and resource.kinds == "3" and not request.path.endswith("/transactions")
        if not holding.kind.startswith(resource.kinds) and not as_loan:
            raise refuse(Rsp.UNKNOWN_ASSET)
        if holding.is_closed:
            raise refuse(Rsp.ASSET_NOT_NORMAL)
        return holding

    def _check_schedule(self, request: Request, params: dict[str, str], behaviour: Behaviour, call: tuple[str, ...], now: datetime) -> None:
        """The rules for scheduled calls, where they are enforced. Raises 50009, 42901."""
        if not behaviour.enforce or request.api_type != ApiType.SCHEDULED:
            return
        if Rule.WINDOW in behaviour.enforce and not in_window(self.provider.transfer_windows, now):
            raise refuse(Rsp.OUT_OF_WINDOW)
        if Rule.QUOTA in behaviour.enforce and "next_page" not in params:  # pages count as one call
            sunday = now.date() - timedelta(days=now.isoweekday() % 7)
            key = (sunday.isoformat(), *call)
            if key in self._sent:
                raise refuse(Rsp.QUOTA)
            self._sent[key] = None


def in_window(windows: tuple[str, ...], now: datetime) -> bool:
    """Whether a moment in KST is inside np_time ("hhmm:hhmm", the end excluded)."""
    clock = f"{now:%H%M}"
    return not windows or any(start <= clock < end for start, end in (window.split(":") for window in windows))


def _page(api: Api, stem: str, rows: list[Fields], params: dict[str, str]) -> Fields:
    """One page of the rows; a list without paging is whole."""
    start, size = 0, len(rows)
    if api.is_paged:
        start, size = int(params.get("next_page", "n0")[1:], 16), min(int(params.get("limit", PAGE)), PAGE)
    if start > len(rows):
        raise refuse(Rsp.BAD_PARAMETER, "next_page")
    page = rows[start : start + size]
    following = {"next_page": f"n{start + size:x}"} if start + size < len(rows) else {}
    return {**following, f"{stem}_cnt": str(len(page)), f"{stem}_list": page}


def _period(api: Api, params: dict[str, str], api_type: ApiType, now: datetime) -> Period:
    """The days that are asked for. Raises 40001, 40004, 40304."""
    first, last = params.get("from_date"), params.get("to_date")
    if "from_month" in params:
        first, last = f"{params['from_month']}01", f"{params['to_month']}28"
    if first is None or last is None:
        return Period(now.date(), now.date())
    try:
        period = Period(date.fromisoformat(first), date.fromisoformat(last))
    except ValueError:
        raise refuse(Rsp.BAD_PARAMETER, "period") from None
    if period.first > period.last:
        raise refuse(Rsp.BAD_PARAMETER, "period")
    if period.first < years_back(now.date(), 5):
        raise refuse(Rsp.OLDER_THAN_FIVE_YEARS)
    if period.first < _earliest(api, api_type, period.last):
        raise refuse(Rsp.PERIOD_TOO_LONG)
    return Period(period.first, min(period.last, now.date()))


def years_back(day: date, years: int) -> date:
    """The first of the days that make up so many years (standard, section 9: twelve months back of 20211201 begin on 20201202)."""
    return date(day.year - years, day.month, min(day.day, 28) if day.month == 2 else day.day) + timedelta(days=1)


def _earliest(api: Api, api_type: ApiType, last: date) -> date:
    """Where a period that ends on this day may begin (standard, section 7)."""
    if api_type is ApiType.SCHEDULED:
        return last - timedelta(days=93 if api.code in _THREE_MONTHS or "from_month" in api.params else 31)
    return years_back(last, 5 if api_type is ApiType.USER_SEARCH else 1)
