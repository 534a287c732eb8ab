"""The small language of `catalogue.toml`, in which people and resources are written down as data.

A spec is `name=value, name=value`. Values: `$fact` money, `%fact` a bare number (both take `a + b`, `a - b`, `a * b`, left to right),
`@2012-2024` a day, `2.90..8.90` a rate, `a|b` one of them, `03/02` incoming / outgoing or open / closed, `#9` nine digits, `{word}` a
word of the row, of the asset or of the request; anything else stands for itself. `stem:=a=1; b=2` is a list of one row, with its count.
Everything is drawn from the asset's own figures on the day that is asked for. RULE: pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta

from msgspec import Struct

from backend.providers.sandbox.figures import Figures, money
from backend.providers.sandbox.people import MANY, Asked, Detail, Fields, Holding, Listing, Making, Resource

Words = Mapping[str, str]
Facts = Mapping[str, tuple[int, int, int]]
Writer = Callable[[Figures, Words], Fields]

_WORD = re.compile(r"\{(\w+)\}|#(\d+)")
_RATE = re.compile(r"(\d+\.\d\d)\.\.(\d+\.\d\d)")
_DAY = re.compile(r"@(\d{4})-(\d{4})")
_TERM = re.compile(r"([-+*]?)\s*(\w+)")
_MEMOS = ("생활비", "정기이체", "모임회비", "용돈")


class Entry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One API in the file: a list (`ref` is given), single fields (no `stem`), or rows."""

    spec: str = ""
    by: str = ""  # instead of the spec, or on top of a list: a function of `catalogue.py`
    stem: str = ""  # rows are `<stem>_cnt` and `<stem>_list`
    ref: str = ""  # of a list: the parameters that name an asset; words: number, kind, name
    count: tuple[int, int] = (0, 0)  # of a list: how many an ordinary person has
    names: dict[str, str] = {}  # of a list: type code to product names
    first: str = ""  # of a list: the type code of a person's first asset
    main: bool = True
    reg_date: bool = False
    of: str = ""  # the list whose assets it is about; "": about the person
    kinds: str = ""  # which of them: the first characters of the type code
    head: str = ""  # fields beside the rows
    months: bool = False  # a row per month of the period; words: month
    days: tuple[int, ...] = ()  # a row on these days of each month; words: day, month
    some: tuple[int, int] | None = None  # so many rows, each with figures of its own
    balance: str = ""  # rows that lead to this balance; words: day, time, no, amount, after, memo
    overdrawn: str = ""  # of a minus account: the balance, or the spec, instead


class Language:
    """Reads specs. `facts`: what can be drawn (least, most, step); `moving`: by how many percent; `texts`: what `<name>` stands for."""

    def __init__(self, facts: Facts, moving: Mapping[str, int], texts: Mapping[str, str]) -> None:
        self._facts = facts
        self._moving = moving
        self._texts = texts

    def fact(self, figures: Figures, name: str) -> int:
        """One fact, or a sum, difference, product of facts and whole numbers."""
        total = 0
        for sign, term in _TERM.findall(name):
            value = int(term) if term.isdigit() else self._drawn(figures, term)
            total = total * value if sign == "*" else total - value if sign == "-" else total + value
        return total

    def writer(self, spec: str) -> Writer:
        """A spec as a function of figures and words."""
        whole = re.sub(r"<(\w+)>", lambda m: self._texts[m[1]], spec)
        pairs = [pair.split("=", 1) for pair in whole.split(", ")] if whole else []
        values = [(name, self._value(name, text)) for name, text in pairs if name[-1] != ":"]
        lists = [(name[:-1], self.writer(text.replace("; ", ", "))) for name, text in pairs if name[-1] == ":"]

        def write(figures: Figures, words: Words) -> Fields:
            fields: Fields = {name: value(figures, words) for name, value in values}
            for stem, only in lists:
                fields |= {f"{stem}_cnt": "1", f"{stem}_list": [only(figures, words)]}
            return fields

        return write

    def resource(self, entry: Entry) -> Resource:
        """What an entry describes."""
        if entry.ref:
            return self._listing(entry)
        spec, head = self.writer(entry.spec), self.writer(entry.head)
        if not entry.stem:
            minus = self.writer(entry.overdrawn) if entry.overdrawn else spec

            def fields(asked: Asked) -> Fields:
                return (minus if asked.holding.is_minus else spec)(asked.holding.figures, words_of(asked))

            return Detail(of=entry.of or None, kinds=entry.kinds, tell=fields)

        def rows(asked: Asked) -> list[Fields]:
            if not entry.of and not asked.others("CD01"):  # only card companies have answers that are about no asset
                return []
            common = words_of(asked)
            return [spec(figures, common | words) for figures, words in self._each(entry, asked)]

        def heads(asked: Asked) -> Fields:
            return head(asked.holding.figures, words_of(asked))

        return Detail(of=entry.of or None, kinds=entry.kinds, stem=entry.stem, tell=rows, head=heads)

    def _listing(self, entry: Entry) -> Listing:
        ref, spec = self.writer(entry.ref), self.writer(entry.spec)

        def make(making: Making) -> Holding:
            figures, names = making.figures, entry.names
            kind = entry.first if entry.first and making.number == 0 else figures.pick("kind", tuple(names)) if names else ""
            name = figures.pick("name", names[kind].split("|")) if names else ""
            words = {"number": making.unique(12), "kind": kind, "name": name, "way": "out" if making.is_closed else "in"}
            words["date"] = figures.day("date", 2024, 2025)
            return making.holding(ref(figures, words), spec(figures, words), kind=kind)

        return Listing(stem=entry.stem, make=make, ordinary=entry.count, is_main=entry.main, has_reg_date=entry.reg_date)

    def _each(self, entry: Entry, asked: Asked) -> Iterator[tuple[Figures, dict[str, str]]]:
        """The figures and words of each row."""
        figures = asked.holding.figures
        if entry.months:
            yield from ((figures.on(date.fromisoformat(f"{month}28")), {"month": month}) for month in asked.period.months())
        elif entry.days:
            yield from ((figures.on(date.fromisoformat(day)), {"day": day, "month": day[:6]}) for day in asked.period.days(*entry.days))
        elif entry.some:
            count = MANY if asked.holding.many else figures.number(entry.stem, *entry.some)
            yield from ((figures.under(f"row {n}"), {}) for n in range(count))
        elif entry.balance:
            yield from self._movements(asked, entry.overdrawn if asked.holding.is_minus else entry.balance)
        else:
            yield figures, {}

    def _movements(self, asked: Asked, balance: str) -> Iterator[tuple[Figures, dict[str, str]]]:
        """What came and went, the newest first: every balance follows from the movement before it."""
        for day in asked.period.days(*asked.holding.figures.changes):
            figures = asked.holding.figures.on(date.fromisoformat(day))
            after = self.fact(figures, balance)
            moved = after - self.fact(figures.on(date.fromisoformat(day) - timedelta(days=1)), balance)
            words = {"day": day, "month": day[:6], "time": f"{day}093000", "no": f"{day}1", "memo": figures.pick(f"{day} memo", _MEMOS)}
            if moved:
                yield figures, {**words, "amount": money(abs(moved)), "after": money(after), "way": "in" if moved > 0 else "out"}

    def _drawn(self, figures: Figures, name: str) -> int:
        least, most, step = self._facts[name]
        steps, swing = figures.number(name, least // step, most // step), self._moving.get(name)
        if swing:
            steps += steps * figures.number(f"{name} {figures.since}", -swing, swing) // 100
        return steps * step

    def _value(self, name: str, text: str) -> Callable[[Figures, Words], str]:
        """How one value is found."""
        if text[0] == "$":
            return lambda figures, _: money(self.fact(figures, text[1:]))
        if text[0] == "%":
            return lambda figures, _: str(self.fact(figures, text[1:]))
        if found := _DAY.fullmatch(text):
            first, last = int(found[1]), int(found[2])
            return lambda figures, _: figures.day(name, first, last)
        if found := _RATE.fullmatch(text):
            low, high = round(float(found[1]) * 100), round(float(found[2]) * 100)
            return lambda figures, _: f"{figures.number(name, low, high) / 100:.3f}"
        if "|" in text:
            return lambda figures, _: figures.pick(name, text.split("|"))
        if re.fullmatch(r"\w+/\w+", text):
            return lambda _, words: text.split("/")[words["way"] != "in"]
        if _WORD.search(text):
            return lambda figures, words: _WORD.sub(lambda m: words[m[1]] if m[1] else figures.digits(name, int(m[2])), text)
        return lambda _, __: text


def words_of(asked: Asked) -> dict[str, str]:
    """What `{…}` may name: the asset's texts and the request's."""
    entry = {name: value for name, value in asked.holding.entry.items() if isinstance(value, str)}
    return {**asked.params, **entry, **asked.holding.ref}
