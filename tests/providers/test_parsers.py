"""Whatever a provider or the CA answers, to whatever call: a value or one of our errors, never another exception.

The clients are the real ones; only the wire is replaced, by answers that are nearly what the standard describes, or nothing like it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import date
from types import ModuleType
from typing import Any, TypeVar, cast, get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import fields

from backend.clock import ManualClock
from backend.errors import ProviderError
from backend.events import Industry
from backend.providers import ca, outcomes, tokens
from backend.providers.ca import HttpCaClient
from backend.providers.calling.transport import Transport
from backend.providers.calls import Call
from backend.providers.client import HttpProviderClient
from backend.providers.contract import ApiType, CollectedAsset, SignatureRequest, SignedConsent, Timestamps, TokenPair
from backend.providers.ids import Serials
from backend.providers.industries import bank, capital, card, efin, insu, invest, irp, loans, prepaid, telecom
from backend.providers.outcomes import Failure, RspCode
from backend.providers.payloads import Amount, Count, Day, Malformed, Moment, Page, code_of
from backend.providers.tokens import Credentials
from backend.registration.asset_ids import asset_of
from backend.settings import Settings
from tests.providers.given import BANK, NOW, authority, person, provider

T = TypeVar("T")

MODULES = (bank, capital, card, efin, insu, invest, irp, loans, prepaid, telecom, tokens, ca)
GOOD: dict[Any, str] = {Amount: "12.50", Day: "20260101", Moment: "20260101093000", Count: "3", bool: "true"}
NAMED = {
    "account_type": "3100",
    "insu_type": "15",
    "currency_code": "KRW",
    "charge_month": "202610",
    "search_timestamp": "20261122000000",
    "token_type": "Bearer",
    "sign_web_url": "https://ca.example/sign",
    **dict.fromkeys(("sign_ios_app_scheme_url", "sign_aos_app_scheme_url"), "moa://sign"),
}
ODD = (None, 7, 1.5, True, [], {}, [[]], "", "0", "-5.5", "1e9", "NaN", "가", "..", "a\0b", "x" * 600, "99999999", "20260230")
TYPES = ("1001", "2001", "3710", "105", "USD", "202613", "false")


def structs(module: ModuleType) -> Iterator[type[Struct]]:
    """The answers that a module reads, and their rows."""
    for kind in vars(module).values():
        if inspect.isclass(kind) and issubclass(kind, Struct) and kind.__module__ == module.__name__:
            yield kind


def _type_of(annotation: Any) -> Any:
    """What is behind `| None` and `Annotated`."""
    inner = [each for each in get_args(annotation) if each is not type(None)]
    return _type_of(inner[0]) if inner and annotation not in GOOD and "tuple" not in str(annotation) else annotation


FIELDS = {field.name: _type_of(field.type) for module in MODULES for kind in structs(module) for field in fields(kind)}
LISTS = sorted(name for name, kind in FIELDS.items() if "tuple" in str(kind))
WORDS = {name: NAMED.get(name, GOOD.get(kind, "a1")) for name, kind in FIELDS.items() if name not in (*LISTS, "next_page", "error")}


def body_of(changed: dict[str, object], rows: int, code: str) -> bytes:
    """One body that is every answer at once: each reads the fields that it knows."""
    row = {**WORDS, **changed}
    row["account_list"] = [{**row, "account_id": changed.get("account_id", "a1")}]
    return orjson.dumps({**row, **{name: [row] * rows for name in LISTS}, "rsp_code": code})


changes = st.dictionaries(st.sampled_from(sorted(FIELDS)), st.sampled_from((*ODD, *TYPES)), max_size=2)
codes = st.sampled_from(["00000", "00000", "00001", "40101", "40305", "40402", "50008", "10001", "12345"])
nearly = st.one_of(
    st.builds(body_of, st.just({}), st.integers(1, 3), st.just("00000")),
    st.builds(body_of, changes, st.integers(0, 3), st.just("00000")),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10) | st.sampled_from(sorted(FIELDS)), inner, max_size=3),
    max_leaves=8,
)
anything = st.one_of(st.builds(body_of, changes, st.integers(0, 3), codes), st.binary(max_size=60), json_values.map(orjson.dumps))
answers = st.one_of(  # mostly good ones: a collection ends with the first that is not
    *[st.tuples(st.just(200), nearly)] * 9, st.tuples(st.sampled_from([200, 200, 400, 401, 403, 404, 429, 500, 503, 302]), anything)
)


class Fed:
    """A transport whose every answer is drawn."""

    def __init__(self, draw: Callable[[], tuple[int, bytes]]) -> None:
        self._draw = draw
        self._left = 40

    async def call(self, call: Call[T], *, within: float | None = None) -> T:
        self._left -= 1
        if self._left < 0:
            raise outcomes.failed(BANK, Failure.DEADLINE)
        status, body = self._draw()
        code = code_of(body)
        finding = outcomes.of_answer(status, code, call.accepts)
        if finding is not None:
            raise outcomes.error_of(BANK, finding)
        try:
            return call.read(code, body)
        except Malformed:
            raise outcomes.failed(BANK, Failure.MALFORMED) from None


def run(deed: Awaitable[T]) -> T | None:
    """None: one of our errors."""

    async def done() -> T | None:
        with suppress(ProviderError):
            return await deed
        return None

    return asyncio.run(done())


def fed(data: st.DataObject) -> Transport:
    return cast("Transport", Fed(lambda: data.draw(answers)))


def check(asset: CollectedAsset) -> None:
    """What is stored and shown must be JSON, without what PostgreSQL does not take."""
    told = orjson.dumps([asset.name, asset.number_masked, asset.status, asset.details])
    assert b"\\u0000" not in told
    assert asset.balance is None or asset.balance.amount.is_finite()
    assert asset_of(b"s", "u", provider(), asset, NOW).id.startswith("ast_")


@pytest.mark.parametrize("industry", Industry)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_answers_to_a_collection_are_assets_or_our_error(industry: Industry, data: st.DataObject) -> None:
    client = HttpProviderClient(
        provider(industry=industry),
        fed(data),
        credentials=Credentials(client_id="c", client_secret="s", service_id="m"),
        collection_deadline=60,
        clock=ManualClock(NOW),
    )
    timestamps = Timestamps({"BA01": "20261122000000"})

    async def collected() -> list[CollectedAsset]:
        return [
            asset async for answer in client.collect("t", ApiType.USER_CONSENT, NOW, timestamps) for asset in answer if check(asset) is None
        ]

    run(collected())
    assert all(stamp.isdigit() for stamp in timestamps.reached.values())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_answers_to_the_token_and_signature_calls_are_values_or_our_error(data: st.DataObject) -> None:
    client = HttpProviderClient(
        provider(),
        fed(data),
        credentials=Credentials(client_id="c", client_secret="s", service_id="m"),
        collection_deadline=60,
        clock=ManualClock(NOW),
    )
    consent = SignedConsent(
        org_code=BANK, tx_id="t", document="{}", ends_on=date(2027, 1, 1), signed_consent="s", cert_tx_id="c", ca_code="a"
    )
    pair = TokenPair(access_token="a", access_expires_at=NOW, refresh_token="r", refresh_expires_at=NOW, scope="")
    asked = SignatureRequest(sign_tx_id="s", cert_tx_id="c", web_url="", ios_app_scheme_url="", aos_app_scheme_url="")
    authorities = HttpCaClient(authority(), fed(data), settings=Settings(_env_file=None), serials=Serials(0))  # type: ignore[call-arg]
    run(client.request_token(person(), consent, NOW))
    run(client.refresh_token(pair, NOW))
    run(client.revoke_token(pair.access_token))
    run(authorities.request_signature(person(), (), NOW))
    run(authorities.signature(asked, (), NOW))


def test_the_words_that_are_drawn_from_are_those_of_every_answer() -> None:
    kinds = [kind for module in MODULES for kind in structs(module)]
    assert sum(issubclass(kind, Page) for kind in kinds) >= 35
    body = orjson.dumps({**WORDS, **{name: [{**WORDS, "account_list": [WORDS]}] for name in LISTS}, "rsp_code": RspCode.OK})
    for kind in kinds:
        assert tokens.decode(kind, body), kind
