"""How gently a provider is asked that shows that it has enough. RULE: one step, from what was seen to what is asked next.

In: the ends of a second's scheduled calls. Out: a pace between a floor and what is planned. Additive increase, multiplicative decrease:
less at once and by a share when answers are slow or say 429, more again a little at a time: by answers, and far more slowly by time in
which nobody was asked. What is not sent now, the rest of the window carries.
"""

from __future__ import annotations

from msgspec import Struct


class Options(Struct, frozen=True, kw_only=True):
    """How it eases. A pace is a share of what the course asks for: far below its limit a provider may be slow, too."""

    decrease: float = 0.5  # what is left of a pace after a sign of trouble
    increase: float = 0.02  # per calm second in which it answered
    idle_increase: float = 0.001  # per second in which nobody asked it: a minute without a word is worth three calm answers
    least: float = 0.02  # it never stops by itself, a circuit does that
    slow_share: float = 0.2  # of a second's answers over the slow threshold that is a sign of trouble
    busy_share: float = 0.01  # of them that say 429
    enough: int = 5  # answers, before shares mean anything; one 429 means something without
    rest_s: float = 3.0  # after a decrease, so that its effect is seen before the next


class Ease(Struct, frozen=True):
    """How much of what its course asks for the batch sends now."""

    share: float = 1.0  # 1: all of it
    not_before: float = 0.0  # seconds, of the caller's clock: until then nothing changes but by Retry-After
    held_until: float = 0.0  # a Retry-After: nothing is sent before
    at: float = 0.0  # seconds, when this was so


class Seen(Struct, frozen=True):
    """What one second's scheduled calls came to."""

    answers: int = 0
    slow: int = 0
    busy: int = 0  # 429
    retry_after_s: float = 0.0  # the longest that was asked for


def eased(ease: Ease, seen: Seen, *, now: float, options: Options) -> Ease:
    """The next step. `now`: seconds of a clock that does not go back."""
    held_until = max(ease.held_until, now + seen.retry_after_s) if seen.retry_after_s else ease.held_until
    if now < ease.not_before:
        return Ease(ease.share, ease.not_before, held_until, now)
    if _is_trouble(seen, options):
        return Ease(max(ease.share * options.decrease, options.least), now + options.rest_s, held_until, now)
    idle = max(now - max(ease.at, ease.not_before, held_until) - bool(seen.answers), 0.0)
    more = options.idle_increase * idle + options.increase * bool(seen.answers)
    return Ease(min(ease.share + more, 1.0), ease.not_before, held_until, now)


def earned(credit: float, ease: Ease, part: float, *, second: float, now: float) -> float:
    """Links that may leave while the batch is eased, after a course asked for `part` more; `second`: what it asks for in a second.

    What is left of a credit is kept until a whole link may leave, however small the course is, and it never grows to a burst.
    """
    if now < ease.held_until:
        return credit
    return min(credit + part * ease.share, 1.0 + second * ease.share)


def _is_trouble(seen: Seen, options: Options) -> bool:
    if seen.busy and (seen.answers < options.enough or seen.busy >= options.busy_share * seen.answers):
        return True
    return seen.answers >= options.enough and seen.slow >= options.slow_share * seen.answers
