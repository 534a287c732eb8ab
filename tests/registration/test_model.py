"""What each fact does to a registration, and what its rows and its view make of it."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest

from backend.events import Position, ProviderStatus, SignatureStatus, to_json
from backend.providers.directory import BUILT_IN, load_directory
from backend.registration.decisions import Cancel, RecordAcceptance, RecordDenial, Retry
from backend.registration.rows import changed_rows
from backend.registration.views import etag, registration_view
from tests.registration.play import NOON, A, B, completes, connects, defers, fails, given, new, shows

DIRECTORY = load_directory(BUILT_IN)


def view(play) -> dict:
    return orjson.loads(to_json(registration_view(play.registration, DIRECTORY, Position("x7Q2", 16))))


def test_acceptance_changes_nothing_that_was_not_written_already() -> None:
    assert given(A).when(RecordAcceptance()).registration == new(A)


def test_a_new_registration_looks_like_the_contract() -> None:
    assert view(given(A)) == {
        "id": "reg_1",
        "status": "signing",
        "created_at": "2026-11-22T03:00:00.000Z",
        "signature": {"status": "pending"},
        "providers": [{"org_code": A, "name": "새벽은행", "industry": "bank", "status": "waiting", "assets": 0, "error": None}],
        "position": {"epoch": "x7Q2", "offset": 16},
    }


def test_from_requested_on_the_signature_has_its_addresses() -> None:
    addresses = {"web_url": "https://ca/w", "ios_app_scheme_url": "ca://i", "aos_app_scheme_url": "ca://a"}
    for play, status in (
        (given(A).asked(), "requested"),
        (given(A).signed(), "completed"),
        (given(A).asked().when(RecordDenial(1)), "denied"),
    ):
        assert view(play)["signature"] == {"status": status, **addresses, "expires_at": "2026-11-22T03:05:00.000Z"}


def test_assets_are_counted_by_id_over_runs() -> None:
    play = given(A).signed().when(shows(A, "x", "y"), shows(A, "y"), fails(A))
    assert play.when(Retry(frozenset()), shows(A, "x", "z", run=2)).registration.item(A).asset_ids == {"x", "y", "z"}


def test_an_error_is_shown_while_the_provider_is_failed_and_gone_when_it_begins_again() -> None:
    play = given(A).signed().when(fails(A))
    error = view(play)["providers"][0]["error"]
    assert set(error) == {"code", "title", "detail", "retryable", "user_action"}
    assert error["code"] == "provider_unavailable"
    assert view(play.when(Retry(frozenset())))["providers"][0]["error"] is None


def test_a_deferral_keeps_its_time_until_the_provider_is_back() -> None:
    play = given(A, B).signed().when(defers(A))
    assert play.registration.item(A).retry_at == NOON + timedelta(minutes=1)
    for request in (connects(A, answered=True), completes(A), fails(A), Cancel()):
        assert play.when(request).registration.item(A).retry_at is None


def test_a_cancelled_registration_keeps_its_signature() -> None:
    assert given(A).signed().when(Cancel()).registration.signature.status is SignatureStatus.COMPLETED


def test_only_what_changed_is_written() -> None:
    before, after = given(A, B).signed().registration, given(A, B).signed().when(connects(B)).registration
    state, items = changed_rows(before, after)
    assert state == {}
    assert [(item["org_code"], item["status"]) for item in items] == [(B, ProviderStatus.CONNECTING.value)]
    assert changed_rows(before, before) == ({}, [])


def test_the_tag_ignores_the_position_and_nothing_else() -> None:
    play = given(A)
    assert etag(play.registration, DIRECTORY) == etag(play.registration, DIRECTORY)
    assert etag(play.registration, DIRECTORY) != etag(play.asked().registration, DIRECTORY)
    assert etag(play.registration, DIRECTORY).startswith('"')


def test_a_provider_that_left_the_directory_is_still_shown() -> None:
    (shown,) = view(given("Z9MOAXX001"))["providers"]
    assert (shown["name"], shown["industry"]) == ("Z9MOAXX001", "")


def test_a_provider_that_was_not_chosen_is_no_part_of_it() -> None:
    with pytest.raises(KeyError):
        new(A).item(B)
