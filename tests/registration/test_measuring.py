"""What metrics say of a registration: its first asset once, its end by how it ended, each provider by what became of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backend.errors import ITEM_ERRORS, Trouble
from backend.events import AssetsCollected, Fact, ProviderCompleted, ProviderFailed, RegistrationCompleted, RegistrationStatus
from backend.metrics import Distribution, Metric, Metrics
from backend.registration.measuring import measure
from backend.registration.model import Item, Registration, evolve
from tests.registration.play import asset

BEGAN = datetime(2026, 11, 22, tzinfo=UTC)
BANK, CARD = "A1MOABK001", "B1MOACD001"


async def test_a_registration_from_its_first_asset_to_its_end() -> None:
    metrics = Metrics()
    registration = Registration(
        user_id="anna", id="reg_1", created_at=BEGAN, sign_before=BEGAN, items=(Item(org_code=BANK), Item(org_code=CARD))
    )
    about = {"registration_id": "reg_1"}
    told: list[tuple[Fact, ...]] = [
        (AssetsCollected(**about, at=BEGAN + timedelta(seconds=2), org_code=BANK, assets=(asset("1"), asset("2"))),),
        (AssetsCollected(**about, at=BEGAN + timedelta(seconds=3), org_code=BANK, assets=(asset("3"),)),),
        (ProviderFailed(**about, at=BEGAN + timedelta(seconds=4), org_code=CARD, error=ITEM_ERRORS[Trouble.INTERNAL]),),
        (
            ProviderCompleted(**about, at=BEGAN + timedelta(seconds=5), org_code=BANK, assets=3),
            RegistrationCompleted(**about, at=BEGAN + timedelta(seconds=5), status=RegistrationStatus.PARTIAL),
        ),
    ]
    for facts in told:
        registration = evolve(registration, facts)
        measure(metrics, registration, facts)
    shown = {(sample.metric, sample.labels): sample.value for sample in await metrics.samples()}
    first, whole = shown[Metric.FIRST_ASSET_SECONDS, ()], shown[Metric.REGISTRATION_SECONDS, ("partial",)]
    assert isinstance(first, Distribution)
    assert isinstance(whole, Distribution)
    assert (sum(first.counts), first.total) == (1, 2.0)
    assert (sum(whole.counts), whole.total) == (1, 5.0)
    assert shown[Metric.REGISTRATIONS_ENDED, ("partial",)] == 1
    assert shown[Metric.ITEMS_ENDED, ("completed",)] == shown[Metric.ITEMS_ENDED, ("failed",)] == 1
