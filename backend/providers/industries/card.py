"""Card companies: cards (CD01, CD02), points (CD11), what is to be paid (CD21, CD23, CD24), loans (CD31 to CD33), prepaid (PP01, PP02).

The standard gives neither a status nor a balance to a card; a point is no currency, so what remains of it is a detail. What is to be paid
is one asset of a person at a company: its bills of three months are `bills`, the newest is `charge_amt`. What was bought (CD22, CD03,
CD04) is not read: that is for whoever looks transactions up. RULE: pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from msgspec import Struct

from backend.events import AssetKind
from backend.providers.contract import CollectedAsset
from backend.providers.industries.loans import with_facts
from backend.providers.industries.prepaid import PrepaidBalance, with_balance
from backend.providers.payloads import (
    MOST_ROWS,
    Amount,
    Code,
    Day,
    Identifier,
    Moment,
    Number,
    Page,
    Segment,
    Status,
    Text,
    balance,
    details,
    facts,
    masked,
)
from backend.providers.reading import Detail, Found, Listing, with_more

BILL = "카드대금"  # the standard gives neither a name
SHORT_TERM_LOAN = "단기카드대출"

_CARDS = frozenset({AssetKind.CARD})  # and what is to be paid
_LOANS = frozenset({AssetKind.LOAN})


class Card(Struct, frozen=True, kw_only=True):
    """One row of CD01."""

    card_id: Segment
    card_num: Number
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
    linked_bank_code: Code | None = None
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


class Payment(Struct, frozen=True, kw_only=True):
    """One row of CD23: what a day's debit will be, and of what it consists."""

    pay_due_date: Day
    pay_amt: Amount
    lump_sum_amt: Amount | None = None
    monthly_amt: Amount | None = None
    loan_short_amt: Amount | None = None
    revolving_amt: Amount | None = None
    loan_long_amt: Amount | None = None
    etc_amt: Amount | None = None


class Payments(Page, frozen=True, kw_only=True):
    """Answer of CD23."""

    pay_list: Annotated[tuple[Payment, ...], MOST_ROWS]
    is_revolving: bool = False


class Bill(Struct, frozen=True, kw_only=True):
    """One row of CD21."""

    charge_month: Code  # YYYYMM
    charge_amt: Amount
    charge_day: Code | None = None
    paid_out_date: Day | None = None


class Bills(Page, frozen=True, kw_only=True):
    """Answer of CD21, one page of it."""

    bill_list: Annotated[tuple[Bill, ...], MOST_ROWS]


class Revolving(Struct, frozen=True, kw_only=True):
    """One row of CD24: an agreement to pay a part only."""

    req_date: Day | None = None
    end_date: Day | None = None
    close_date: Day | None = None
    min_pay_rate: Amount | None = None
    min_pay_amt: Amount | None = None
    agreed_pay_rate: Amount | None = None
    agreed_pay_amt: Amount | None = None
    remained_amt: Amount | None = None


class Revolvings(Page, frozen=True, kw_only=True):
    """Answer of CD24."""

    revolving_list: Annotated[tuple[Revolving, ...], MOST_ROWS]


class LoanFlags(Page, frozen=True, kw_only=True):
    """Answer of CD31: which of the other two have anything to tell."""

    is_loan_short_term: bool = False
    is_loan_long_term: bool = False


class ShortTermLoan(Struct, frozen=True, kw_only=True):
    """One row of CD32; it has no number of its own."""

    loan_dtime: Moment
    balance_amt: Amount
    loan_amt: Amount | None = None
    pay_due_date: Day | None = None
    int_rate: Amount | None = None


class ShortTermLoans(Page, frozen=True, kw_only=True):
    """Answer of CD32."""

    short_term_list: Annotated[tuple[ShortTermLoan, ...], MOST_ROWS]


class LongTermLoan(Struct, frozen=True, kw_only=True):
    """One row of CD33."""

    loan_num: Identifier
    loan_name: Text
    balance_amt: Amount
    loan_dtime: Moment | None = None
    loan_type: Text | None = None
    loan_amt: Amount | None = None
    int_rate: Amount | None = None
    exp_date: Day | None = None
    repay_method: Code | None = None
    int_amt: Amount | None = None


class LongTermLoans(Page, frozen=True, kw_only=True):
    """Answer of CD33."""

    long_term_list: Annotated[tuple[LongTermLoan, ...], MOST_ROWS]


class PrepaidCard(Struct, frozen=True, kw_only=True):
    """One row of PP01."""

    pp_id: Identifier
    pp_name: Text
    is_consent: bool
    reg_date: Day | None = None
    limit_amt: Amount | None = None


class PrepaidCards(Page, frozen=True, kw_only=True):
    """Answer of PP01."""

    pp_list: Annotated[tuple[PrepaidCard, ...], MOST_ROWS]


def found_cards(page: Cards) -> Iterator[Found]:
    """The cards of one page."""
    for card in page.card_list:
        if card.is_consent:
            asset = _asset(AssetKind.CARD, f"card:{card.card_id}", card.card_name, card.card_num)
            more = details(card_member=card.card_member, card_type=card.card_type)
            yield Found(with_more(asset, more), (Detail("CD02", {"card_id": card.card_id}, CardDetail, with_facts),))


def found_points(page: Points) -> Iterator[Found]:
    """Points need no consent of their own: the scope is theirs."""
    for point in page.point_list:
        asset = _asset(AssetKind.POINT, f"point:{point.point_name}", point.point_name)
        yield Found(with_more(asset, facts(point, "point_name")))


def found_bill(page: Payments) -> Iterator[Found]:
    """What is to be paid, soonest first; nothing for a person who owes nothing."""
    if page.pay_list:
        coming = tuple(sorted(page.pay_list, key=lambda each: each.pay_due_date))
        asset = with_more(_asset(AssetKind.CARD, "bill", BILL), details(is_revolving=page.is_revolving, payments=coming))
        revolving = (Detail("CD24", {}, Revolvings, with_revolving),) if page.is_revolving else ()
        yield Found(asset, (Detail("CD21", {}, Bills, with_bills), *revolving))


def with_bills(asset: CollectedAsset, answer: Bills) -> CollectedAsset:
    """Adds one page to the bills that are known already; newest first."""
    bills = [*asset.details.get("bills", ()), *map(facts, answer.bill_list)]
    if not bills:
        return asset
    bills.sort(key=lambda bill: str(bill["charge_month"]), reverse=True)
    return with_more(asset, details(charge_amt=bills[0]["charge_amt"], charge_month=bills[0]["charge_month"], bills=bills))


def with_revolving(asset: CollectedAsset, answer: Revolvings) -> CollectedAsset:
    return with_more(asset, details(revolving=answer.revolving_list))


def loan_lists(page: LoanFlags) -> Iterator[Listing[Any]]:
    """The lists of loans that have any."""
    if page.is_loan_short_term:
        yield Listing("CD32", ShortTermLoans, found_short_term, kinds=_LOANS)
    if page.is_loan_long_term:
        yield Listing("CD33", LongTermLoans, found_long_term, kinds=_LOANS)


def found_short_term(page: ShortTermLoans) -> Iterator[Found]:
    for loan in page.short_term_list:
        key = f"short:{loan.loan_dtime:%Y%m%d%H%M%S}"
        yield _loan(_asset(AssetKind.LOAN, key, SHORT_TERM_LOAN), loan)


def found_long_term(page: LongTermLoans) -> Iterator[Found]:
    for loan in page.long_term_list:
        yield _loan(_asset(AssetKind.LOAN, f"long:{loan.loan_num}", loan.loan_name, loan.loan_num), loan)


def found_prepaid(page: PrepaidCards) -> Iterator[Found]:
    """The prepaid cards of one page."""
    for prepaid in page.pp_list:
        if prepaid.is_consent:
            asset = _asset(AssetKind.PREPAID, f"prepaid:{prepaid.pp_id}", prepaid.pp_name)
            more = details(reg_date=prepaid.reg_date, limit_amt=prepaid.limit_amt)
            yield Found(with_more(asset, more), (Detail("PP02", {"pp_id": prepaid.pp_id}, PrepaidBalance, with_balance),))


def _loan(asset: CollectedAsset, loan: ShortTermLoan | LongTermLoan) -> Found:
    return Found(with_more(asset, facts(loan, "loan_num", "loan_name", "balance_amt"), balance(loan.balance_amt)))


def _asset(kind: AssetKind, key: str, name: str, number: str = "") -> CollectedAsset:
    return CollectedAsset(key=key, kind=kind, name=name, number_masked=masked(number), status=Status.ACTIVE, balance=None, details={})


LISTINGS = (
    Listing("CD01", Cards, found_cards, kinds=_CARDS),
    Listing("CD11", Points, found_points, kinds=frozenset({AssetKind.POINT})),
    Listing("CD23", Payments, found_bill, kinds=_CARDS),
    Listing("CD31", LoanFlags, lambda _: (), loan_lists, kinds=_LOANS),
    Listing("PP01", PrepaidCards, found_prepaid, optional=True, kinds=frozenset({AssetKind.PREPAID})),
)
