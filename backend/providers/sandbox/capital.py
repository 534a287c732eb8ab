"""Loans and leases of loan companies."""

from __future__ import annotations

from backend.providers.sandbox import lending
from backend.providers.sandbox.figures import money
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource

_LEASE = "3710"  # operating lease
_PRODUCTS = {"3100": "신용대출", "3170": "중고차 할부", _LEASE: "자동차 운용리스"}


def _account(making: Making) -> Holding:
    kind = "3100" if making.number == 0 else making.figures.pick("kind", tuple(_PRODUCTS))
    entry = {
        "is_consent": "true",
        "prod_name": _PRODUCTS[kind],
        "account_type": kind,
        "account_status": "03" if making.is_closed else "01",
    }
    return making.holding({"account_num": making.unique(12), "seqno": "1"}, entry, kind=kind)


def _rent(asked: Asked) -> int:
    return asked.holding.figures.won("rent", 200_000, 900_000)


def _lease(asked: Asked) -> Fields:
    figures = asked.holding.figures
    return {
        "issue_date": figures.day("issued", 2023, 2025),
        "exp_date": figures.day("ends", 2027, 2029),
        "repay_date": f"{figures.number('repay', 1, 28):02}",
        "repay_method": "01",
        "next_repay_date": figures.day("next", 2027, 2027),
        "repay_amt": money(_rent(asked)),
    }


def _lease_transactions(asked: Asked) -> list[Fields]:
    return [
        {"trans_dtime": f"{day}060000", "trans_no": f"{day}1", "trans_type": "03", "trans_amt": money(_rent(asked))}
        for day in asked.period.days(20)
    ]


RESOURCES: dict[str, Resource] = {
    "CP01": Listing(stem="account", make=_account, ordinary=(1, 2), has_reg_date=True),
    "CP02": Detail(of="CP01", tell=lending.basic),
    "CP03": Detail(of="CP01", tell=lending.detail),
    "CP04": Detail(of="CP01", stem="trans", tell=lending.transactions),
    "CP05": Detail(of="CP01", tell=_lease, kinds=_LEASE),
    "CP06": Detail(of="CP01", stem="trans", tell=_lease_transactions, kinds=_LEASE),
}
