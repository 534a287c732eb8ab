"""Individual retirement pensions (IR01 … IR04), which banks, securities firms and insurers keep alike."""

from __future__ import annotations

from backend.providers.sandbox.figures import money, movements
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource


def _irp(making: Making) -> Holding:
    ref = {"account_num": making.unique(13)}
    return making.holding(ref, {"prod_name": "개인형 퇴직연금", "is_consent": "true"}, kind="irp")


def _accumulated(asked: Asked) -> int:
    return asked.holding.figures.won("accumulated", 3_000_000, 60_000_000)


def _basic(asked: Asked) -> Fields:
    figures, accumulated = asked.holding.figures, _accumulated(asked)
    employer = accumulated * figures.number("share", 2, 8) // 10
    return {
        "accum_amt": money(accumulated),
        "eval_amt": money(accumulated * figures.number("return", 95, 125) // 100),
        "employer_amt": money(employer),
        "employee_amt": money(accumulated - employer),
        "issue_date": figures.day("issued", 2012, 2020),
        "first_deposit_date": figures.day("first", 2021, 2021),
        "rcv_start_date": figures.day("receive", 2040, 2055),
    }


def _detail(asked: Asked) -> list[Fields]:
    figures, accumulated = asked.holding.figures, _accumulated(asked)
    fund = accumulated * figures.number("fund", 2, 7) // 10
    return [
        {
            "irp_name": "원리금보장 예금",
            "irp_type": "01",
            "eval_amt": money(accumulated - fund),
            "inv_principal": money(accumulated - fund),
        },
        {"irp_name": "연금 혼합형 펀드", "irp_type": "02", "eval_amt": money(fund), "inv_principal": money(fund)},
    ]


def _transactions(asked: Asked) -> list[Fields]:
    return [
        {"trans_dtime": each.dtime, "trans_no": each.number, "trans_type": "01" if each.incoming else "02", "trans_amt": money(each.amount)}
        for each in movements(asked.holding.figures, asked.period, _accumulated(asked))
    ]


RESOURCES: dict[str, Resource] = {
    "IR01": Listing(stem="irp", make=_irp, ordinary=(0, 1), is_main=False),
    "IR02": Detail(of="IR01", tell=_basic),
    "IR03": Detail(of="IR01", stem="irp", tell=_detail),
    "IR04": Detail(of="IR01", stem="trans", tell=_transactions),
}
