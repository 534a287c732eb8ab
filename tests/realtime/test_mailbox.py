"""What waits for one client: bounded, in order, taken at once."""

from __future__ import annotations

import asyncio

from backend.realtime.mailbox import LOST, MOST_BYTES, MOST_ITEMS, Mailbox
from backend.realtime.protocol import CloseCode


def test_everything_is_taken_at_once_in_order() -> None:
    mailbox = Mailbox()
    mailbox.put(b"reply")
    mailbox.put_entries([(1, b"a"), (2, b"b")])
    mailbox.put_lost()
    assert mailbox.take() == [b"reply", (1, b"a"), (2, b"b"), LOST]
    assert mailbox.take() == []


async def test_waiting_ends_with_something_to_take_or_with_the_end() -> None:
    mailbox = Mailbox()
    waiting = asyncio.create_task(mailbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    mailbox.put(b"x")
    await waiting
    await mailbox.wait()
    mailbox.take()
    mailbox.close(CloseCode.SHUTDOWN)
    await mailbox.wait()


def test_too_many_items_close_it_and_free_the_memory() -> None:
    closed: list[bool] = []
    mailbox = Mailbox(lambda: closed.append(True))
    for offset in range(MOST_ITEMS + 1):
        mailbox.put_entries([(offset, b"")])
    assert (mailbox.closing, mailbox.take(), closed) == (CloseCode.SLOW, [], [True])
    mailbox.put(b"ignored")
    assert mailbox.take() == []


def test_too_many_bytes_close_it() -> None:
    mailbox = Mailbox()
    mailbox.put(b"x" * MOST_BYTES)
    assert mailbox.closing is None
    mailbox.put(b"x")
    assert mailbox.closing is CloseCode.SLOW


def test_a_whole_log_fits_into_an_empty_one() -> None:
    mailbox = Mailbox()
    mailbox.put_entries([(offset, b"x" * 5000) for offset in range(1000)])
    assert mailbox.closing is None
    assert len(mailbox.take()) == 1000


def test_dropped_events_make_room_and_answers_stay() -> None:
    mailbox = Mailbox()
    mailbox.put(b"reply")
    mailbox.put_entries([(1, b"x" * (MOST_BYTES // 2))])
    mailbox.drop_events()
    mailbox.put(b"x" * (MOST_BYTES - 10))
    assert mailbox.closing is None
    assert mailbox.take()[0] == b"reply"


def test_the_first_reason_to_close_counts() -> None:
    mailbox = Mailbox()
    mailbox.close(CloseCode.EXPIRED)
    mailbox.close(CloseCode.SHUTDOWN)
    assert mailbox.closing is CloseCode.EXPIRED
