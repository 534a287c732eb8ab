"""The rules of a registration, one sentence each."""

from __future__ import annotations

import pytest

from backend.errors import Trouble
from backend.events import RegistrationStatus
from backend.registration.decisions import (
    Cancel,
    RecordAcceptance,
    RecordDenial,
    RecordExpiry,
    RecordSignatureRequest,
    RecordSigned,
    RecordSigningFailure,
    Retry,
    failed_providers,
)
from tests.registration.play import SIGNATURE, TTL, A, B, C, Play, completes, connects, defers, fails, given, shows

NONE_UNSIGNED = Retry(frozenset())


def ended(*ends: str) -> Play:
    """A registration of A, B, C whose providers ended as said, in one word each."""
    make = {"completed": completes, "failed": fails, "deferred": defers}
    codes = (A, B, C)[: len(ends)]
    return given(*codes).signed().when(*(make[end](org_code) for end, org_code in zip(ends, codes, strict=True)))


# --- the signature ---------------------------------------------------------------------------------------------------


def test_a_registration_begins_with_its_acceptance() -> None:
    given(A).when(RecordAcceptance()).then("registration.accepted").shows("signing", "waiting")


def test_one_signature_starts_the_collecting_of_all() -> None:
    requested = given(A, B).when(RecordSignatureRequest(1, SIGNATURE)).then("signature.requested")
    requested.when(RecordSigned(1)).then("signature.completed").shows("collecting", "waiting", "waiting")


def test_a_signature_is_requested_once_in_a_run() -> None:
    given(A).asked().when(RecordSignatureRequest(1, SIGNATURE)).then_nothing()


@pytest.mark.parametrize("answer", [RecordSigned(1), RecordDenial(1)])
def test_nobody_signs_what_was_not_requested(answer: RecordSigned | RecordDenial) -> None:
    given(A).when(answer).then_nothing().shows("signing", "waiting")


def test_a_denial_ends_the_registration() -> None:
    given(A).asked().when(RecordDenial(1)).then("signature.denied", "registration.completed denied").shows("denied", "waiting")


def test_nobody_signed_in_time() -> None:
    asked = given(A).asked().later(TTL.total_seconds())
    asked.when(RecordExpiry(1)).then("signature.expired", "registration.completed expired").shows("expired", "waiting")


def test_a_signature_expires_at_its_time_and_no_moment_sooner() -> None:
    given(A).asked().later(TTL.total_seconds() - 0.001).when(RecordExpiry(1)).then_nothing()


def test_a_ca_that_never_answered_expires_too() -> None:
    given(A).later(300).when(RecordExpiry(1)).then("signature.expired", "registration.completed expired")


@pytest.mark.parametrize("play", [given(A, B), given(A, B).asked()])
def test_our_own_fault_before_the_signature_fails_everything_and_can_be_retried(play: Play) -> None:
    failed = play.when(RecordSigningFailure(1)).then("registration.completed failed").shows("failed", "waiting", "waiting")
    for late in (RecordSigningFailure(1), RecordSigned(1), RecordDenial(1), Cancel(), connects(A), completes(A), fails(A)):
        failed.when(late).then_nothing()
    assert failed_providers(failed.registration) == (A, B)
    again = failed.when(NONE_UNSIGNED).then("registration.retried signing A B").shows("signing", "waiting", "waiting")
    again.when(RecordSigningFailure(1)).then_nothing()
    again.asked().when(RecordSigned(2)).then("signature.completed").shows("collecting", "waiting", "waiting")


ANSWERS = [RecordSigned(1), RecordDenial(1), RecordExpiry(1), RecordSignatureRequest(1, SIGNATURE), RecordSigningFailure(1)]


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_was_signed_stays_signed(answer: RecordSigned) -> None:
    given(A).signed().later(300).when(answer).then_nothing().shows("collecting", "waiting")


# --- providers -------------------------------------------------------------------------------------------------------


def test_the_road_of_a_provider() -> None:
    play = given(A, B).signed().when(connects(A)).then("provider.connecting A").shows("collecting", "connecting", "waiting")
    play = play.when(shows(A, "x", "y"), shows(A, "y", "z")).then("provider.assets A x y", "provider.assets A y z")
    play.shows("collecting", "collecting", "waiting").when(completes(A)).then("provider.completed A 3")


@pytest.mark.parametrize("request_", [connects(A), shows(A, "x"), completes(A), fails(A), defers(A)])
def test_nothing_of_a_provider_is_told_before_the_signature(request_: object) -> None:
    given(A).when(request_).then_nothing()
    given(A).asked().when(request_).then_nothing()


@pytest.mark.parametrize("request_", [connects(A), shows(A, "x"), completes(A), fails(A), defers(A)])
@pytest.mark.parametrize("end", [RecordDenial(1), RecordExpiry(1), Cancel()])
def test_nothing_of_a_provider_is_told_when_nobody_signed(end: object, request_: object) -> None:
    over = given(A).asked().later(300).when(end)
    assert over.facts
    over.when(request_).then_nothing()


def test_a_provider_connects_once() -> None:
    given(A).signed().when(connects(A), connects(A)).then("provider.connecting A")


def test_an_answer_without_assets_is_no_news() -> None:
    given(A).signed().when(connects(A), shows(A)).then("provider.connecting A")


@pytest.mark.parametrize("again", [connects(A), shows(A, "x"), completes(A), fails(A), defers(A)])
@pytest.mark.parametrize("end", [completes(A), fails(A)])
def test_a_provider_ends_once(end: object, again: object) -> None:
    given(A, B).signed().when(end).when(again).then_nothing()


def test_a_failure_says_why() -> None:
    given(A, B).signed().when(fails(A, trouble=Trouble.TIMEOUT)).then("provider.failed A provider_timeout")


# --- the end ---------------------------------------------------------------------------------------------------------


def test_the_last_provider_ends_the_registration() -> None:
    one = given(A, B).signed().when(completes(A)).then("provider.completed A 0").shows("collecting", "completed", "waiting")
    one.when(completes(B)).then("provider.completed B 0", "registration.completed completed")


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        (("completed", "completed"), "completed"),
        (("completed", "failed"), "partial"),
        (("failed", "failed"), "failed"),
        (("deferred", "failed"), "partial"),
        (("deferred", "completed"), "partial"),
        (("deferred", "deferred"), "partial"),
        (("completed",), "completed"),
        (("failed",), "failed"),
        (("deferred",), "partial"),
    ],
)
def test_what_the_providers_amount_to(ends: tuple[str, ...], status: str) -> None:
    play = ended(*ends)
    assert play.facts[-1].status == status  # type: ignore[attr-defined]
    assert play.registration.status == play.registration.completed_as == status


# --- deferral --------------------------------------------------------------------------------------------------------


def test_a_deferral_is_told_once_however_often_it_is_put_off() -> None:
    given(A, B).signed().when(connects(A), defers(A)).then("provider.connecting A", "provider.deferred A provider_resting").when(
        connects(A), defers(A)
    ).then_nothing()


def test_a_deferred_provider_stays_deferred_until_it_answers() -> None:
    ended("deferred").when(connects(A)).then_nothing().when(connects(A, answered=True)).then("provider.connecting A")


def test_a_second_deferral_is_told_again_but_not_the_same_end() -> None:
    back = ended("deferred", "completed").when(connects(A, answered=True))
    back.when(defers(A)).then("provider.deferred A provider_resting").shows("partial", "deferred", "completed")


def test_a_partial_registration_completes_when_the_deferred_provider_does() -> None:
    play = ended("deferred", "completed").when(connects(A, answered=True), shows(A, "x"))
    play.when(completes(A)).then("provider.completed A 1", "registration.completed completed")


def test_a_deferred_provider_that_fails_changes_the_end_only_if_all_failed() -> None:
    ended("deferred", "completed").when(fails(A)).then("provider.failed A provider_unavailable")
    ended("deferred", "failed").when(fails(A)).then("provider.failed A provider_unavailable", "registration.completed failed")


# --- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_ends_what_has_not_ended_and_nothing_else() -> None:
    play = given(A, B, C).signed().when(completes(A), connects(B)).when(Cancel()).then("registration.completed cancelled")
    play.shows("cancelled", "completed", "cancelled", "cancelled")


def test_cancelling_reaches_the_signature_and_deferred_providers() -> None:
    given(A).when(Cancel()).then("registration.completed cancelled").shows("cancelled", "cancelled")
    ended("deferred", "completed").when(Cancel()).then("registration.completed cancelled").shows("cancelled", "cancelled", "completed")


@pytest.mark.parametrize("request_", [connects(A), shows(A, "x"), completes(A), fails(A), defers(A), RecordSigned(1), Cancel()])
def test_after_a_cancellation_nothing_is_told(request_: object) -> None:
    given(A).signed().when(Cancel()).when(request_).then_nothing()
    given(A).asked().when(Cancel()).when(request_).then_nothing()


@pytest.mark.parametrize("ends", [("completed",), ("failed", "completed"), ("failed",)])
def test_there_is_nothing_to_cancel_when_all_have_ended(ends: tuple[str, ...]) -> None:
    ended(*ends).when(Cancel()).then_nothing()


def test_nobody_cancels_what_was_denied_or_expired() -> None:
    given(A).asked().when(RecordDenial(1)).when(Cancel()).then_nothing()
    given(A).later(300).when(RecordExpiry(1)).when(Cancel()).then_nothing()


@pytest.mark.parametrize("end", [RecordDenial(2), RecordExpiry(2), RecordSigningFailure(2)])
def test_cancelling_reaches_what_goes_on_although_a_later_run_was_not_signed(end: object) -> None:
    play = ended("failed", "deferred").when(Retry(frozenset({A}))).asked().later(300).when(end)
    cancelled = play.when(Cancel()).then("registration.completed cancelled").shows("cancelled", "cancelled", "cancelled")
    cancelled.when(connects(B, answered=True), completes(B), Cancel()).then_nothing()


# --- retrying --------------------------------------------------------------------------------------------------------


def test_a_retry_begins_the_failed_ones_again() -> None:
    play = ended("completed", "failed").when(NONE_UNSIGNED).then("registration.retried collecting B")
    play.shows("collecting", "completed", "waiting")
    assert play.registration.run == play.registration.item(B).run == 2
    assert play.registration.item(A).run == 1


def test_a_retry_asks_for_a_signature_when_one_of_them_needs_it() -> None:
    play = ended("failed", "failed").when(Retry(frozenset({B}))).then("registration.retried signing A B")
    play.when(RecordSignatureRequest(2, SIGNATURE)).then("signature.requested").when(RecordSigned(2)).then("signature.completed")


def test_an_unsigned_provider_that_did_not_fail_needs_no_signature() -> None:
    ended("completed", "failed").when(Retry(frozenset({A}))).then("registration.retried collecting B")


def test_a_retried_run_announces_its_end_anew() -> None:
    again = ended("completed", "failed").when(NONE_UNSIGNED)
    again.when(fails(B, run=2)).then("provider.failed B provider_unavailable", "registration.completed partial")
    again.when(completes(B, run=2)).then("provider.completed B 0", "registration.completed completed")


@pytest.mark.parametrize("request_", [connects(B), shows(B, "x"), completes(B), fails(B), defers(B)])
def test_jobs_of_the_run_before_are_stale(request_: object) -> None:
    ended("completed", "failed").when(NONE_UNSIGNED).when(request_).then_nothing()


@pytest.mark.parametrize("request_", [RecordSignatureRequest(1, SIGNATURE), RecordSigned(1), RecordDenial(1), RecordExpiry(1)])
def test_signatures_of_the_run_before_are_stale(request_: object) -> None:
    ended("failed").when(Retry(frozenset({A}))).asked().later(300).when(request_).then_nothing()


def test_a_retry_is_accepted_once() -> None:
    ended("failed").when(NONE_UNSIGNED, NONE_UNSIGNED).then("registration.retried collecting A")


@pytest.mark.parametrize("play", [ended("completed"), ended("deferred"), ended("deferred", "completed"), given(A), given(A).signed()])
def test_only_what_failed_can_be_retried(play: Play) -> None:
    play.when(NONE_UNSIGNED).then_nothing()
    assert failed_providers(play.registration) == ()


def test_neither_cancelled_nor_unsigned_registrations_are_retried() -> None:
    given(A, B).signed().when(fails(A), Cancel()).when(NONE_UNSIGNED).then_nothing().shows("cancelled", "failed", "cancelled")
    given(A).asked().when(RecordDenial(1)).when(NONE_UNSIGNED).then_nothing()


# --- a deferred provider beside a retry ------------------------------------------------------------------------------


def retried_for_a_signature() -> Play:
    """A failed and is to be signed again; B was signed for in the first run and is deferred."""
    return ended("failed", "deferred").when(Retry(frozenset({A}))).asked()


def test_a_deferred_provider_goes_on_while_others_wait_for_another_signature() -> None:
    play = retried_for_a_signature().when(connects(B, answered=True)).then("provider.connecting B")
    play.when(completes(B)).then("provider.completed B 0").shows("signing", "waiting", "completed")
    play.when(RecordSigned(2), completes(B), completes(A, run=2)).shows("completed", "completed", "completed")


@pytest.mark.parametrize("end", [RecordDenial(2), RecordExpiry(2), RecordSigningFailure(2)])
def test_a_deferred_provider_ends_even_if_the_other_signature_never_comes(end: object) -> None:
    over = retried_for_a_signature().later(300).when(end)
    assert over.registration.status in {RegistrationStatus.DENIED, RegistrationStatus.EXPIRED, RegistrationStatus.FAILED}
    over.when(connects(B, answered=True), shows(B, "x"), completes(B)).then(
        "provider.connecting B", "provider.assets B x", "provider.completed B 1"
    )
    over.when(connects(A, run=2), completes(A, run=2)).then_nothing()
