"""The rule about order, on its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backend.events import Position
from backend.realtime.merging import NOTHING, READ_LOG, Batch, News, decode, encode, following

HERE = Position("e", 5)


def batch(first: int, count: int, epoch: str = "e") -> Batch:
    return Batch(epoch, first, tuple(b"%d" % offset for offset in range(first, first + count)))


def test_the_next_events_are_news() -> None:
    assert following(HERE, batch(6, 2)) == News(((6, b"6"), (7, b"7")), Position("e", 7))


def test_of_an_overlap_only_the_end_is_news() -> None:
    assert following(HERE, batch(4, 3)) == News(((6, b"6"),), Position("e", 6))


def test_what_was_heard_is_nothing() -> None:
    assert following(HERE, batch(4, 2)) == NOTHING
    assert following(HERE, batch(0, 0)) == NOTHING


def test_a_hole_or_another_epoch_sends_to_the_log() -> None:
    assert following(HERE, batch(7, 1)) == READ_LOG
    assert following(HERE, batch(6, 1, "f")) == READ_LOG
    assert following(HERE, batch(0, 0, "f")) == READ_LOG


def test_a_batch_survives_its_journey() -> None:
    assert decode(encode(batch(6, 3))) == batch(6, 3)
    assert decode(encode(batch(6, 0))) == batch(6, 0)


@given(st.binary(max_size=60))
def test_no_message_makes_the_decoder_raise(message: bytes) -> None:
    decode(message)


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6)), max_size=40))
def test_whatever_arrives_in_whatever_order_news_are_gapless_and_single(arrivals: list[tuple[int, int]]) -> None:
    position, heard = Position("e", 0), []
    for first, count in arrivals:
        match following(position, batch(first, count)):
            case News(entries=entries, position=position):
                heard += entries
    assert heard == [(offset, b"%d" % offset) for offset in range(1, position.offset + 1)]
