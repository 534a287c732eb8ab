from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.batch.easing import Ease, Options, Seen, earned, eased
from backend.batch.gentle import Gentle
from backend.batch.pace import CHUNKS_OF_MINUTE, SECONDS_OF_MINUTE, Grid

OPTIONS = Options()


def after(*each: Seen, ease: Ease | None = None, every: float = 1.0) -> Ease:
    """One step a second."""
    ease = ease or Ease()
    for second, seen in enumerate(each):
        ease = eased(ease, seen, now=second * every, options=OPTIONS)
    return ease


@pytest.mark.parametrize(
    ("seen", "share"),
    [
        (Seen(answers=100), 1.0),
        (Seen(answers=100, slow=19), 1.0),
        (Seen(answers=100, slow=20), 0.5),
        (Seen(answers=4, slow=4), 1.0),  # too few to tell
        (Seen(answers=1_000, busy=9), 1.0),
        (Seen(answers=1_000, busy=10), 0.5),
        (Seen(answers=1, busy=1), 0.5),  # its own word
    ],
)
def test_trouble_halves_the_pace(seen: Seen, share: float) -> None:
    assert after(seen).share == share


def test_the_effect_is_awaited_before_the_next_decrease() -> None:
    trouble = Seen(answers=10, busy=10)
    assert [after(*[trouble] * times).share for times in (1, 2, 3, 4)] == [0.5, 0.5, 0.5, 0.25]


def test_it_never_stops_by_itself() -> None:
    assert after(*[Seen(answers=10, busy=10)] * 100).share == OPTIONS.least


def test_calm_seconds_bring_it_back_a_little_at_a_time() -> None:
    troubled = Ease(share=0.5)
    assert after(Seen(answers=10), ease=troubled).share == pytest.approx(0.52)
    assert after(*[Seen(answers=10)] * 24, ease=troubled).share == pytest.approx(0.98)
    assert after(*[Seen(answers=10)] * 60, ease=troubled).share == 1.0


def test_time_in_which_nobody_was_asked_brings_it_back_far_more_slowly() -> None:
    ease = eased(Ease(at=100.0), Seen(answers=1, busy=1), now=100.0, options=OPTIONS)
    resting = eased(ease, Seen(), now=103.0, options=OPTIONS)
    assert resting.share == 0.5, "its rest is not calm time"
    assert eased(resting, Seen(), now=163.0, options=OPTIONS).share == pytest.approx(0.56)
    assert eased(resting, Seen(answers=1), now=163.0, options=OPTIONS).share == pytest.approx(0.5 + 0.02 + 0.059)
    assert eased(resting, Seen(), now=1_000.0, options=OPTIONS).share == 1.0


def test_retry_after_holds_the_batch_but_does_not_end_it() -> None:
    held = after(Seen(answers=1, busy=1, retry_after_s=30))
    assert [earned(0.0, held, 10.0, second=100.0, now=now) for now in (0.0, 29.9, 30.0)] == [0.0, 0.0, 5.0]
    assert after(Seen(answers=1, busy=1, retry_after_s=5), ease=held).held_until == 30.0
    assert eased(held, Seen(), now=90.0, options=OPTIONS).share == pytest.approx(0.56), "nor is what it asked for"


@given(st.lists(st.floats(0, 100), max_size=50), st.floats(0.02, 0.99), st.floats(0, 100))
def test_a_credit_is_a_share_of_the_course_and_never_grows_to_a_burst(parts: list[float], share: float, second: float) -> None:
    credit = 0.0
    for part in parts:
        before, credit = credit, earned(credit, Ease(share), part, second=second, now=1.0)
        assert 0 <= credit <= min(before + part * share, 1 + second * share) + 1e-9


def small(size: int, minutes: int, *, busy: bool) -> Iterator[tuple[int, float, int]]:
    """A provider of so many links a minute that says 429 once, or always: a sender for each minute. (minute, share, links) of each."""
    gentle, told = Gentle(), False
    for minute in range(minutes):
        grid, links = Grid.of(size, 1), 0
        for chunk in range(CHUNKS_OF_MINUTE):
            if not grid.left:
                break
            now = 1_000 + minute * 60 + chunk / 10
            grid, wanted = grid.chunk(chunk)
            left = gentle.allowed("a", wanted, part=size / CHUNKS_OF_MINUTE, second=size / SECONDS_OF_MINUTE, now=now)
            grid, links = grid.after(left - wanted), links + left
            for _ in range(left):
                gentle.sent("a")
                if busy or not told:
                    gentle.busy("a", 0.0, now)
                    told = True
        yield minute, gentle.ease("a", 1_000 + minute * 60 + 59.99).share, links


@pytest.mark.parametrize("size", range(1, 11))
def test_a_small_provider_that_once_had_enough_is_asked_again_soon_and_in_the_end_as_before(size: int) -> None:
    seen = list(small(size, 15, busy=False))
    assert sum(links for minute, _, links in seen if 1 <= minute <= 3) >= 1, "within three minutes"
    assert all(links <= size for _, _, links in seen)
    assert seen[-1] == (14, 1.0, size)


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_a_small_provider_that_always_has_enough_is_asked_now_and_then_and_by_less_than_its_course(size: int) -> None:
    seen = list(small(size, 60, busy=True))[10:]
    sent = [minute for minute, _, links in seen for _ in range(links)]
    assert max(later - one for one, later in pairwise(sent)) <= 10
    assert len(sent) <= 0.5 * size * len(seen)


def test_it_settles_below_what_a_slow_provider_takes() -> None:
    capacity, ease, shares = 0.3, Ease(), []
    for second in range(600):
        slow = 100 if ease.share > capacity else 0
        ease = eased(ease, Seen(answers=100, slow=slow), now=float(second), options=OPTIONS)
        shares.append(ease.share)
    assert 0.5 * capacity < sum(shares[100:]) / 500 < capacity
