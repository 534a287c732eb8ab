"""Securities accounts: cash, and products whose value is what they cost now times how many there are."""

from __future__ import annotations

from backend.providers.sandbox import irp
from backend.providers.sandbox.figures import money, movements
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource

_PRODUCTS = (("401", "하늘전자"), ("401", "바다조선"), ("401", "들꽃제약"), ("403", "누리 대표지수 ETF"), ("402", "국고채 10년"))
_KINDS = {"101": "종합매매계좌", "102": "위탁계좌", "107": "펀드계좌", "108": "중개형 ISA", "105": "연금저축계좌"}


def _account(making: Making) -> Holding:
    kind = "101" if making.number == 0 else making.figures.pick("kind", tuple(_KINDS))
    entry = {
        "is_consent": "true",
        "account_name": _KINDS[kind],
        "account_type": kind,
        "issue_date": making.figures.day("issued", 2014, 2024),
        "is_tax_benefits": "true" if kind in ("105", "108") else "false",
        "is_cma": "false",
        "is_stock_trans": "true" if kind in ("101", "102") else "false",
        "is_account_link": "false",
    }
    return making.holding({"account_num": making.unique(11)}, entry, kind=kind)


def _cash(asked: Asked) -> int:
    return asked.holding.figures.won("cash", 0, 5_000_000)


def _basic(asked: Asked) -> list[Fields]:
    cash = money(_cash(asked))
    return [
        {"currency_code": "KRW", "withholdings_amt": cash, "credit_loan_amt": money(0), "mortgage_amt": money(0), "avail_balance": cash}
    ]


def _base_date(asked: Asked) -> Fields:
    return {"base_date": asked.holding.modified[:8]}


def _products(asked: Asked) -> list[Fields]:
    figures = asked.holding.figures
    return [_product(asked, n, *_PRODUCTS[(figures.number("first", 0, 4) + n) % 5]) for n in range(figures.number("products", 1, 4))]


def _product(asked: Asked, number: int, kind: str, name: str) -> Fields:
    figures = asked.holding.figures.under(f"product {number}")
    held, price = figures.number("held", 1, 120), figures.number("price", 40, 1_900) * 100
    cost = figures.number("cost", 70, 125)
    return {
        "prod_type": kind,
        "prod_code": f"KR7{figures.digits('code', 9)}",
        "prod_name": name,
        "purchase_amt": money(held * price * cost // 100),
        "holding_num": str(held),
        "eval_amt": money(held * price),
        "currency_code": "KRW",
    }


def _transactions(asked: Asked) -> list[Fields]:
    return [
        {
            "trans_dtime": each.dtime,
            "prod_name": "예수금",
            "trans_no": each.number,
            "trans_type": "301" if each.incoming else "302",
            "trans_type_detail": "입금" if each.incoming else "출금",
            "trans_amt": money(each.amount),
            "settle_amt": money(each.amount),
            "balance_amt": money(each.balance),
            "currency_code": "KRW",
        }
        for each in movements(asked.holding.figures, asked.period, _cash(asked))
    ]


def _pension(asked: Asked) -> Fields:
    figures = asked.holding.figures
    return {
        "issue_date": figures.day("issued", 2014, 2024),
        "paid_in_amt": money(figures.won("paid in", 1_000_000, 30_000_000)),
        "withdrawal_amt": money(0),
        "rcv_amt": money(0),
    }


RESOURCES: dict[str, Resource] = {
    "IV01": Listing(stem="account", make=_account, ordinary=(1, 2)),
    "IV02": Detail(of="IV01", stem="basic", tell=_basic, head=_base_date),
    "IV03": Detail(of="IV01", stem="trans", tell=_transactions),
    "IV04": Detail(of="IV01", stem="prod", tell=_products, head=_base_date),
    "IV05": Detail(of="IV01", tell=_pension, kinds="1"),
    **irp.RESOURCES,
}
