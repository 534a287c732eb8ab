"""What a client knows of a registration after each event, and how it is shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

from backend.cli.progress import Event, Position, Progress, Row, Shown, Signature, Snapshot, begun, heard, reread
from backend.cli.showing import accepted_line, plain_line, worth

BANK, CARD = "A1MOABK001", "B1MOACD001"


def snapshot(
    status: str = "signing", signature: str = "pending", bank: str = "waiting", card: str = "waiting", assets: int = 0
) -> Snapshot:
    rows = (
        Row(org_code=BANK, name="새벽은행", industry="bank", status=bank, assets=assets),
        Row(org_code=CARD, name="물결", industry="card", status=card),
    )
    return Snapshot("reg_1", status, Signature(signature), rows, Position("e", 0))


def given(*events: tuple[str, str, dict[str, Any]]) -> Progress:
    """Asked at 0.0, accepted at 0.1, then an event each second."""
    progress = begun(snapshot(), asked=0.0, accepted=0.1)
    for second, (kind, code, data) in enumerate(events, 1):
        progress = heard(progress, Event(kind, "", "reg_1", code, data), float(second))
    return progress


SIGNED = ("signature.completed", "", {})
ASSETS = {"assets": [{"id": "a", "org_code": BANK, "kind": "deposit", "name": "통장"}]}
ERROR = {"error": {"code": "provider_timeout", "title": "늦어요", "detail": "", "retryable": True, "user_action": "retry"}}


def test_moments_are_those_at_which_a_thing_was_heard_first() -> None:
    progress = given(SIGNED, ("provider.connecting", BANK, {}), ("provider.assets", BANK, ASSETS), ("provider.assets", BANK, ASSETS))
    row = progress.rows[BANK]
    assert (progress.signed, row.first_asset, row.ended, row.status, row.assets) == (1.0, 3.0, None, "collecting", 1)
    assert progress.first_asset == row


def test_the_end_of_a_registration_is_heard() -> None:
    progress = given(
        SIGNED,
        ("provider.completed", BANK, {"assets": 1}),
        ("provider.failed", CARD, ERROR),
        ("registration.completed", "", {"status": "partial"}),
    )
    assert (progress.status, progress.over) == ("partial", 4.0)
    error = progress.rows[CARD].error
    assert error is not None
    assert error.code == "provider_timeout"


def test_cancelled_ends_what_had_not_ended() -> None:
    progress = given(("provider.completed", BANK, {"assets": 0}), ("registration.completed", "", {"status": "cancelled"}))
    assert [row.status for row in progress.rows.values()] == ["completed", "cancelled"]


def test_a_retry_begins_again() -> None:
    retried = {"status": "collecting", "providers": [CARD]}
    progress = given(
        ("provider.failed", CARD, ERROR), ("registration.completed", "", {"status": "failed"}), ("registration.retried", "", retried)
    )
    assert (progress.status, progress.over, progress.rows[CARD].status, progress.rows[CARD].error) == ("collecting", None, "waiting", None)


@pytest.mark.parametrize(
    "event",
    [
        Event("registration.completed", "", "reg_2", "", {"status": "failed"}),
        Event("provider.completed", "", "reg_1", "Z9STRANGER", {"assets": 1}),
        Event("something.new", "", "reg_1", BANK, {"x": 1}),
        Event("asset.refreshed", "", "", BANK, ASSETS),
    ],
)
def test_what_is_foreign_or_unknown_changes_nothing(event: Event) -> None:
    before = given(SIGNED)
    assert heard(before, event, 9.0) == before


def test_after_lost_history_the_snapshots_count() -> None:
    assets = [Shown("a", BANK, "deposit", "통장"), Shown("b", "C1MOAIV001", "investment", "펀드")]
    fresh = snapshot("partial", "completed", "completed", "deferred", assets=1)
    progress = reread(given(), fresh, assets, 5.0)
    assert (progress.over, progress.signed, set(progress.assets)) == (5.0, 5.0, {"a"})
    assert progress.rows[BANK].ended == progress.rows[BANK].first_asset == 5.0


def test_lines_stand_under_each_other_in_korean_too() -> None:
    progress = given(SIGNED, ("provider.completed", BANK, {"assets": 2}), ("provider.completed", CARD, {"assets": 1}))
    lines = [plain_line(progress, Event("provider.completed", "", "reg_1", code), 3.0) or "" for code in (BANK, CARD)]
    assert len({cell_len(line.partition(" ms")[0]) for line in [*lines, accepted_line(progress)]}) == 1


@pytest.mark.parametrize(
    ("asset", "words"),
    [
        ({"balance": {"amount": "1234567.00", "currency": "KRW"}}, "1,234,567원"),
        ({"balance": {"amount": "-5000.00", "currency": "KRW"}}, "-5,000원"),
        ({"balance": {"amount": "12.50", "currency": "USD"}}, "12.50 USD"),
        ({"kind": "point", "details": {"remain_point_amt": "40289"}}, "40,289P"),
        ({"kind": "card"}, "-"),
        ({"balance": {"amount": "nonsense", "currency": "KRW"}}, "nonsense원"),
    ],
)
def test_what_an_asset_is_worth(asset: dict[str, Any], words: str) -> None:
    assert worth(msgspec.convert({"id": "a", "org_code": BANK, "kind": "deposit", "name": "통장", **asset}, Shown)) == words
