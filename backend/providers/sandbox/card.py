"""Cards, and what is bought with them: a month's bill is the sum of the month before's approvals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from msgspec import Struct

from backend.providers.sandbox.figures import Period, money
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource

_NAMES = ("일상 체크카드", "나들이 신용카드", "주유 신용카드", "온라인 신용카드")
_SHOPS = ("골목서점", "동네마트", "모퉁이커피", "햇살약국", "바람주유소", "달빛식당")
_ABROAD = (("US", "USD"), ("JP", "JPY"))


class _Purchase(Struct, frozen=True):
    day: str
    number: str
    shop: str
    amount: int


def _card(making: Making) -> Holding:
    figures = making.figures
    ref = {"card_id": f"card{making.unique(9)}"}
    name = figures.pick("name", _NAMES)
    entry = {
        "card_num": f"{figures.digits('bin', 6)}******{figures.digits('last', 4)}",
        "is_consent": "true",
        "card_name": name,
        "card_member": "1",
        "card_type": "02" if "체크" in name else "01",
    }
    return making.holding(ref, entry)


def _basic(asked: Asked) -> Fields:
    figures = asked.holding.figures
    return {
        "is_trans_payable": figures.pick("transit", ("true", "false")),
        "is_cash_card": figures.pick("cash", ("true", "false")),
        "linked_bank_code": "A1MOABK001",
        "account_num": figures.digits("linked", 12),
        "card_brand": figures.pick("brand", ("100", "200")),
        "annual_fee": money(figures.won("fee", 0, 30_000)),
        "issue_date": figures.day("issued", 2018, 2025),
    }


def _purchases(card: Holding, period: Period) -> Iterator[_Purchase]:
    for day in period.days(3, 11, 19, 27):
        shop = card.figures.pick(day + "shop", _SHOPS)
        yield _Purchase(day, f"{day}{card.figures.digits(day + 'no', 4)}", shop, card.figures.won(day, 3_000, 180_000))


def _approvals(asked: Asked) -> list[Fields]:
    return [
        {
            "approved_dtime": f"{each.day}123000",
            "approved_num": each.number,
            "status": "01",
            "pay_type": "01",
            "merchant_name": each.shop,
            "merchant_regno": asked.holding.figures.digits(each.shop, 10),
            "approved_amt": money(each.amount),
        }
        for each in _purchases(asked.holding, asked.period)
    ]


def _approvals_overseas(asked: Asked) -> list[Fields]:
    found: list[Fields] = []
    for day in asked.period.days(8):
        country, currency = asked.holding.figures.pick(day + "country", _ABROAD)
        amount = asked.holding.figures.number(day + "abroad", 5, 90)
        found.append(
            {
                "approved_dtime": f"{day}203000",
                "approved_num": f"{day}9",
                "status": "01",
                "pay_type": "01",
                "merchant_name": "해외가맹점",
                "approved_amt": money(amount),
                "country_code": country,
                "currency_code": currency,
                "krw_amt": money(amount * (1_350 if currency == "USD" else 9)),
            }
        )
    return found


def _month_before(month: str) -> Period:
    year, number = (int(month[:4]), int(month[4:]) - 1) if month[4:] != "01" else (int(month[:4]) - 1, 12)
    return Period(date(year, number, 1), date(year, number, 28))


def _bill(asked: Asked, month: str) -> list[tuple[Holding, _Purchase]]:
    return [(card, each) for card in asked.others("CD01") for each in _purchases(card, _month_before(month))]


def _bills(asked: Asked) -> list[Fields]:
    return [
        {
            "seqno": "0001",
            "charge_amt": money(sum(each.amount for _, each in _bill(asked, month))),
            "charge_day": "14",
            "charge_month": month,
            "paid_out_date": f"{month}14",
        }
        for month in asked.period.months()
        if asked.others("CD01")
    ]


def _bill_detail(asked: Asked) -> list[Fields]:
    return [
        {
            **card.ref,
            "paid_dtime": f"{each.day}123000",
            "trans_no": each.number,
            "paid_amt": money(each.amount),
            "currency_code": "KRW",
            "merchant_name": each.shop,
            "merchant_regno": card.figures.digits(each.shop, 10),
            "credit_fee_amt": money(0),
            "prod_type": "01",
        }
        for card, each in _bill(asked, asked.params["charge_month"])
    ]


def _points(asked: Asked) -> list[Fields]:
    figures = asked.holding.figures
    if not asked.others("CD01"):
        return []
    points = figures.number("points", 0, 48_000)
    row = {"point_name": "모음포인트", "remain_point_amt": str(points), "expiring_point_amt": str(points // 20)}
    return [row]


def _payments(asked: Asked) -> list[Fields]:
    figures = asked.holding.figures
    if not asked.others("CD01"):
        return []
    at_once, monthly = figures.won("at once", 50_000, 900_000), figures.won("monthly", 0, 300_000)
    amounts = {"pay_amt": money(at_once + monthly), "lump_sum_amt": money(at_once), "monthly_amt": money(monthly)}
    return [{"seqno": "0001", "pay_due_date": figures.day("due", 2027, 2027), **amounts}]


def _loans(asked: Asked) -> Fields:
    has_long = "true" if _long_term(asked) else "false"
    return {"is_revolving": "false", "is_loan_short_term": "false", "is_loan_long_term": has_long}


def _long_term(asked: Asked) -> list[Fields]:
    figures = asked.holding.figures
    if not asked.others("CD01") or figures.number("long", 0, 3):
        return []
    lent = figures.won("long amount", 1_000_000, 9_000_000)
    return [
        {
            "loan_num": figures.digits("long number", 10),
            "loan_dtime": f"{figures.day('long day', 2023, 2024)}100000",
            "loan_type": "01",
            "loan_name": "장기카드대출",
            "loan_amt": money(lent),
            "int_rate": f"{figures.number('long rate', 600, 1500) / 100:.3f}",
            "exp_date": figures.day("long end", 2027, 2029),
            "balance_amt": money(lent * figures.number("long left", 10, 90) // 100),
        }
    ]


def _prepaid(making: Making) -> Holding:
    entry = {
        "pp_name": "선불 교통카드",
        "is_consent": "true",
        "reg_date": making.figures.day("registered", 2020, 2024),
        "limit_amt": money(500_000),
    }
    return making.holding({"pp_id": f"pp{making.unique(9)}"}, entry)


def _prepaid_balance(asked: Asked) -> Fields:
    return {"currency_code": "KRW", "balance_amt": money(asked.holding.figures.won("prepaid", 0, 200_000))}


def _none(_: Asked) -> list[Fields]:
    return []


RESOURCES: dict[str, Resource] = {
    "CD01": Listing(stem="card", make=_card, ordinary=(1, 3)),
    "CD02": Detail(of="CD01", tell=_basic),
    "CD03": Detail(of="CD01", stem="approved", tell=_approvals),
    "CD04": Detail(of="CD01", stem="approved", tell=_approvals_overseas),
    "CD11": Detail(of=None, stem="point", tell=_points),
    "CD21": Detail(of=None, stem="bill", tell=_bills),
    "CD22": Detail(of=None, stem="bill_detail", tell=_bill_detail),
    "CD23": Detail(of=None, stem="pay", tell=_payments, head=lambda _: {"is_revolving": "false"}),
    "CD24": Detail(of=None, stem="revolving", tell=_none),
    "CD31": Detail(of=None, tell=_loans),
    "CD32": Detail(of=None, stem="short_term", tell=_none),
    "CD33": Detail(of=None, stem="long_term", tell=_long_term),
    "PP01": Listing(stem="pp", make=_prepaid, ordinary=(0, 1), is_main=False),
    "PP02": Detail(of="PP01", tell=_prepaid_balance),
    "PP03": Detail(of="PP01", stem="trans", tell=_none),
    "PP04": Detail(of="PP01", stem="approved", tell=_none),
}
