"""How the standard's JSON becomes real types, and real types become the asset's words. RULE: pure.

In: bytes from a provider. Out: frozen structs, or `Malformed`; never another exception, whatever the bytes are.
On the wire every value is a string (standard, section 1): `Amount` is a Decimal, `Day` a date, `Count` an int, a flag "true" or "false".
Strict on shape and size, indifferent to fields that we do not know. Account and card numbers leave this room only through `masked`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from backend.clock import KST
from backend.providers.contract import CollectedBalance

T = TypeVar("T")

WON = "KRW"

_AMOUNT = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,10})?")
_DAY = re.compile(r"[0-9]{8}")
_MOMENT = re.compile(r"[0-9]{14}")
_COUNT = re.compile(r"[0-9]{1,15}")


class Malformed(ValueError):
    """The bytes are not what the standard describes. Its message holds none of them."""


class Amount(Decimal):
    """F(p,s): a finite decimal of at most 18 places before the point."""


class Day(date):
    """DATE: YYYYMMDD."""


class Moment(datetime):
    """DTIME: YYYYMMDDhhmmss, in Korean time."""


class Count(int):
    """N: a whole number, not negative."""


class Number(str):
    """An account, card or phone number that is nothing but shown: it leaves as `masked` only, and prints as nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "…"


class Status(StrEnum):
    """How an asset is, in our words."""

    ACTIVE = "active"
    CLOSED = "closed"
    LAPSED = "lapsed"  # a policy whose premium was not paid


Text = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00]*\Z")]  # PostgreSQL knows no NUL
Identifier = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
Segment = Annotated[str, Meta(max_length=200, pattern=r"^(?!\.\.?\Z)[\x21-\x7e]+\Z")]  # goes into a path: never `.` or `..`
Cursor = Annotated[str, Meta(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Timestamp = Annotated[str, Meta(pattern=r"^[0-9]{0,14}\Z")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
Code = Annotated[str, Meta(max_length=20, pattern=r"^[0-9A-Za-z]*\Z")]  # a code of one of the standard's tables


MOST_ROWS = Meta(max_length=500)  # `limit` of one page


class Page(Struct, frozen=True, kw_only=True):
    """What every list may carry. An absent or empty `next_page` ends it."""

    next_page: Cursor | None = None
    search_timestamp: Timestamp | None = None  # of the first page; "" or "0": the provider keeps none


class Envelope(Struct, frozen=True):
    """What every answer may carry beside its data."""

    rsp_code: str | None = None
    error: str | None = None  # token endpoints


def code_of(body: bytes) -> str | None:
    """The rsp_code or OAuth error of any body; None: it has none."""
    try:
        envelope = decode(Envelope, body)
    except Malformed:
        return None
    return envelope.rsp_code or envelope.error


def decode(kind: type[T], body: bytes) -> T:
    """Raises `Malformed`."""
    try:
        value: T = _decoder(kind).decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Malformed(type(exc).__name__) from None
    return value


def reader(kind: type[T]) -> Callable[[str | None, bytes], T]:
    """A `Call.read` for answers that always carry data."""
    return lambda _code, body: decode(kind, body)


def masked(number: str) -> str:
    """An account, card or phone number as people may see it: the last four characters, the last two of a short one, else stars.

    Hyphens and spaces stay where they were. The only way for such a number to leave this room.
    """
    plain = sum(char.isalnum() or char == "*" for char in number)
    shown = 4 if plain >= 8 else 2 if plain >= 5 else 0
    hidden = plain - shown
    out = []
    for char in number:
        if char in "- ":
            out.append(char)
        elif char.isalnum() or char == "*":
            out.append("*" if hidden > 0 else char)
            hidden -= 1
    return "".join(out)


def plain(amount: Decimal) -> str:
    """A decimal string without exponent, with two places at least for what has a fraction: `1234`, `12.50`, `0.125`."""
    text = format(amount or Decimal(), "f")  # and never `-0`
    if "." not in text:
        return text
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction.ljust(2, '0')}" if fraction else whole


def balance(amount: Decimal | None, currency: str | None = None) -> CollectedBalance | None:
    """None: not known."""
    return None if amount is None else CollectedBalance(Decimal(amount), currency or WON)


def details(**values: object) -> dict[str, Any]:
    """Details as JSON values, without what is unknown: amounts as decimal strings, days as ISO dates, numbers masked."""
    return {name: _shown(value) for name, value in values.items() if value is not None}


def facts(told: Struct, *but: str) -> dict[str, Any]:
    """Every field of an answer or of one of its rows but these, as `details` under the standard's own names."""
    shown = {}
    for name in told.__struct_fields__:
        if name not in _OF_PAGES and name not in but and (value := getattr(told, name)) is not None:
            shown[name] = _shown(value)
    return shown


def named(code: str | None, names: Mapping[str, str]) -> str:
    """The word for a code of the standard; a code that the table does not know stays as it is."""
    return names.get(code or "", code or "unknown")


def _shown(value: object) -> object:
    show = _SHOW.get(type(value))
    if show is not None:
        return show(value)
    return facts(value) if isinstance(value, Struct) else value


_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[Any]) -> msgspec.json.Decoder[Any]:
    """Building one costs as much as reading a whole page with it."""
    if kind not in _decoders:
        _decoders[kind] = msgspec.json.Decoder(kind, strict=False, dec_hook=_value)
    return _decoders[kind]


def _value(kind: type, raw: object) -> object:
    """A ValueError from here becomes a ValidationError."""
    if not isinstance(raw, str):
        raise ValueError("a string is needed")
    make = _TYPES.get(kind)
    if make is None:
        raise NotImplementedError(kind.__name__)
    return make(raw)


def _amount(raw: str) -> Amount:
    return Amount(_matched(_AMOUNT, raw))


def _day(raw: str) -> Day:
    return Day.fromisoformat(_matched(_DAY, raw))


def _moment(raw: str) -> Moment:
    _matched(_MOMENT, raw)
    return Moment.fromisoformat(f"{raw[:8]}T{raw[8:]}").replace(tzinfo=KST)


def _matched(pattern: re.Pattern[str], raw: str) -> str:
    if not pattern.fullmatch(raw):
        raise ValueError("is not of the standard's form")
    return raw


_NUMBER = re.compile(r"[^\x00-\x1f\x7f]{0,200}")
_TYPES: dict[type, Callable[[str], object]] = {
    Amount: _amount,
    Day: _day,
    Moment: _moment,
    Count: lambda raw: Count(_matched(_COUNT, raw)),
    Number: lambda raw: Number(_matched(_NUMBER, raw)),
}
_OF_PAGES = frozenset(Page.__struct_fields__)
_SHOW: dict[type, Callable[[Any], object]] = {
    Decimal: plain,
    Amount: plain,
    Day: Day.isoformat,
    Moment: Moment.isoformat,
    Number: masked,
    Count: int.__repr__,
    tuple: lambda rows: [_shown(each) for each in rows],
}
