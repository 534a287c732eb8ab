"""What this process saw of providers under the batch, and how much of its course the batch may send for it.

In: how calls ended (`Noticed`, from the guard), and links that a provider refused for being asked too much. Out: each provider's `Ease`,
one step a second (`easing.py` decides), and how many links may leave meanwhile. What other processes saw is not known here: a provider's
minutes are one sender's each.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from backend.batch.easing import Ease, Options, Seen, earned, eased
from backend.providers.calling.noticing import Noticed
from backend.providers.contract import ApiType
from backend.providers.outcomes import Weight

_ROUNDED = 1e-9  # that parts of a link are short of it when they are added up


@dataclass
class _Second:
    """What has been seen since the last step."""

    answers: int = 0
    slow: int = 0
    busy: int = 0
    held_until: float = 0.0


class Gentle:
    """One per worker; give it to the guard as one who hears how calls end."""

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or Options()
        self._seconds: dict[str, _Second] = defaultdict(_Second)
        self._eases: dict[str, Ease] = defaultdict(Ease)
        self._stepped: dict[str, float] = {}
        self._credits: dict[str, float] = {}  # of those that are eased, from one command to the next

    def notice(self, noticed: Noticed) -> None:
        """`guard.Notices`: counts the answers of scheduled calls."""
        if noticed.api_type is ApiType.SCHEDULED and noticed.weight in (Weight.OK, Weight.SLOW):
            second = self._seconds[noticed.circuit.org_code]
            second.answers += 1
            second.slow += noticed.weight is Weight.SLOW

    def busy(self, org_code: str, retry_after_s: float, now: float) -> None:
        """A provider said now that it is asked too much, and after how long it may be asked again; 0: it did not say."""
        second = self._seconds[org_code]
        second.busy += 1
        second.held_until = max(second.held_until, now + retry_after_s)

    def ease(self, org_code: str, now: float) -> Ease:
        """How gently to ask it, at most one step since a second. `now`: monotonic seconds."""
        if now - self._stepped.get(org_code, -1.0) >= 1.0:
            self._stepped[org_code] = now
            seen = self._seconds.pop(org_code, _Second())
            told = Seen(answers=seen.answers, slow=seen.slow, busy=seen.busy, retry_after_s=max(seen.held_until - now, 0.0))
            self._eases[org_code] = eased(self._eases[org_code], told, now=now, options=self._options)
        return self._eases[org_code]

    def is_eased(self, org_code: str, now: float) -> bool:
        """Whether it is asked for less than its course."""
        ease = self.ease(org_code, now)
        return ease.share < 1 or now < ease.held_until

    def allowed(self, org_code: str, wanted: int, *, part: float, second: float, now: float) -> int:
        """How many of `wanted` links may leave. `part`: of a link, what its course asked for since the last time; `second`: in a second."""
        ease = self.ease(org_code, now)
        if not self.is_eased(org_code, now):
            self._credits.pop(org_code, None)
            return wanted
        self._credits[org_code] = earned(self._credits.get(org_code, 0.0), ease, part, second=second, now=now)
        return 0 if now < ease.held_until else min(wanted, int(self._credits[org_code] + _ROUNDED))

    def sent(self, org_code: str) -> None:
        """A link has left."""
        if org_code in self._credits:
            self._credits[org_code] = max(self._credits[org_code] - 1, 0.0)
