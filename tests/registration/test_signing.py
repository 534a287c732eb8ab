"""How long a signature is waited for."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backend.registration.signing import Patience
from tests.registration.play import NOON, TTL, A, new

PATIENCE = Patience(ttl=TTL, poll=timedelta(milliseconds=200))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(("age", "wait"), [(0, 0.2), (9.999, 0.2), (10, 0.8), (299, 0.8), (299.5, 0.5), (299.999, 0.001)])
def test_a_young_signature_is_asked_for_often_and_never_beyond_its_time(age: float, wait: float) -> None:
    now = NOON + seconds(age)
    assert PATIENCE.next_look(new(A), now) - now == seconds(wait)


@pytest.mark.parametrize(("age", "wait"), [(0, 1), (8, 2), (40, 10), (280, 10), (295, 5)])
def test_a_sick_ca_is_called_less_often_the_longer_it_lasts_and_never_beyond_the_signatures_time(age: float, wait: float) -> None:
    now = NOON + seconds(age)
    assert PATIENCE.next_try(new(A), now) - now == seconds(wait)
