"""Bank accounts: deposits (1xxx), funds (2xxx), loans (3xxx), and accounts that are overdrawn, which are deposit and loan at once."""

from __future__ import annotations

from backend.providers.sandbox import irp, lending
from backend.providers.sandbox.figures import money, movements
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource, Trait

_PRODUCTS = {
    "1001": ("자유입출금통장", "급여통장", "모으기통장"),
    "1002": ("정기예금", "일년예금"),
    "1003": ("자유적금", "여행적금"),
    "2001": ("국내주식형 펀드", "글로벌채권 펀드"),
    "3100": ("직장인 신용대출", "비상금대출"),
    "3220": ("주택담보대출",),
}
_FOREIGN = ("USD", "EUR")
_CENTS = 100


def _account(making: Making) -> Holding:
    figures = making.figures
    is_minus = making.trait is Trait.MINUS_ACCOUNT and making.number == 0
    kind = "1001" if making.number == 0 else figures.pick("kind", tuple(_PRODUCTS))
    is_foreign = kind == "1001" and making.trait is Trait.RICH and making.number % 5 == 4
    ref = {"account_num": making.unique(12), "seqno": "1"} if kind == "1003" else {"account_num": making.unique(12)}
    entry = {
        "is_consent": "true",
        "is_foreign_deposit": "true" if is_foreign else "false",
        "prod_name": "외화통장" if is_foreign else "마이너스통장" if is_minus else figures.pick("name", _PRODUCTS[kind]),
        "is_minus": "true" if is_minus else "false",
        "account_type": kind,
        "account_status": "03" if making.is_closed else "01",
    }
    return making.holding(ref, entry, kind=kind, is_minus=is_minus)


def _is_foreign(holding: Holding) -> bool:
    return bool(holding.entry["is_foreign_deposit"] == "true")


def _balance(holding: Holding) -> int:
    """Won; below zero where it is overdrawn."""
    return -lending.owed(holding) if holding.is_minus else holding.figures.won("balance", 30_000, 24_000_000)


def _deposit_basic(asked: Asked) -> list[Fields]:
    holding = asked.holding
    common = {"saving_method": "01" if holding.kind == "1003" else "02", "issue_date": holding.figures.day("issued", 2012, 2024)}
    if _is_foreign(holding):
        return [{"currency_code": currency, **common} for currency in _FOREIGN]
    row = {"currency_code": "KRW", **common}
    if holding.kind in ("1002", "1003"):
        row |= {"exp_date": holding.figures.day("ends", 2027, 2029), "commit_amt": money(_balance(holding))}
    if holding.kind == "1003":
        row["monthly_paid_in_amt"] = money(holding.figures.won("monthly", 50_000, 500_000))
    return [row]


def _deposit_detail(asked: Asked) -> list[Fields]:
    holding = asked.holding
    rate = f"{holding.figures.number('rate', 10, 420) / _CENTS:.3f}"
    if _is_foreign(holding):
        cents = {currency: holding.figures.number(currency, 1_000, 900_000) for currency in _FOREIGN}
        amounts = {currency: f"{value // _CENTS}.{value % _CENTS:02}" for currency, value in cents.items()}
        return [
            {"currency_code": each, "balance_amt": amount, "withdrawable_amt": amount, "offered_rate": rate}
            for each, amount in amounts.items()
        ]
    balance = _balance(holding)
    limit = holding.figures.won("limit", 4_000_000, 9_000_000) if holding.is_minus else 0
    row = {"currency_code": "KRW", "balance_amt": money(balance), "withdrawable_amt": money(balance + limit), "offered_rate": rate}
    if holding.kind == "1003":
        row["last_paid_in_cnt"] = str(holding.figures.number("paid", 1, 36))
    return [row]


def _deposit_transactions(asked: Asked) -> list[Fields]:
    return [
        {
            "trans_dtime": each.dtime,
            "trans_no": each.number,
            "trans_type": "03" if each.incoming else "02",
            "trans_class": "이체",
            "currency_code": "KRW",
            "trans_amt": money(each.amount),
            "balance_amt": money(each.balance),
            "trans_memo": each.memo,
        }
        for each in movements(asked.holding.figures, asked.period, _balance(asked.holding))
    ]


def _fund(holding: Holding) -> tuple[int, int]:
    """Units held, won per unit."""
    return holding.figures.number("units", 100, 9_000), holding.figures.number("price", 850, 1_900)


def _fund_basic(asked: Asked) -> Fields:
    figures = asked.holding.figures
    return {
        "standard_fund_code": f"KR5{figures.digits('fund', 9)}",
        "paid_in_type": figures.pick("paid", ("01", "02")),
        "issue_date": figures.day("issued", 2015, 2024),
    }


def _fund_detail(asked: Asked) -> Fields:
    units, price = _fund(asked.holding)
    paid = units * price * asked.holding.figures.number("cost", 80, 115) // 100
    amount = money(units * price)
    return {"currency_code": "KRW", "balance_amt": amount, "eval_amt": amount, "inv_principal": money(paid), "fund_num": f"{units}.00"}


def _fund_transactions(asked: Asked) -> list[Fields]:
    units, price = _fund(asked.holding)
    return [
        {
            "trans_dtime": each.dtime,
            "trans_no": each.number,
            "trans_type": "01" if each.incoming else "02",
            "currency_code": "KRW",
            "base_amt": money(price),
            "trans_fund_num": f"{each.amount / price:.2f}",
            "trans_amt": money(each.amount),
            "balance_amt": money(each.balance),
        }
        for each in movements(asked.holding.figures, asked.period, units * price)
    ]


RESOURCES: dict[str, Resource] = {
    "BA01": Listing(stem="account", make=_account, ordinary=(1, 4), has_reg_date=True),
    "BA02": Detail(of="BA01", stem="basic", tell=_deposit_basic, kinds="1"),
    "BA03": Detail(of="BA01", stem="detail", tell=_deposit_detail, kinds="1"),
    "BA04": Detail(of="BA01", stem="trans", tell=_deposit_transactions, kinds="1"),
    "BA11": Detail(of="BA01", tell=_fund_basic, kinds="2"),
    "BA12": Detail(of="BA01", tell=_fund_detail, kinds="2"),
    "BA13": Detail(of="BA01", stem="trans", tell=_fund_transactions, kinds="2"),
    "BA21": Detail(of="BA01", tell=lending.basic, kinds="3"),
    "BA22": Detail(of="BA01", tell=lending.detail, kinds="3"),
    "BA23": Detail(of="BA01", stem="trans", tell=lending.transactions, kinds="3"),
    **irp.RESOURCES,
}
