"""Every resource that the sandbox's providers have, by industry and API code: `catalogue.toml`, and what it cannot say.

Foreign accounts, overdrafts, card bills and card loans take a few lines of code; an entry names them with `by`.
RULE: pure but for reading that file.
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

_FILE = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8"))
_LANGUAGE = Language(_FILE.pop("facts"), _FILE.pop("moving"), _FILE.pop("texts"))
_ENTRIES = msgspec.convert(_FILE, dict[str, dict[str, Entry]])
_overdraft, _deposit, _foreign = map(_LANGUAGE.writer, ("<overdraft>", "<deposit>", "<foreign>"))
_approval, _charge, _due, _revolving = map(_LANGUAGE.writer, ("<approval>", "<charge>", "<due>", "<revolving>"))


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


_LOANS = (("short", "CD32"), ("long", "CD33"))
_TOLD: dict[str, Callable[[Asked], Fields | list[Fields]]] = {
    "deposit": _deposit_rows,
    "approvals": lambda asked: _approved(asked.holding, asked.period),
    "bills": _bills,
    "bill": lambda asked: _charged(asked, asked.params["charge_month"]),
    "revolving": _revolvings,
    "loans": lambda asked: {f"is_loan_{each}_term": "true" if asked.others(code) else "false" for each, code in _LOANS},
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
