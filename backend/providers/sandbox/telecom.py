"""Telephone contracts: a bill each month, paid the month after, and small payments made by telephone."""

from __future__ import annotations

from backend.providers.sandbox.figures import money
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource


def _contract(making: Making) -> Holding:
    figures = making.figures
    entry = {
        "is_consent": "true",
        "telecom_num": f"010****{figures.digits('telephone', 4)}",
        "type": "01" if making.number == 0 else figures.pick("type", ("01", "02", "03")),
        "status": "03" if making.is_closed else "01",
    }
    return making.holding({"mgmt_id": f"mgmt{making.unique(9)}"}, entry)


def _charge(asked: Asked, month: str) -> int:
    return asked.holding.figures.number("plan", 19, 89) * 1_000 + asked.holding.figures.number(month, 0, 90) * 100


def _bills(asked: Asked) -> list[Fields]:
    return [
        {"charge_month": month, "charge_amt": money(_charge(asked, month)), "charge_date": f"{month}25"} for month in asked.period.months()
    ]


def _transactions(asked: Asked) -> list[Fields]:
    return [{"trans_month": month, "paid_amt": money(_charge(asked, month)), "pay_method": "02"} for month in asked.period.months()]


def _paid(asked: Asked) -> list[Fields]:
    figures = asked.holding.figures
    return [
        {
            "trans_date": day,
            "trans_amt": money(figures.won(day, 1_000, 50_000)),
            "merchant_name": figures.pick(day + "shop", ("놀이상점", "음악상점")),
            "trans_title": "소액결제",
        }
        for day in asked.period.days(12)
    ]


RESOURCES: dict[str, Resource] = {
    "TC01": Listing(stem="telecom", make=_contract, ordinary=(1, 2)),
    "TC02": Detail(of="TC01", stem="charge", tell=_bills),
    "TC03": Detail(of="TC01", stem="trans", tell=_transactions),
    "TC04": Detail(of="TC01", stem="trans", tell=_paid),
}
