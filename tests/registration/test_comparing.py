"""Only what looks different is news; only what every list of its kind left out has gone."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from backend.events import Asset, AssetKind, Balance, Industry
from backend.registration.comparing import gone, news

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DEPOSIT = Asset(
    "a", "A1MOABK001", Industry.BANK, AssetKind.DEPOSIT, "통장", "**12", "active", Balance(Decimal("1.00"), "KRW"), "then", {"n": [1]}
)
LOAN = replace(DEPOSIT, id="l", kind=AssetKind.LOAN)
CLOSED = replace(DEPOSIT, id="c", status="closed")
STORED = {asset.id: asset for asset in (DEPOSIT, LOAN, CLOSED)}
NOTHING, DEPOSITS = frozenset[AssetKind](), frozenset({AssetKind.DEPOSIT})


def test_what_looks_as_it_did_is_no_news_whenever_it_was_read() -> None:
    assert news([replace(DEPOSIT, as_of="now"), LOAN], STORED, NOTHING, NOW) == ()


def test_what_is_new_or_differs_in_anything_is_news_in_its_last_state() -> None:
    other = [
        replace(DEPOSIT, balance=Balance(Decimal("1.01"), "KRW")),
        replace(DEPOSIT, details={"n": [2]}),
        replace(DEPOSIT, id="b"),
        replace(CLOSED, status="active"),
    ]
    for asset in other:
        assert news([LOAN, asset], STORED, NOTHING, NOW) == (asset,)
    assert news([LOAN, *other[:2]], STORED, NOTHING, NOW) == (other[1],)


def test_what_lists_of_its_kind_left_out_is_closed_once_and_owes_no_balance() -> None:
    [closed] = news([LOAN], STORED, DEPOSITS, NOW)
    assert closed == replace(DEPOSIT, status="closed", balance=None, as_of="2026-11-22T00:00:00.000Z")
    assert gone([], {**STORED, closed.id: closed}, DEPOSITS, NOW) == ()


def test_what_may_stand_in_a_list_that_was_not_told_stays() -> None:
    assert gone([], STORED, NOTHING, NOW) == ()
    assert gone(["a"], STORED, DEPOSITS, NOW) == ()
