"""What an attempt's end means. RULE: pure; the draw of the jitter is an argument.

In: an answer's status, or why there was none. Out: delivered, gone, or to be tried again: after 5 s, 10 s, 20 s … up to an hour, give or
take a fifth, for three days.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(hours=1)
GIVEN_UP_AFTER = timedelta(days=3)
FORGOTTEN_AFTER = timedelta(days=10)  # a delivery that was given up is counted until it is as old as this
GONE = 410  # the receiver wants nothing more, ever


class NoAnswer(StrEnum):
    """Why there is no status."""

    DEADLINE = "deadline"
    ADDRESS = "address_not_allowed"
    CONNECT = "cannot_connect"
    TLS = "tls"
    BROKEN = "connection_broken"


def is_delivered(answer: int | NoAnswer) -> bool:
    """2xx and nothing else: a redirect is not followed."""
    return not isinstance(answer, NoAnswer) and 200 <= answer < 300


def outcome_of(answer: int | NoAnswer) -> str:
    """As metrics name it: delivered, refused, or why there was no answer."""
    if isinstance(answer, NoAnswer):
        return answer.value
    return "delivered" if is_delivered(answer) else "refused"


def next_try(attempts: int, now: datetime, draw: float) -> datetime:
    """When to try again after `attempts` failures, this one included; `draw` lies in [0, 1)."""
    pause = min(FIRST_PAUSE * (1 << min(attempts - 1, 20)), LONGEST_PAUSE)
    return now + pause * (0.8 + 0.4 * draw)


def is_over(created_at: datetime, now: datetime) -> bool:
    """Whether a delivery that has just failed was tried long enough."""
    return now - created_at >= GIVEN_UP_AFTER
