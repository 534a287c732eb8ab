"""Whether a call that failed is made once more, after what pause, and out of which budget. RULE: pure; moments and draws are arguments.

In: how the call ended, the seconds that are left. Out: a pause in seconds, or None. Only what has no further effect is repeated (`Call.
repeatable`), once, and never more than a tenth of a provider's calls: who is ill gets hardly more of them, who hiccuped is asked again.
"""

from __future__ import annotations

from msgspec import Struct

from backend.errors import Trouble
from backend.providers import outcomes
from backend.providers.outcomes import Failure, RspCode, Weight

EARNED = 0.1  # repeats that one call earns
A_SECOND = 0.1  # repeats that a second earns: else a provider that is rarely called would never be asked again
MOST_SAVED = 10.0  # repeats
LONGEST_JITTER = 0.25  # seconds; any pause up to it is as likely, so that those who failed together don't come back together
LONGEST_WAIT = 1.5  # seconds that a call waits because of Retry-After; who says more is left alone, and the error says until when

_OURS_TO_MEND = frozenset[str]([Failure.TLS, Failure.PEER])
_LATER = frozenset[str](["http_429", RspCode.QUOTA])


class Budget(Struct, frozen=True):
    """The repeats that are left to one provider at the moment `at` (seconds, monotonic)."""

    repeats: float = MOST_SAVED
    at: float = 0.0


def earned(budget: Budget) -> Budget:
    """After one more call that is no repeat."""
    return Budget(min(budget.repeats + EARNED, MOST_SAVED), budget.at)


def spent(budget: Budget, now: float) -> Budget | None:
    """After one repeat at `now`; None: there is none left."""
    repeats = min(budget.repeats + max(now - budget.at, 0.0) * A_SECOND, MOST_SAVED)
    return Budget(repeats - 1, now) if repeats >= 1 else None


def pause(reason: str, retry_after: float | None, left: float, draw: float) -> float | None:
    """Seconds until the call is made again; None: it is not, by its reason or since half of the seconds `left` would be waited away.

    `reason` is of a `ProviderError`, `retry_after` the seconds that the provider asked for, `draw` lies in [0, 1).
    """
    if not _passes(reason, retry_after):
        return None
    wait = max(retry_after or 0.0, 0.0)
    seconds = wait + draw * LONGEST_JITTER
    return seconds if wait <= LONGEST_WAIT and seconds <= left / 2 else None


def _passes(reason: str, retry_after: float | None) -> bool:
    """Whether it may be over in a moment: a connection or a server that broke; "too many" if it is said until when."""
    if reason in _LATER:
        return retry_after is not None
    try:
        outcome = outcomes.outcome_of(reason)
    except KeyError:
        return False  # the guard let no call through
    return outcome.trouble is Trouble.UNAVAILABLE and outcome.weight is Weight.FAILURE and reason not in _OURS_TO_MEND
