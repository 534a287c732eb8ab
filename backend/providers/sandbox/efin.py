"""E-money: prepaid balances that were charged or earned, and accounts that only pay."""

from __future__ import annotations

from backend.providers.sandbox.figures import money, movements
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource


def _prepaid(making: Making) -> Holding:
    figures = making.figures
    number = making.unique(9)
    entry: Fields = {
        "fob_name": figures.pick("name", ("머니", "포인트머니", "교통머니")),
        "is_consent": "true",
        "reg_date": figures.day("registered", 2019, 2025),
        "limit_amt": money(2_000_000),
        "is_charge": figures.pick("charge", ("true", "false")),
        "account_cnt": "1",
        "account_list": [{"account_id": f"user{number}"}],
    }
    return making.holding({"fob_id": f"fob{number}"}, entry)


def _charged(asked: Asked) -> int:
    return asked.holding.figures.won("charged", 0, 600_000)


def _balance(asked: Asked) -> Fields:
    earned = asked.holding.figures.number("earned", 0, 30_000)
    return {
        "currency_code": "KRW",
        "total_balance_amt": money(_charged(asked) + earned),
        "charge_balance_amt": money(_charged(asked)),
        "reserve_balance_amt": money(earned),
        "reserve_due_amt": money(0),
        "exp_due_amt": money(earned // 10),
    }


def _charges(asked: Asked) -> list[Fields]:
    if asked.holding.entry["is_charge"] == "false":
        return []
    figures = asked.holding.figures
    row = {"charge_org_code": "A1MOABK001", "charge_account_num": figures.digits("from", 12), "charge_option": "01"}
    return [{**row, "charge_base_amt": money(figures.won("step", 10_000, 100_000))}]


def _transactions(asked: Asked) -> list[Fields]:
    return [
        {
            "trans_type": "01" if each.incoming else "02",
            "trans_dtime": each.dtime,
            "trans_no": each.number,
            "currency_code": "KRW",
            "trans_amt": money(each.amount),
            "balance_amt": money(each.balance),
            "trans_memo": each.memo,
        }
        for each in movements(asked.holding.figures, asked.period, _charged(asked))
    ]


def _paid(making: Making) -> Holding:
    number = making.unique(9)
    entry = {
        "account_id": f"user{number}",
        "is_consent": "true",
        "reg_date": making.figures.day("registered", 2019, 2025),
        "is_pay": "true",
    }
    return making.holding({"sub_key": f"sub{number}"}, entry)


def _methods(asked: Asked) -> list[Fields]:
    row = {"pay_org_code": "B1MOACD001", "pay_type": "01", "pay_id": f"pay{asked.holding.figures.digits('pay', 8)}", "is_primary": "true"}
    return [row]


def _payments(asked: Asked) -> list[Fields]:
    figures = asked.holding.figures
    return [
        {
            "trans_type": "01",
            "trans_dtime": f"{day}180000",
            "trans_no": f"{day}1",
            "trans_amt": money(figures.won(day, 2_000, 90_000)),
            "currency_code": "KRW",
            "merchant_name": figures.pick(day + "shop", ("골목서점", "동네마트", "모퉁이커피")),
        }
        for day in asked.period.days(7, 21)
    ]


RESOURCES: dict[str, Resource] = {
    "EF01": Listing(stem="fob", make=_prepaid, ordinary=(1, 2)),
    "EF02": Detail(of="EF01", tell=_balance),
    "EF03": Detail(of="EF01", stem="charge", tell=_charges),
    "EF04": Detail(of="EF01", stem="trans", tell=_transactions),
    "EF11": Listing(stem="account", make=_paid, ordinary=(1, 2), is_main=False),
    "EF12": Detail(of="EF11", stem="pay", tell=_methods),
    "EF13": Detail(of="EF11", stem="trans", tell=_payments),
}
