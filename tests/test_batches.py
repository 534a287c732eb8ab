"""What metrics show of the batch is what operators are shown."""

from __future__ import annotations

from typing import Any

from backend.batches import samples_of
from backend.metrics import Metric

BANK = "A1MOABK001"


def test_a_providers_row_becomes_figures() -> None:
    links = {"due": 5, "done": 10, "failed": 2, "skipped": 1, "unknown": 3}
    row: dict[str, Any] = {"org_code": BANK, **links, "planned_today": 20, "pace_per_minute": 7, "lag_seconds": 1.5, "paused": True}
    shown = {(sample.metric, sample.labels): sample.value for sample in samples_of(row)}
    assert shown == {(Metric.BATCH_LINKS, (BANK, status)): count for status, count in links.items()} | {
        (Metric.BATCH_PLANNED, (BANK,)): 20,
        (Metric.BATCH_SENT, (BANK,)): 15,
        (Metric.BATCH_PACE, (BANK,)): 7,
        (Metric.BATCH_LAG, (BANK,)): 1.5,
        (Metric.BATCH_PAUSED, (BANK,)): True,
    }
