from __future__ import annotations

import pytest

from backend.batch.easing import Ease, Options, Seen, allowed, eased

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


def test_a_second_in_which_nobody_was_asked_teaches_nothing() -> None:
    assert after(Seen(), ease=Ease(share=0.5)).share == 0.5


def test_retry_after_holds_the_batch_but_does_not_end_it() -> None:
    held = after(Seen(answers=1, busy=1, retry_after_s=30))
    assert [allowed(held, 100.0, now=now) for now in (0.0, 29.9, 30.0)] == [0.0, 0.0, 50.0]
    assert after(Seen(answers=1, busy=1, retry_after_s=5), ease=held).held_until == 30.0


def test_it_settles_below_what_a_slow_provider_takes() -> None:
    capacity, ease, shares = 0.3, Ease(), []
    for second in range(600):
        slow = 100 if ease.share > capacity else 0
        ease = eased(ease, Seen(answers=100, slow=slow), now=float(second), options=OPTIONS)
        shares.append(ease.share)
    assert 0.5 * capacity < sum(shares[100:]) / 500 < capacity
