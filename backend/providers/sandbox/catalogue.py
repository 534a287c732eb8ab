"""Every resource that the sandbox's providers have, by industry and API code: `catalogue.toml`, and what it cannot say.

Foreign accounts, overdrafts and card bills are written out here; an entry names them with `by`. RULE: pure but for reading that file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import msgspec

from backend.events import Industry
from backend.providers.sandbox.figures import Period, money
from backend.providers.sandbox.people import Asked, Detail, Fields, Holding, Listing, Making, Resource, Trait
from backend.providers.sandbox.specs import Entry, Language

_OVERDRAFT = "currency_code=KRW, balance_amt=$0 - overdrawn, withdrawable_amt=$limit - overdrawn, offered_rate=0.10..2.00"
_DEPOSIT = "currency_code=KRW, balance_amt=$balance, withdrawable_amt=$balance, offered_rate=0.10..4.20"
_FOREIGN = "currency_code={currency}, balance_amt=%units, withdrawable_amt=%units, offered_rate=0.10..2.00"
_APPROVAL = (
    "approved_dtime={day}123000, approved_num={day}1, status=01, pay_type=01, merchant_name=골목서점|동네마트|모퉁이커피|바람주유소, "
    "merchant_regno=#10, approved_amt=$small"
)

_CHARGE = (
    "card_id={card_id}, paid_dtime={approved_dtime}, trans_no={approved_num}, paid_amt={approved_amt}, currency_code=KRW, "
    "merchant_name={merchant_name}, merchant_regno={merchant_regno}, credit_fee_amt=0.00, prod_type=01"
)
_REVOLVING = (
    "req_date=@2024-2025, end_date=@2029-2030, min_pay_rate=10.000, min_pay_amt=$lump, agreed_pay_rate=30.000, agreed_pay_amt=$lump, "
    "remained_amt=$lump + monthly"
)
_DUE = "seqno=0001, charge_amt={total}, charge_day=14, charge_month={month}, paid_out_date={month}14"

_FILE = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))
_LANGUAGE = Language(_FILE.pop("facts"), _FILE.pop("moving"), _FILE.pop("texts"))
_ENTRIES = msgspec.convert(_FILE, dict[str, dict[str, Entry]])
_overdraft, _deposit, _foreign = map(_LANGUAGE.writer, (_OVERDRAFT, _DEPOSIT, _FOREIGN))
_approval, _charge, _due, _revolving = map(_LANGUAGE.writer, (_APPROVAL, _CHARGE, _DUE, _REVOLVING))


def _account(plain: Holding, making: Making) -> Holding:
    """A bank account; overdrawn ones and foreign ones are those of named people."""
    if making.trait is Trait.MINUS_ACCOUNT and making.number == 0:
        return making.holding(plain.ref, {**plain.entry, "prod_name": "마이너스통장", "is_minus": "true"}, kind="1001", is_minus=True)
    if making.trait is Trait.RICH and making.number % 5 == 4:
        entry = {**plain.entry, "prod_name": "외화통장", "account_type": "1001", "is_foreign_deposit": "true"}
        return making.holding(plain.ref, entry, kind="1001")
    return making.holding({**plain.ref, "seqno": "1"}, plain.entry, kind=plain.kind) if plain.kind == "1003" else plain


def _deposit_rows(asked: Asked) -> list[Fields]:
    account = asked.holding
    if account.entry["is_foreign_deposit"] == "true":
        return [_foreign(account.figures.under(each), {"currency": each}) for each in ("USD", "EUR")]
    fields = (_overdraft if account.is_minus else _deposit)(account.figures, {})
    return [fields | {"last_paid_in_cnt": str(account.figures.number("times", 1, 36))} if account.kind == "1003" else fields]


def _approved(card: Holding, period: Period) -> list[Fields]:
    return [_approval(card.figures.under(day), {"day": day}) for day in period.days(3, 11, 19, 27)]


def _charged(asked: Asked, month: str) -> list[Fields]:
    """What was bought with every card in the month before."""
    year, before = (int(month[:4]), int(month[4:]) - 1) if month[4:] != "01" else (int(month[:4]) - 1, 12)
    period = Period(date(year, before, 1), date(year, before, 28))
    return [_charge(card.figures, {**card.ref, **each}) for card in asked.others("CD01") for each in _approved(card, period)]


def _bills(asked: Asked) -> list[Fields]:
    totals = {month: sum(int(each["paid_amt"].partition(".")[0]) for each in _charged(asked, month)) for month in asked.period.months()}
    return [_due(asked.holding.figures, {"month": month, "total": money(total)}) for month, total in totals.items() if total]


def _revolvings(asked: Asked) -> list[Fields]:
    """Of those whose CD23 says that they pay a part only."""
    figures = asked.holding.figures
    return [_revolving(figures, {})] if asked.others("CD01") and figures.pick("is_revolving", ("true", "false")) == "true" else []


_TOLD: dict[str, Callable[[Asked], Fields | list[Fields]]] = {
    "deposit": _deposit_rows,
    "approvals": lambda asked: _approved(asked.holding, asked.period),
    "bills": _bills,
    "bill": lambda asked: _charged(asked, asked.params["charge_month"]),
    "revolving": _revolvings,
    "loans": lambda asked: {
        "is_loan_short_term": "true" if asked.others("CD32") else "false",
        "is_loan_long_term": "true" if asked.others("CD33") else "false",
    },
    "none": lambda _: [],
}


def _resource(entry: Entry) -> Resource:
    if entry.by in _TOLD:
        return Detail(of=entry.of or None, kinds=entry.kinds, stem=entry.stem, tell=_TOLD[entry.by])
    made = _LANGUAGE.resource(entry)
    if entry.by == "account" and isinstance(made, Listing):
        plain = made.make
        return msgspec.structs.replace(made, make=lambda making: _account(plain(making), making))
    return made


_WITH_IRP = (Industry.BANK, Industry.INVEST, Industry.INSU)
CATALOGUE: dict[Industry, dict[str, Resource]] = {
    industry: {code: _resource(each) for code, each in (_ENTRIES[industry] | (_ENTRIES["irp"] if industry in _WITH_IRP else {})).items()}
    for industry in Industry
}
