"""Who the invented people are, and what they hold at a provider: derived from the `sub`, never stored.

Any `sub` is an ordinary person with a few assets at each provider. Named ones show the corner cases: `rich`, `empty`, `many-pages`,
`minus-account`, `closed-account`, `consent-expired`, each also with a number behind (`rich-2`) for tests that need several of a kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from enum import StrEnum
from typing import Any, cast

from msgspec import Struct
from msgspec.structs import replace

from backend.events import Industry
from backend.providers.sandbox.bounded import Bounded
from backend.providers.sandbox.figures import Figures, Period

Fields = dict[str, Any]

_NUMBERED = re.compile(r"(.+?)(-\d+)?")
_REMEMBERED = 20_000  # lists of holdings
MANY = 120  # assets of `many-pages` in each main list
PAGE = 50  # what a provider gives per page at most, whatever the limit


class Trait(StrEnum):
    """What is special about a person."""

    ORDINARY = ""
    RICH = "rich"  # 30 to 36 assets in each main list, one at least in every other
    EMPTY = "empty"  # nothing anywhere: counts of "0"
    MANY_PAGES = "many-pages"
    MINUS_ACCOUNT = "minus-account"  # the first bank account is overdrawn: deposit and loan at once
    CLOSED_ACCOUNT = "closed-account"  # the last asset of each main list is closed: its details answer 40305
    CONSENT_EXPIRED = "consent-expired"  # data APIs answer 40106, the token being good


def trait_of(user: str) -> Trait:
    """By the name alone."""
    found = _NUMBERED.fullmatch(user)
    name = found[1] if found else ""
    return Trait(name) if name in set(Trait) else Trait.ORDINARY


class Holding(Struct, frozen=True, kw_only=True):
    """One asset of one person at one provider."""

    figures: Figures  # everything else about it is drawn from these
    ref: Fields  # the request parameters that name it: {"account_num": …, "seqno": …}
    entry: Fields  # how its list shows it, beside `ref`
    kind: str = ""  # the standard's type code
    is_closed: bool = False
    is_minus: bool = False
    many: bool = False  # rows, where its details have rows

    def on(self, day: date) -> Holding:
        """As it is on a day."""
        return replace(self, figures=self.figures.on(day))


class Making(Struct, frozen=True):
    """What a list is told about the asset that it is to invent."""

    figures: Figures
    number: int  # from 0
    trait: Trait
    is_closed: bool

    def unique(self, digits: int) -> str:
        """An account or contract number that no other asset of this person at this provider has."""
        return f"{self.figures.digits('number', digits - 3)}{self.number:03}"

    def holding(self, ref: Fields, entry: Fields, *, kind: str = "", is_minus: bool = False) -> Holding:
        """The asset."""
        many = self.trait is Trait.MANY_PAGES and self.number == 0
        return Holding(figures=self.figures, ref=ref, entry=entry, kind=kind, is_closed=self.is_closed, is_minus=is_minus, many=many)


class Listing(Struct, frozen=True, kw_only=True):
    """A list call: the person's assets of one sort, as `<stem>_cnt` and `<stem>_list`."""

    stem: str
    make: Callable[[Making], Holding]
    ordinary: tuple[int, int]  # how many an ordinary person has: least, most
    is_main: bool = True  # the traits of named people apply to main lists
    has_reg_date: bool = False


class Asked(Struct, frozen=True):
    """What a detail call is about."""

    holding: Holding  # of a call about no asset: one that stands for the person
    params: dict[str, str]
    period: Period
    others: Callable[[str], tuple[Holding, ...]]  # the person's holdings by the code of their list


class Detail(Struct, frozen=True, kw_only=True):
    """A call about one asset, or (`of` None) about the person."""

    of: str | None
    tell: Callable[[Asked], Fields | list[Fields]]
    stem: str = ""  # "": single fields; else rows, as `<stem>_cnt` and `<stem>_list`
    kinds: str = ""  # first characters of the kinds of holding that it knows; "": all
    head: Callable[[Asked], Fields] = lambda _: {}  # fields beside the rows


Resource = Listing | Detail


class People:
    """Every person's holdings. `catalogue`: the resources of each industry by API code."""

    def __init__(self, seed: str, catalogue: dict[Industry, dict[str, Resource]]) -> None:
        self._seed = seed
        self._catalogue = catalogue
        self._known: Bounded[tuple[str, str, str], tuple[Holding, ...]] = Bounded(_REMEMBERED)

    def figures(self, org_code: str, user: str) -> Figures:
        """What is drawn for this person at this provider."""
        return Figures(self._seed, org_code, user)

    def holdings(self, industry: Industry, org_code: str, user: str, code: str) -> tuple[Holding, ...]:
        """What the list with this code shows, in its order."""
        known = self._known.get((org_code, user, code))
        if known is None:
            listing = cast("Listing", self._catalogue[industry][code])
            known = _invent(self.figures(org_code, user).under(code), listing, trait_of(user))
            self._known[org_code, user, code] = known
        return known

    def person(self, org_code: str, user: str) -> Holding:
        """Stands for the person where a call is about no asset."""
        return Making(self.figures(org_code, user), 0, trait_of(user), is_closed=False).holding({}, {})


def _invent(figures: Figures, listing: Listing, trait: Trait) -> tuple[Holding, ...]:
    count = figures.number("count", *listing.ordinary)
    if trait is Trait.EMPTY:
        count = 0
    elif trait is Trait.RICH:
        count = figures.number("rich", 30, 36) if listing.is_main else max(count, 1)
    elif trait is Trait.MANY_PAGES and listing.is_main:
        count = MANY
    closed = count - 1 if trait is Trait.CLOSED_ACCOUNT and listing.is_main else -1
    return tuple(listing.make(Making(figures.under(str(n)), n, trait, n == closed)) for n in range(count))
