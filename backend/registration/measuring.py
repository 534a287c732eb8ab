"""What is to be known of registrations in figures: how they end, and how long a person waits. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from backend.events import AssetsCollected, Fact, ProviderCompleted, ProviderDeferred, ProviderFailed, RegistrationCompleted
from backend.metrics import Metric, Metrics
from backend.registration.model import Registration


def measure(metrics: Metrics, registration: Registration, facts: Sequence[Fact]) -> None:
    """Takes in what happened to a registration; `registration` is as it was after that."""
    shown: set[str] = set()
    for fact in facts:
        match fact:
            case AssetsCollected(assets=assets):
                shown |= {asset.id for asset in assets}
            case ProviderCompleted():
                metrics.count(Metric.ITEMS_ENDED, "completed")
            case ProviderFailed():
                metrics.count(Metric.ITEMS_ENDED, "failed")
            case ProviderDeferred():
                metrics.count(Metric.ITEMS_ENDED, "deferred")
            case RegistrationCompleted(status=status, at=at):
                metrics.count(Metric.REGISTRATIONS_ENDED, status)
                metrics.observe(Metric.REGISTRATION_SECONDS, status, value=(at - registration.created_at).total_seconds())
    if shown and len(shown) == sum(len(item.asset_ids) for item in registration.items):  # there was none before
        metrics.observe(Metric.FIRST_ASSET_SECONDS, value=(facts[0].at - registration.created_at).total_seconds())
