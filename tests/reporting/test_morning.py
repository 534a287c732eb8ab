"""The talk's own message, from calls; and each morning one message in the end, whatever becomes of receivers and processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import orjson
import pytest

from backend.clock import ManualClock
from backend.coordinator.stream import MemoryStream
from backend.errors import EngineUnavailable
from backend.events import Industry
from backend.providers.directory import BUILT_IN, load_directory
from backend.reporting.comparing import Comparing, UsersByHour
from backend.reporting.comparison import Options, hours_of
from backend.reporting.figures import day_of
from backend.reporting.messenger import DEADLINE, GIVEN_UP_AFTER, LEASE, Messenger, channels_of
from backend.reporting.morning import MorningSweep, at_of
from backend.reporting.morning_text import Language, morning_text
from backend.reporting.reading import Traffic
from backend.storage.database import Database
from backend.webhooks.addresses import Reach
from backend.webhooks.retrying import NoAnswer
from tests.reporting.given import Call, everything, recording, report, tell

DIRECTORY = load_directory(BUILT_IN, origin="http://127.0.0.1:1")
NINE = datetime(2024, 4, 2, 0, 0, tzinfo=UTC)  # in the morning, in Korea
WEEK, MINUTE = timedelta(days=7), timedelta(minutes=1)
TALK = {
    Industry.BANK: (102, 100),
    Industry.CARD: (167, 100),
    Industry.INVEST: (192, 100),
    Industry.INSU: (114, 100),
    Industry.EFIN: (108, 100),
    Industry.CAPITAL: (66, 100),
    Industry.TELECOM: (119, 100),
}
URL = "https://hooks.example/services/T000/secret"


def ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def first_of(industry: Industry) -> str:
    return next(each.org_code for each in DIRECTORY.providers if each.industry is industry)


def calls(org_code: str, count: int, moment: datetime, users: int, *, scheduled: bool = False) -> Iterable[Call]:
    """`count` calls for `users` persons, from `moment` on, one a second."""
    for number in range(count):
        user = f"{number % users:022}"
        yield Call(org_code=org_code, began_ms=ms(moment) + number * 1000, user=user, scheduled=scheduled)


class Fleet:
    """Nodes that report calls, and who adds them up."""

    def __init__(self, database: Database) -> None:
        self._stream, self._numbers = MemoryStream(ManualClock(NINE)), count(1)
        self._recording = recording(self._stream, database, ManualClock(NINE))

    async def called(self, *each: Iterable[Call]) -> None:
        await tell(self._stream, *(report("n", next(self._numbers), *some) for some in each))
        await everything(self._recording)


@pytest.fixture
def fleet(database: Database) -> Fleet:
    return Fleet(database)


def comparing(database: Database, **options: Any) -> Comparing:
    return Comparing(database=database, traffic=Traffic(database=database), directory=lambda: DIRECTORY, options=Options(**options))


async def the_talks_calls(fleet: Fleet) -> None:
    eight = NINE - timedelta(hours=1)
    for now, moment in ((True, eight), (False, eight - WEEK)):
        parts = [calls(first_of(industry), counts[not now], moment, 50) for industry, counts in TALK.items()]
        await fleet.called(*parts)


async def test_the_talks_message_from_calls(fleet: Fleet, database: Database) -> None:
    await the_talks_calls(fleet)
    noise = calls(first_of(Industry.CARD), 500, NINE - WEEK, 50)  # of the hour that is not over yet, a week before
    await fleet.called(noise, calls(DIRECTORY.ca.org_code, 300, NINE - timedelta(hours=2), 9))
    assert "\n".join((await message(database, Language.KO)).splitlines()[:3]) == (
        "[제공기관 트래픽 증가 알림]\n"
        "지난 주 2024-03-26(TUESDAY)와 비교하여 오늘 2024-04-02(TUESDAY)\n"
        "은행 1.02배 · 카드 1.67배 🔥 · 투자 1.92배 🔥 · 보험 1.14배 · 전금 1.08배 · 대출 0.66배 · 통신 1.19배"
    )
    english = (await message(database, Language.EN)).splitlines()
    assert english[1:3] == [
        "Today 2024-04-02(TUESDAY) compared with last week's 2024-03-26(TUESDAY)",
        "bank 1.02x · card 1.67x 🔥 · invest 1.92x 🔥 · insu 1.14x · efin 1.08x · capital 0.66x · telecom 1.19x",
    ]


async def message(database: Database, language: Language = Language.KO, **options: Any) -> str:
    compares = comparing(database, **options)
    compared = await compares.compared(day_of(NINE), NINE)
    return morning_text(compared, compares.names(), language)


async def test_the_message_names_what_moved_a_category(fleet: Fleet, database: Database) -> None:
    """Twice as many scheduled calls of one card company for as many users; the other is as it was. Users are noted by the hour."""
    one, other = _two_cards()
    await fleet.called(calls(one, 200, NINE - WEEK - MINUTE * 30, 40, scheduled=True), calls(other, 100, NINE - WEEK - MINUTE * 30, 10))
    await UsersByHour(database=database).sweep(NINE - WEEK + 2 * MINUTE)
    await fleet.called(calls(one, 50, NINE - WEEK + MINUTE, 50, scheduled=True))  # ten users more, after nine
    await fleet.called(calls(one, 400, NINE - MINUTE * 30, 40, scheduled=True), calls(other, 100, NINE - MINUTE * 30, 10))
    await UsersByHour(database=database).sweep(NINE + 2 * MINUTE)
    korean, english = [(await message(database, each)).splitlines() for each in Language]
    assert (
        korean[2] == "은행 호출 없음 · 카드 1.67배 🔥 · 투자 호출 없음 · 보험 호출 없음 · 전금 호출 없음 · 대출 호출 없음 · 통신 호출 없음"
    )
    assert korean[3] == "두 날 모두 00:00~09:00(KST)의 호출 수를 비교했습니다."
    assert korean[4] == (
        f"• 카드 🔥 원인: 물결카드({one}) 정기 전송 200건 → 400건 (200건 증가, 전체 증가분의 100%). "
        "사용자당 호출이 움직였습니다: 사용자 40명 → 40명(1.00배), 사용자당 호출 2.00배"
    )
    assert english[4] == (
        f"• card 🔥 moved by 물결카드({one}), scheduled calls: 200 → 400 (+200, 100 % of the whole change). "
        "It is more calls per user: users 40 → 40 (1.00x), calls per user 2.00x"
    )


def _two_cards() -> tuple[str, str]:
    one, other, *_ = (each.org_code for each in DIRECTORY.providers if each.industry is Industry.CARD)
    return one, other


async def test_an_hour_that_was_not_noted_in_time_says_nothing_of_users(fleet: Fleet, database: Database) -> None:
    one, _ = _two_cards()
    await fleet.called(calls(one, 100, NINE - WEEK - MINUTE * 30, 40), calls(one, 200, NINE - MINUTE * 30, 80))
    await UsersByHour(database=database).sweep(NINE - WEEK + 20 * MINUTE)
    await UsersByHour(database=database).sweep(NINE + 2 * MINUTE)
    assert "사용자당" not in await message(database)


async def test_nothing_burns_below_the_floor_and_without_history_that_is_said(fleet: Fleet, database: Database) -> None:
    one, _ = _two_cards()
    await fleet.called(calls(one, 90, NINE - MINUTE * 30, 40))
    assert (await message(database)).splitlines()[2:] == ["지난 주 같은 시간의 기록이 없어 비교할 수 없습니다."]
    await fleet.called(calls(one, 10, NINE - WEEK - MINUTE * 30, 4))
    lines = (await message(database)).splitlines()
    assert "카드 9.00배 ·" in lines[2]
    assert lines[-1] == "기록이 2024-03-26 08:00에 시작되어 지난 주 호출 수가 실제보다 적을 수 있습니다."
    assert "카드 9.00배 🔥 ·" in (await message(database, floor=90)).splitlines()[2]


async def test_a_whole_day_is_compared_with_a_whole_day_and_its_users(fleet: Fleet, database: Database) -> None:
    one, _ = _two_cards()
    await fleet.called(calls(one, 100, NINE - WEEK, 50), calls(one, 300, NINE, 150))
    compared = await comparing(database).compared(day_of(NINE), hours_of(day_of(NINE), NINE + timedelta(days=2)))
    (card,) = [each for each in compared.categories if each.industry is Industry.CARD]
    assert card.cause is not None
    assert (card.figure.ratio, card.cause.users, card.cause.by_users) == (3, type(card.figure)(150, 50), True)
    assert "00:00~24:00" in morning_text(compared, {}, Language.KO)


class Receiver:
    """As a chat shows it: a message that comes again under the same key is not shown again."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}
        self.attempts = 0
        self.answers: Callable[[], int | NoAnswer] = lambda: 200
        self.takes: Callable[[], bool] = lambda: True
        self.held: asyncio.Event | None = None

    async def post(self, url: str, headers: Any, body: bytes) -> int | NoAnswer:
        self.attempts += 1
        assert url == URL
        if self.takes():
            self.shown.setdefault(headers["Idempotency-Key"], orjson.loads(body)["text"])
        if self.held is not None:
            await self.held.wait()
        return self.answers()


class Process:
    """A leading coordinator, as far as the morning concerns it."""

    def __init__(self, database: Database, receiver: Receiver, clock: ManualClock, urls: str = URL, at: str = "09:00") -> None:
        channels, _ = channels_of(urls, Reach.PUBLIC)
        self.clock = clock
        self.sweep = MorningSweep(
            database=database,
            comparing=comparing(database),
            channels=[channel.id for channel in channels],
            at=at_of(at),
            language=Language.KO,
        )
        self.messenger = Messenger(database=database, channels=channels, post=receiver, clock=clock, draw=lambda: 0.5)

    async def lives(self, minutes: float) -> None:
        """Looks ten times a minute."""
        await live(self.clock, minutes, self)

    async def looks(self) -> None:
        await self.sweep.sweep(self.clock.now())
        await self.messenger.send_due()
        await self.messenger.idle()


async def live(clock: ManualClock, minutes: float, *processes: Process) -> None:
    """All of them look at once, and time passes when none has anything under way: it would outrun somebody's lease."""
    for _ in range(round(minutes * 10)):
        await asyncio.gather(*(process.looks() for process in processes))
        clock.move(timedelta(seconds=6))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NINE - MINUTE)


async def test_one_message_each_morning_whoever_starts_again_or_leads_too(database: Database, clock: ManualClock) -> None:
    receiver = Receiver()
    await Process(database, receiver, clock).lives(1.5)
    assert receiver.shown == {}, "at nine the last calls before nine are still on their way"
    one, other = (Process(database, receiver, clock) for _ in range(2))
    clock.move(MINUTE)
    await live(clock, 2, one, other)
    await Process(database, receiver, clock).lives(3)
    (text,) = receiver.shown.values()
    assert (text.splitlines()[0], receiver.attempts) == ("[제공기관 트래픽 증가 알림]", 1)
    clock.move(timedelta(days=1))
    await one.lives(1)
    assert [text.splitlines()[1].rpartition("오늘 ")[2] for text in receiver.shown.values()] == [
        "2024-04-02(TUESDAY)",
        "2024-04-03(WEDNESDAY)",
    ]


@pytest.mark.parametrize("trouble", [500, 404, 302, NoAnswer.CONNECT, NoAnswer.DEADLINE, NoAnswer.BROKEN])
async def test_a_receiver_that_is_down_slow_or_broken_has_one_message_in_the_end(
    database: Database, clock: ManualClock, trouble: int | NoAnswer
) -> None:
    """Slow: it takes the message, and answers when nobody listens any more."""
    receiver = Receiver()
    ill_until = NINE + timedelta(minutes=40)
    receiver.answers = lambda: trouble if clock.now() < ill_until else 200
    receiver.takes = lambda: clock.now() >= ill_until or trouble in {NoAnswer.DEADLINE, NoAnswer.BROKEN}
    process = Process(database, receiver, clock)
    await process.lives(50)
    assert len(receiver.shown) == 1
    assert 10 < receiver.attempts < 20
    await process.lives(10)
    assert receiver.attempts < 20, "it is not sent again"


async def test_a_process_that_is_killed_after_the_post_leaves_one_message(database: Database, clock: ManualClock) -> None:
    clock.move(3 * MINUTE)
    receiver = Receiver()
    receiver.held = asyncio.Event()
    killed = Process(database, receiver, clock)
    await killed.sweep.sweep(clock.now())
    assert await killed.messenger.send_due() == 1
    while not receiver.attempts:
        await asyncio.sleep(0)
    killed.messenger._under_way.cancel()
    receiver.held = None
    following = Process(database, receiver, clock)
    await following.lives((LEASE.total_seconds() - 10) / 60)
    assert receiver.attempts == 1, "until its lease is over it may still be on its way"
    await following.lives(1)
    assert (receiver.attempts, len(receiver.shown)) == (2, 1)


async def test_a_process_that_is_killed_before_the_post_leaves_one_message(database: Database, clock: ManualClock) -> None:
    clock.move(3 * MINUTE)
    receiver = Receiver()
    killed = Process(database, receiver, clock)
    await killed.sweep.sweep(clock.now())
    following = Process(database, receiver, clock)
    await following.lives(1)
    assert (receiver.attempts, len(receiver.shown)) == (1, 1)


async def test_a_message_that_waits_is_seen_and_one_to_a_channel_that_is_no_more_is_not(database: Database, clock: ManualClock) -> None:
    clock.move(3 * MINUTE)
    receiver = Receiver()
    receiver.answers, receiver.takes = (lambda: 500), (lambda: False)
    process, other = Process(database, receiver, clock), Process(database, receiver, clock, urls="https://other.example/hook")
    assert await process.messenger.oldest() is None
    began = clock.now()
    await process.lives(1)
    assert (await process.messenger.oldest(), await other.messenger.oldest()) == (began, None)
    receiver.answers = lambda: 200
    await process.lives(6)
    assert await process.messenger.oldest() is None


async def test_what_nobody_takes_for_a_day_is_given_up(database: Database, clock: ManualClock) -> None:
    receiver = Receiver()
    receiver.answers, receiver.takes = (lambda: 500), (lambda: False)
    process = Process(database, receiver, clock)
    clock.move(3 * MINUTE)
    await process.sweep.sweep(clock.now())
    for _ in range(1000):
        if await process.messenger.send_due() == 0 and clock.now() > NINE + GIVEN_UP_AFTER + timedelta(hours=1):
            break
        await process.messenger.idle()
        clock.move(timedelta(minutes=5, seconds=1))
    async with database.reading() as connection:
        assert await connection.fetchval("SELECT state FROM notices") == "given_up"


async def test_what_nobody_was_there_to_send_for_a_day_is_no_news(database: Database, clock: ManualClock) -> None:
    receiver = Receiver()
    process = Process(database, receiver, clock)
    clock.move(3 * MINUTE)
    await process.sweep.sweep(clock.now())
    clock.move(3 * timedelta(days=1))
    await process.lives(2)
    assert [text.splitlines()[1].rpartition("오늘 ")[2] for text in receiver.shown.values()] == ["2024-04-05(FRIDAY)"]
    assert receiver.attempts == 1


async def test_without_a_channel_the_message_is_a_line_of_the_log_once(
    database: Database, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    clock.move(3 * MINUTE)
    for _ in range(2):
        await Process(database, Receiver(), clock, urls="").lives(1)
    said = capsys.readouterr().out
    assert said.count("morning.no_channel") == 1
    assert said.count("제공기관 트래픽 증가 알림") == 1


async def test_nobody_who_starts_in_the_evening_says_good_morning(database: Database, clock: ManualClock) -> None:
    clock.move(timedelta(hours=10))
    receiver = Receiver()
    await Process(database, receiver, clock).lives(2)
    assert receiver.attempts == 0


@pytest.mark.parametrize(("at", "back_after"), [("23:59", 0), ("23:58", 30), ("20:00", 5 * 60), ("01:00", 0)])
async def test_a_message_that_is_set_late_comes_although_midnight_has_passed(
    database: Database, clock: ManualClock, at: str, back_after: int
) -> None:
    """`back_after`: minutes for which nobody was there, from the moment on at which it should have gone."""
    clock.move(at_of(at) - timedelta(hours=9) + 3 * MINUTE + back_after * MINUTE)
    receiver = Receiver()
    process = Process(database, receiver, clock, at=at)
    await process.lives(1)
    await Process(database, receiver, clock, at=at).lives(1)
    (text,) = receiver.shown.values()
    assert text.splitlines()[1].rpartition("오늘 ")[2] == "2024-04-02(TUESDAY)"


async def test_a_postgresql_that_is_away_is_waited_for(database: Database, clock: ManualClock) -> None:
    clock.move(3 * MINUTE)
    receiver = Receiver()
    away = Database("postgresql://nobody@127.0.0.1:1/none", pool=1)
    with pytest.raises(EngineUnavailable):
        await Process(away, receiver, clock).sweep.sweep(clock.now())
    await away.close()
    await Process(database, receiver, clock).lives(1)
    assert len(receiver.shown) == 1


def test_a_channel_shows_no_more_than_its_host() -> None:
    (channel,), faults = channels_of(f" {URL},, {URL}, http://hooks.example/services/secret", Reach.PUBLIC)
    assert "secret" not in repr(channel)
    assert channel.host == "hooks.example"
    assert faults == ("MOA_NOTICE_WEBHOOKS, number 3: https is needed",)
    assert timedelta(seconds=DEADLINE) < LEASE
