"""What to read at a provider, as values: listings, the assets found in them, the details that each asset still wants. RULE: pure.

An industry module says *what* (`Listing`, `Found`, `Detail`); `gathering.py` decides *when*; this module writes the `Call` for either.
A list that has not changed since its `search_timestamp` is answered 00001, without a body, and nothing under it is read again.
A call carries only what the API code's row in `api_codes.py` names, so a parameter that the standard does not know is never sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import orjson
from msgspec.structs import replace

from backend.events import AssetKind
from backend.providers.api_codes import Api, by_code
from backend.providers.calls import ACCEPTED, READ_ACCEPTED, Call, Scope
from backend.providers.contract import NEVER_READ, ApiType, CollectedAsset, CollectedBalance, Provider, Timestamps
from backend.providers.outcomes import RspCode
from backend.providers.payloads import Page, decode
from backend.providers.traffic import PROBES

PAGE_LIMIT = 500
MONTHS_BACK = 2  # and the present one: three, the most that a scheduled call may ask for (standard, section 7)

P = TypeVar("P", bound=Page)


def _nothing_more(_page: Page) -> tuple[()]:
    return ()


@dataclass(frozen=True, repr=False)
class Detail(Generic[P]):
    """One call about one asset. `named` names the asset to the provider."""

    api_code: str
    named: Mapping[str, str]
    answer: type[P]
    add: Callable[[CollectedAsset, P], CollectedAsset]  # the asset with what one answer adds to it
    then: Callable[[P], Iterable[Detail[Any]]] = _nothing_more  # what one answer says there is to ask about the same asset


@dataclass(frozen=True, repr=False)
class Found:
    """An asset as its list shows it."""

    asset: CollectedAsset
    details: tuple[Detail[Any], ...] = ()


@dataclass(frozen=True)
class Listing(Generic[P]):
    """One list of assets; pages come one after the other."""

    api_code: str
    answer: type[P]
    found: Callable[[P], Iterable[Found]]
    then: Callable[[P], Iterable[Listing[Any]]] = _nothing_more  # further lists that an answer speaks of
    optional: bool = False  # a provider may not offer it: then there is nothing of the kind
    kinds: frozenset[AssetKind] = frozenset()  # of what it may list; of one kind, what no list names any more has gone


@dataclass(frozen=True, kw_only=True, repr=False)
class Asking:
    """Who asks whom, on whose behalf, on which day in Korea."""

    provider: Provider
    token: str
    api_type: ApiType
    today: date
    timestamps: Timestamps = field(default_factory=Timestamps)
    user: str | None = None  # `Call.user`

    def call(self, want: Listing[P] | Detail[P], next_page: str | None = None) -> Call[P | None]:
        """The call for one page. Its answer is None when there is nothing new (00001) since the timestamp that it carries."""
        api = by_code(self.provider.industry, want.api_code)
        named = want.named if isinstance(want, Detail) else {}
        timestamp = self.timestamps.of(api.code) if isinstance(want, Listing) else NEVER_READ
        params = parameters(api, named, self.provider.org_code, self.today, next_page, timestamp)
        is_get = api.method == "GET"
        may_be_known = params.get("search_timestamp", NEVER_READ) != NEVER_READ  # else everything was asked for
        return Call(
            api_code=api.code,
            scope=Scope.READ,
            method=api.method,
            path=f"/{self.provider.api_version}/{api.industry}{_path(api.path, named)}",
            read=lambda code, body: None if code == RspCode.UP_TO_DATE else decode(want.answer, body),
            accepts=READ_ACCEPTED if may_be_known else ACCEPTED,
            query=params if is_get else {},
            body=None if is_get else orjson.dumps(params),
            token=self.token,
            api_type=self.api_type,
            user=self.user,
            repeatable=True,
        )


def apis_call(provider: Provider, client_id: str, scope: Scope) -> Call[None]:
    """CM01, which APIs there are: it needs no token and no person, and its path has no version, so it is what a probe asks first.

    `scope`: of the circuit that it is asked for.
    """
    return Call(
        api_code=PROBES,
        scope=scope,
        method="GET",
        path=f"/{provider.industry}/apis",
        read=lambda _code, _body: None,
        query={"org_code": provider.org_code, "client_id": client_id},
        repeatable=True,
    )


def parameters(
    api: Api, named: Mapping[str, str], org_code: str, today: date, next_page: str | None, timestamp: str = NEVER_READ
) -> dict[str, str]:
    """What the call carries, in the standard's order. The timestamp goes with the first page only."""
    known = {**named, "to_month": _month(today, 0), "from_month": _month(today, MONTHS_BACK), "limit": str(PAGE_LIMIT)}
    if next_page is None:
        known["search_timestamp"] = timestamp
    else:
        known["next_page"] = next_page
    return {"org_code": org_code, **{name: known[name] for name in api.params if name in known}}


def with_more(asset: CollectedAsset, details: dict[str, Any], balance: CollectedBalance | None = None) -> CollectedAsset:
    """The asset with more details, and a balance if there is one."""
    return replace(asset, details={**asset.details, **details}, balance=balance or asset.balance)


def _path(path: str, named: Mapping[str, str]) -> str:
    return path.replace("{card_id}", quote(named.get("card_id", ""), safe=""))


def _month(today: date, back: int) -> str:
    year, month = divmod(today.year * 12 + today.month - 1 - back, 12)
    return f"{year:04d}{month + 1:02d}"
