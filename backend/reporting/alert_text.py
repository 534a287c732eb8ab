"""Alerts in words, Korean and English: what is wrong, since when, what to do, and what is over. RULE: pure.

In: alerts of one kind, of which something is to be told, and the names of institutions. Out: one text, or None when there is nothing to
say. A fact that is not there is left out; whoever raises an alert says what it knows. Operators' words stand as they wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from backend.clock import KST
from backend.reporting.alarms import AlertKind
from backend.reporting.morning_text import Language
from backend.storage.alerts import Alert

MOST_LINES = 20  # of each part; what is beyond is a number


class Words(Struct, frozen=True):
    """What is said of one kind in one language."""

    title: str
    do: str  # what an operator is to do


WORDS: Mapping[Language, Mapping[AlertKind, Words]] = {
    Language.KO: {
        AlertKind.CIRCUIT: Words(
            "제공기관 호출 차단",
            "할 일: `moa breakers`로 이유를 보고 기관에 문의하세요. 회복되면 스스로 닫힙니다. 잘못된 판단이면 forced_closed로 엽니다.",
        ),
        AlertKind.BATCH_LATE: Words(
            "정기 전송이 제시간에 끝나지 않음",
            "할 일: `moa batch status`로 속도를 보고, 기관의 한도를 올리거나 배치 워커를 더하세요. 남은 링크는 계획에 다시 들어갑니다.",
        ),
        AlertKind.OUT_OF_WINDOW: Words(
            "정기 전송 시간대가 아닌 호출 (50009, 우리 잘못)",
            "할 일: 기관의 np_time과 디렉터리의 transfer_windows를 맞추고 서버 시계를 확인하세요.",
        ),
        AlertKind.QUOTA: Words(
            "정기 전송 한도 초과 (42901)", "할 일: 같은 링크가 한 주에 두 번 읽혔는지 보세요. 그 링크는 다음 주까지 기다립니다."
        ),
        AlertKind.BAD_NODE: Words(
            "한 서버에서만 실패", "할 일: 그 서버의 네트워크와 인증서를 확인하거나 내리세요. 판단에서는 이미 제외되었습니다."
        ),
        AlertKind.LOST_WORK: Words(
            "잃은 작업을 다시 찾음", "할 일: 죽은 워커나 비워진 Valkey가 있는지 로그를 보세요. 찾은 작업은 이미 다시 시작되었습니다."
        ),
        AlertKind.QUEUE_OLD: Words("대기열 지연", "할 일: 워커가 살아 있는지 보고, 살아 있으면 더하세요 (`moa worker`)."),
        AlertKind.CERTIFICATE: Words(
            "인증서 만료 임박", "할 일: 새 인증서를 받아 같은 자리에 두세요. 5초 안에 다시 시작하지 않고 쓰입니다."
        ),
    },
    Language.EN: {
        AlertKind.CIRCUIT: Words(
            "Calls to an institution are refused",
            "To do: see why with `moa breakers`, ask the institution. It closes by itself; if the verdict is wrong, set forced_closed.",
        ),
        AlertKind.BATCH_LATE: Words(
            "The weekly batch will not finish in time",
            "To do: see the pace with `moa batch status`; raise the limit or add batch workers. What is left is planned again.",
        ),
        AlertKind.OUT_OF_WINDOW: Words(
            "Scheduled calls outside of the transfer window (50009, our fault)",
            "To do: bring transfer_windows in the directory in line with the institution's np_time, and check this machine's clock.",
        ),
        AlertKind.QUOTA: Words(
            "Scheduled calls beyond the quota (42901)",
            "To do: see whether links were read twice in one week. These links wait for the next one.",
        ),
        AlertKind.BAD_NODE: Words(
            "Calls fail on one node alone",
            "To do: check that node's network and certificates, or take it down. What it says is no evidence already.",
        ),
        AlertKind.LOST_WORK: Words(
            "Lost work was found",
            "To do: look in the logs for a worker that died or a Valkey that was emptied. What was found has been asked for again.",
        ),
        AlertKind.QUEUE_OLD: Words("A queue is late", "To do: see whether its workers live; if they do, add some (`moa worker`)."),
        AlertKind.CERTIFICATE: Words(
            "A certificate ends soon", "To do: put a new one in its place. It is used within five seconds, without a restart."
        ),
    },
}

_REASONS: Mapping[Language, Mapping[str, str]] = {
    Language.KO: {
        "failure_rate": "실패율 초과",
        "slow_rate": "느린 응답",
        "failures_in_a_row": "연속 실패",
        "maintenance": "기관 점검",
    },
    Language.EN: {},
}


def alert_text(alerts: Sequence[Alert], names: Mapping[str, str], language: Language) -> str | None:
    """What is to be told of alerts of one kind; an unknown kind stands for itself."""
    begun = [each for each in alerts if each.told_at is None]
    over = [each for each in alerts if each.closed_at is not None and each.end_told_at is None]
    if not begun and not over:
        return None
    kind = alerts[0].kind
    words = WORDS[language].get(AlertKind(kind)) if kind in frozenset(AlertKind) else None
    title = words.title if words is not None else kind
    still = [each for each in begun if each.closed_at is None]
    lines = [f"🚨 [{_SAID[language].alert}] {title}" if still else f"✅ [{_SAID[language].over}] {title}"]
    lines += _part([_begun(each, names, language) for each in still], language)
    if still and words is not None:
        lines.append(words.do)
    if still and over:
        lines.append(f"✅ [{_SAID[language].over}]")
    return "\n".join(lines + _part([_over(each, names, language) for each in over], language))


class _Said(Struct, frozen=True):
    alert: str
    over: str
    since: str
    more: str


_SAID: Mapping[Language, _Said] = {
    Language.KO: _Said("알림", "해소", "{}부터", "외 {}건"),
    Language.EN: _Said("Alert", "Resolved", "since {}", "and {} more"),
}


def _part(lines: Sequence[str], language: Language) -> list[str]:
    left = len(lines) - MOST_LINES
    return [f"• {line}" for line in lines[:MOST_LINES]] + ([_SAID[language].more.format(left)] if left > 0 else [])


def _begun(alert: Alert, names: Mapping[str, str], language: Language) -> str:
    return f"{_what(alert, names, language)} ({_SAID[language].since.format(_moment(alert.opened_at))})"


def _over(alert: Alert, names: Mapping[str, str], language: Language) -> str:
    ended = alert.closed_at or alert.opened_at
    return (
        f"{_what(alert, names, language)} ({_moment(alert.opened_at)}–{ended.astimezone(KST):%H:%M:%S}, {_long(ended - alert.opened_at)})"
    )


def _what(alert: Alert, names: Mapping[str, str], language: Language) -> str:
    """Which institution, node or queue, and what is known of it."""
    facts = dict(alert.facts)
    org_code = facts.pop("org_code", None)
    subject = [f"{names.get(org_code, org_code)}({org_code})"] if isinstance(org_code, str) else []
    said = [text for name, say in _FACTS[language].items() if name in facts and (text := say(facts[name], names))]
    return " · ".join([*subject, *said]) or alert.key


def _reason(language: Language) -> Callable[[Any, Mapping[str, str]], str]:
    return lambda reason, _: _REASONS[language].get(str(reason), str(reason))


def _codes(value: Any, names: Mapping[str, str]) -> str:
    return ", ".join(f"{names.get(code, code)}({code})" for code in value)


def _plain(form: str) -> Callable[[Any, Mapping[str, str]], str]:
    return lambda value, _: form.format(value)


def _counted(noun: str, *more: str) -> Callable[[Any, Mapping[str, str]], str]:
    return lambda number, _: " ".join((f"{number:,}", noun if number == 1 else f"{noun}s", *more))


def _at(form: str) -> Callable[[Any, Mapping[str, str]], str]:
    """A moment in RFC 3339, as it is in Korea."""

    def say(value: Any, _: Mapping[str, str]) -> str:
        try:
            return form.format(_moment(datetime.fromisoformat(str(value))))
        except ValueError:
            return form.format(value)

    return say


# In the order in which they are said.
_FACTS: Mapping[Language, Mapping[str, Callable[[Any, Mapping[str, str]], str]]] = {
    Language.KO: {
        "scope": _plain("{}"),
        "node": _plain("{}"),
        "org_codes": _codes,
        "queue": _plain("{}"),
        "sweep": _plain("{}"),
        "reason": _reason(Language.KO),
        "calls": _plain("{:,}건"),
        "found": _plain("작업 {:,}건"),
        "left": _plain("남은 링크 {:,}건"),
        "by": _at("시간대 끝 {}"),
        "seconds": _plain("가장 오래된 작업 {:,}초 지연"),
        "days": _plain("{}일 남음"),
        "ends_at": _at("만료 {}"),
    },
    Language.EN: {
        "scope": _plain("{}"),
        "node": _plain("{}"),
        "org_codes": _codes,
        "queue": _plain("{}"),
        "sweep": _plain("{}"),
        "reason": _reason(Language.EN),
        "calls": _counted("call"),
        "found": _counted("job"),
        "left": _counted("link", "left"),
        "by": _at("window ends {}"),
        "seconds": _plain("oldest job {:,} s late"),
        "days": _counted("day", "left"),
        "ends_at": _at("ends {}"),
    },
}


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(KST):%m-%d %H:%M:%S}"


def _long(lasted: timedelta) -> str:
    seconds = int(lasted.total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
