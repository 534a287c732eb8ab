"""Insurance policies, what they cover and cost, and loans on them."""

from __future__ import annotations

from backend.providers.sandbox import irp, lending
from backend.providers.sandbox.figures import money
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource

_CAR = "15"  # insu_type of car insurance
_PRODUCTS = {"01": "든든 종신보험", "02": "하루 정기보험", "04": "건강 실손보험", "06": "평생 연금보험", _CAR: "나들이 자동차보험"}


def _policy(making: Making) -> Holding:
    kind = making.figures.pick("kind", tuple(_PRODUCTS))
    entry = {"is_consent": "true", "prod_name": _PRODUCTS[kind], "insu_type": kind, "insu_status": "04" if making.is_closed else "02"}
    return making.holding({"insu_num": f"P{making.unique(12)}"}, entry, kind=kind)


def _face_amount(asked: Asked) -> int:
    return asked.holding.figures.won("face", 10_000_000, 200_000_000)


def _premium(asked: Asked) -> int:
    return asked.holding.figures.won("premium", 12_000, 320_000)


def _basic(asked: Asked) -> Fields:
    figures, kind = asked.holding.figures, asked.holding.kind
    told: Fields = {
        "is_renewable": "true" if kind in ("04", _CAR) else "false",
        "issue_date": figures.day("issued", 2010, 2025),
        "exp_date": figures.day("ends", 2027, 2070),
        "face_amt": money(_face_amount(asked)),
        "currency_code": "KRW",
        "is_variable": "false",
        "is_universal": "false",
        "is_loanable": "true" if kind in ("01", "06") else "false",
        "insured_cnt": "1",
        "insured_list": [{"insured_no": "01", "insured_name": "김모아", "is_primary": "true"}],
    }
    if kind == "06":
        told |= {"pension_rcv_start_date": figures.day("receive", 2040, 2055), "pension_rcv_cycle": "1M"}
    return told


def _contracts(asked: Asked) -> list[Fields]:
    row = {
        "contract_name": f"{asked.holding.entry['prod_name']} 주계약",
        "contract_no": "0001",
        "contract_status": asked.holding.entry["insu_status"],
        "contract_exp_date": asked.holding.figures.day("ends", 2027, 2070),
        "contract_face_amt": money(_face_amount(asked)),
        "currency_code": "KRW",
        "is_required": "true",
    }
    return [row]


def _car_number(asked: Asked) -> str:
    return f"{asked.holding.figures.number('car', 10, 69)}가{asked.holding.figures.digits('plate', 4)}"


def _cars(asked: Asked) -> list[Fields]:
    row = {"car_number": _car_number(asked), "car_insu_type": "01", "car_name": "나들이", "start_date": "20260101", "end_date": "20261231"}
    return [row]


def _payment(asked: Asked) -> Fields:
    figures = asked.holding.figures
    return {
        "pay_due": "01",
        "pay_cycle": "1M",
        "pay_cnt": str(figures.number("paid", 3, 180)),
        "pay_org_code": "A1MOABK001",
        "pay_date": f"{figures.number('pay day', 1, 28):02}",
        "pay_end_date": figures.day("pay end", 2030, 2050),
        "pay_amt": money(_premium(asked)),
        "currency_code": "KRW",
        "is_auto_pay": "true",
    }


def _transactions(asked: Asked) -> list[Fields]:
    return [
        {
            "trans_date": day,
            "trans_applied_month": day[:6],
            "paid_in_cnt": "1",
            "paid_amt": money(_premium(asked)),
            "currency_code": "KRW",
            "pay_method": "02",
        }
        for day in asked.period.days(10)
    ]


def _coverages(asked: Asked) -> list[Fields]:
    row = {
        "subject": "김모아",
        "relation": "본인",
        "status": asked.holding.entry["insu_status"],
        "coverage_code": "A1001",
        "coverage_name": "일반사망",
        "coverage_amt": money(_face_amount(asked)),
        "start_date": asked.holding.figures.day("issued", 2010, 2025),
        "end_date": asked.holding.figures.day("ends", 2027, 2070),
    }
    return [row]


def _loan(making: Making) -> Holding:
    entry = {"prod_name": "보험계약대출", "is_consent": "true", "account_type": "3400", "account_status": "01"}
    return making.holding({"account_num": making.unique(12)}, entry, kind="3400")


RESOURCES: dict[str, Resource] = {
    "IS01": Listing(stem="insu", make=_policy, ordinary=(1, 3)),
    "IS02": Detail(of="IS01", tell=_basic),
    "IS03": Detail(of="IS01", stem="contract", tell=_contracts),
    "IS04": Detail(of="IS01", stem="car_insu", tell=_cars, kinds=_CAR),
    "IS05": Detail(of="IS01", tell=_payment),
    "IS06": Detail(of="IS01", stem="trans", tell=_transactions),
    "IS07": Detail(of="IS01", stem="trans", tell=_transactions, kinds=_CAR),
    "IS08": Detail(of="IS01", stem="coverage", tell=_coverages),
    "IS11": Listing(stem="loan", make=_loan, ordinary=(0, 1), is_main=False),
    "IS12": Detail(of="IS11", tell=lending.basic),
    "IS13": Detail(of="IS11", tell=lending.detail),
    "IS14": Detail(of="IS11", stem="trans", tell=lending.transactions),
    **irp.RESOURCES,
}
