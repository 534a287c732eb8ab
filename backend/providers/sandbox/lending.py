"""What is owed, and how it is paid back: loans at banks, insurers and loan companies tell of it alike."""

from __future__ import annotations

from backend.providers.sandbox.figures import money
from backend.providers.sandbox.people import Asked, Fields, Holding


def owed(holding: Holding) -> int:
    """Won that are still to be paid back."""
    if holding.is_minus:
        return holding.figures.won("overdrawn", 300_000, 4_000_000)
    return holding.figures.won("owed", 2_000_000, 180_000_000)


def basic(asked: Asked) -> Fields:
    """BA21, IS12, CP02."""
    figures = asked.holding.figures
    return {
        "issue_date": figures.day("issued", 2016, 2024),
        "exp_date": figures.day("ends", 2028, 2050),
        "last_offered_rate": _rate(asked.holding),
        "repay_date": f"{figures.number('repay', 1, 28):02}",
        "repay_method": figures.pick("method", ("01", "02", "03")),
        "repay_org_code": "A1MOABK001",
        "repay_account_num": figures.digits("from", 12),
    }


def _rate(holding: Holding) -> str:
    """Per cent a year."""
    return f"{holding.figures.number('loan rate', 290, 890) / 100:.3f}"


def detail(asked: Asked) -> Fields:
    """BA22, IS13, CP03: what is owed of what was lent."""
    figures, amount = asked.holding.figures, owed(asked.holding)
    lent = amount + figures.won("paid back", 0, 20_000_000)
    told = {"currency_code": "KRW", "balance_amt": money(amount), "loan_principal": money(lent)}
    if asked.holding.is_minus:
        return told
    return {**told, "next_repay_date": figures.day("next", 2027, 2027)}


def transactions(asked: Asked) -> list[Fields]:
    """BA23, IS14, CP04: interest each month; the principal is paid at the end."""
    return [_interest(asked, day) for day in asked.period.days(20)]


def _interest(asked: Asked, day: str) -> Fields:
    amount = owed(asked.holding)
    interest = amount * asked.holding.figures.number("loan rate", 290, 890) // 10_000 // 12
    one = {
        "int_start_date": f"{day[:6]}01",
        "int_end_date": day,
        "int_rate": _rate(asked.holding),
        "applied_int_amt": money(interest),
        "int_type": "01",
    }
    return {
        "trans_dtime": f"{day}060000",
        "trans_no": f"{day}1",
        "trans_type": "03",
        "currency_code": "KRW",
        "trans_amt": money(interest),
        "balance_amt": money(amount),
        "principal_amt": money(0),
        "int_amt": money(interest),
        "int_cnt": "1",
        "int_list": [one],
    }
