"""Card companies: cards (CD01) with the detail of each (CD02), and points (CD11). RULE: pure.

The standard gives neither a status nor a balance to a card; a point is no currency, so what remains of it is a detail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.payloads import MOST_ROWS, Amount, Code, Day, Identifier, Page, Segment, Text, details, masked
from backend.providers.reading import Detail, Found, Listing, with_more

IN_USE = "active"


class Card(Struct, frozen=True, kw_only=True):
    """One row of CD01."""

    card_id: Segment
    card_num: Identifier
    is_consent: bool
    card_name: Text
    card_member: Code | None = None
    card_type: Code | None = None


class Cards(Page, frozen=True, kw_only=True):
    """Answer of CD01."""

    card_list: Annotated[tuple[Card, ...], MOST_ROWS]


class CardDetail(Page, frozen=True, kw_only=True):
    """Answer of CD02, without the account that the card draws on."""

    is_trans_payable: bool | None = None
    is_cash_card: bool | None = None
    card_brand: Code | None = None
    annual_fee: Amount | None = None
    issue_date: Day | None = None


class Point(Struct, frozen=True, kw_only=True):
    """One row of CD11."""

    point_name: Text
    remain_point_amt: Amount
    expiring_point_amt: Amount | None = None


class Points(Page, frozen=True, kw_only=True):
    """Answer of CD11."""

    point_list: Annotated[tuple[Point, ...], MOST_ROWS]


def found_cards(page: Cards) -> Iterator[Found]:
    """The cards of one page."""
    for card in page.card_list:
        if card.is_consent:
            yield Found(_card(card), (Detail("CD02", {"card_id": card.card_id}, CardDetail, with_card),))


def found_points(page: Points) -> Iterator[Found]:
    """Points need no consent of their own: the scope is theirs."""
    for point in page.point_list:
        yield Found(_point(point))


def with_card(asset: CollectedAsset, answer: CardDetail) -> CollectedAsset:
    return with_more(
        asset,
        details(
            is_trans_payable=answer.is_trans_payable,
            is_cash_card=answer.is_cash_card,
            card_brand=answer.card_brand,
            annual_fee=answer.annual_fee,
            issue_date=answer.issue_date,
        ),
    )


def _card(card: Card) -> CollectedAsset:
    return CollectedAsset(
        key=f"card:{card.card_id}",
        kind=AssetKind.CARD,
        name=card.card_name,
        number_masked=masked(card.card_num),
        status=IN_USE,
        balance=None,
        details=details(card_member=card.card_member, card_type=card.card_type),
    )


def _point(point: Point) -> CollectedAsset:
    return CollectedAsset(
        key=f"point:{point.point_name}",
        kind=AssetKind.POINT,
        name=point.point_name,
        number_masked="",
        status=IN_USE,
        balance=None,
        details=details(remain_point_amt=point.remain_point_amt, expiring_point_amt=point.expiring_point_amt),
    )


LISTINGS = (Listing("CD01", Cards, found_cards), Listing("CD11", Points, found_points))
