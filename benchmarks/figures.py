"""The arithmetic of samples. RULE: pure.

A percentile is a sample that was measured (nearest rank), never a value between two. No samples, no figure: None.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from benchmarks.model import Statistic


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """Nearest rank: the smallest sample that at least `percent` of all samples do not exceed."""
    if not samples:
        return None
    return sorted(samples)[max(math.ceil(percent / 100 * len(samples)), 1) - 1]


def figure(samples: Sequence[float], statistic: Statistic) -> float | None:
    """One round's figure."""
    match statistic:
        case Statistic.P50:
            return percentile(samples, 50)
        case Statistic.P95:
            return percentile(samples, 95)
        case Statistic.P99:
            return percentile(samples, 99)
        case Statistic.MEAN:
            return statistics.fmean(samples) if samples else None
        case Statistic.COUNT:
            return float(len(samples))


def median(figures: Sequence[float]) -> float | None:
    """The middle one; of an even number the mean of the two in the middle, since rounds are few."""
    return statistics.median(figures) if figures else None
