"""The morning message in words, Korean and English. RULE: pure.

In: a `Compared` and the names of institutions. Out: lines of text: the title, both days, one line with all categories, and then what
there is to say of it: which hours, what moved a category that burns or has dropped, and what is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum

from backend.clock import KST
from backend.events import Industry
from backend.reporting.comparison import Category, Cause, Compared, History, Mark


class Language(StrEnum):
    KO = "ko"
    EN = "en"


NAMES: Mapping[Language, Mapping[Industry, str]] = {
    Language.KO: {
        Industry.BANK: "은행",
        Industry.CARD: "카드",
        Industry.INVEST: "투자",
        Industry.INSU: "보험",
        Industry.EFIN: "전금",
        Industry.CAPITAL: "대출",
        Industry.TELECOM: "통신",
    },
    Language.EN: {industry: industry.value for industry in Industry},
}
MARKS: Mapping[Mark, str] = {Mark.FLAME: "🔥", Mark.DROP: "📉"}

_DAYS = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")


def morning_text(compared: Compared, names: Mapping[str, str], language: Language) -> str:
    """The whole message. `names` of institutions by code; a code without one stands for itself."""
    return "\n".join(_lines(compared, names, _Korean() if language is Language.KO else _English()))


def _lines(compared: Compared, names: Mapping[str, str], words: _Korean | _English) -> Iterator[str]:
    yield words.title
    yield words.days(_dated(compared.before), _dated(compared.day))
    if compared.history is History.NONE:
        yield words.no_history
        return
    yield " · ".join(_category(each, words) for each in compared.categories)
    yield words.hours(f"{compared.until.astimezone(KST):%H:%M}" if day_is_open(compared) else "24:00")
    for each in compared.categories:
        if each.mark is not None and each.cause is not None:
            name = names.get(each.cause.org_code, each.cause.org_code)
            yield words.cause(f"{words.names[each.industry]} {MARKS[each.mark]}", f"{name}({each.cause.org_code})", each.cause)
    if compared.history is History.PARTIAL and compared.known_since is not None:
        yield words.partial(f"{compared.known_since.astimezone(KST):%Y-%m-%d %H:%M}")


def day_is_open(compared: Compared) -> bool:
    """Whether only a part of the day is compared."""
    return compared.until.astimezone(KST).date() == compared.day


def _category(category: Category, words: _Korean | _English) -> str:
    ratio, name = category.figure.ratio, words.names[category.industry]
    none = words.new if category.figure.calls else words.nothing
    shown = none if ratio is None else words.times(ratio)
    return f"{name} {shown}" + (f" {MARKS[category.mark]}" if category.mark is not None else "")


def _dated(day: date) -> str:
    return f"{day.isoformat()}({_DAYS[day.weekday()]})"


class _Korean:
    names = NAMES[Language.KO]
    title = "[제공기관 트래픽 증가 알림]"
    no_history = "지난 주 같은 시간의 기록이 없어 비교할 수 없습니다."
    new = "지난 주 호출 없음"
    nothing = "호출 없음"

    def days(self, before: str, day: str) -> str:
        return f"지난 주 {before}와 비교하여 오늘 {day}"

    def times(self, ratio: Decimal) -> str:
        return f"{ratio}배"

    def hours(self, until: str) -> str:
        return f"두 날 모두 00:00~{until}(KST)의 호출 수를 비교했습니다."

    def partial(self, since: str) -> str:
        return f"기록이 {since}에 시작되어 지난 주 호출 수가 실제보다 적을 수 있습니다."

    def cause(self, category: str, provider: str, cause: Cause) -> str:
        grew = cause.figure.more >= 0
        asker = "정기 전송" if cause.scheduled else "사용자 요청"
        moved = f"{abs(cause.figure.more):,}건 {'증가' if grew else '감소'}"
        share = f", 전체 {'증가' if grew else '감소'}분의 {cause.share:.0f}%" if cause.share is not None else ""
        counts = f"{cause.figure.before:,}건 → {cause.figure.calls:,}건 ({moved}{share})"
        return f"• {category} 원인: {provider} {asker} {counts}{self._users(cause)}"

    def _users(self, cause: Cause) -> str:
        if cause.users is None or cause.by_users is None:
            return ""
        counts = f"사용자 {cause.users.before:,}명 → {cause.users.calls:,}명({cause.users.ratio}배), 사용자당 호출 {cause.per_user}배"
        return f". {'사용자 수가' if cause.by_users else '사용자당 호출이'} 움직였습니다: {counts}"


class _English:
    names = NAMES[Language.EN]
    title = "[Provider traffic alert]"
    no_history = "Nothing is recorded of the same time last week: there is nothing to compare with."
    new = "no calls last week"
    nothing = "no calls"

    def days(self, before: str, day: str) -> str:
        return f"Today {day} compared with last week's {before}"

    def times(self, ratio: Decimal) -> str:
        return f"{ratio}x"

    def hours(self, until: str) -> str:
        return f"Calls from 00:00 to {until} KST, on both days."

    def partial(self, since: str) -> str:
        return f"Records begin at {since}: last week's calls may be more than what is compared."

    def cause(self, category: str, provider: str, cause: Cause) -> str:
        asker = "scheduled calls" if cause.scheduled else "users' calls"
        share = f", {cause.share:.0f} % of the whole change" if cause.share is not None else ""
        moved = f"{cause.figure.before:,} → {cause.figure.calls:,} ({cause.figure.more:+,}{share})"
        return f"• {category} moved by {provider}, {asker}: {moved}{self._users(cause)}"

    def _users(self, cause: Cause) -> str:
        if cause.users is None or cause.by_users is None:
            return ""
        more = "more" if cause.figure.more >= 0 else "fewer"
        what = f"{more} users" if cause.by_users else f"{more} calls per user"
        counts = f"users {cause.users.before:,} → {cause.users.calls:,} ({cause.users.ratio}x), calls per user {cause.per_user}x"
        return f". It is {what}: {counts}"
