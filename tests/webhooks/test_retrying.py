"""When an attempt is made again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backend.webhooks.retrying import NoAnswer, is_delivered, is_over, next_try

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def test_pauses_double_from_five_seconds_to_an_hour() -> None:
    pauses = [(next_try(attempts, NOW, 0.5) - NOW).total_seconds() for attempts in range(1, 13)]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_jitter_is_a_fifth_and_never_more(attempts: int, draw: float) -> None:
    middle, drawn = next_try(attempts, NOW, 0.5) - NOW, next_try(attempts, NOW, draw) - NOW
    assert 0.8 * middle <= drawn <= 1.2 * middle


def test_three_days_are_tried() -> None:
    assert not is_over(NOW, NOW + timedelta(days=3) - timedelta(seconds=1))
    assert is_over(NOW, NOW + timedelta(days=3))


def test_only_an_answer_of_2xx_is_a_delivery() -> None:
    assert [status for status in range(100, 600) if is_delivered(status)] == list(range(200, 300))
    assert not any(map(is_delivered, NoAnswer))
