from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import ITEM_ERRORS, ProviderUnavailable, Trouble, UserAction
from backend.providers.calls import ACCEPTED, OAUTH_ACCEPTED, READ_ACCEPTED
from backend.providers.outcomes import (
    ADVICE,
    CATALOGUE,
    Failure,
    Fault,
    Finding,
    OAuthError,
    RspCode,
    Weight,
    error_of,
    failed,
    is_an_answer,
    not_served,
    of_answer,
    of_failure,
    only_this_asset,
    outcome_of,
    retry_at,
    token_is_worn,
    weight_of,
)
from tests.providers.given import BANK, NOW

ANSWERS = {RspCode.OK, RspCode.UP_TO_DATE, RspCode.TOKEN_NOT_VALID}
OURS, THEIRS, PERSONS, NOBODYS = Fault
OK, _, FAILURE, IGNORED = Weight

# The standard's table of codes (section 5), row by row: status, code, what the contract calls it, whose fault, what a circuit counts.
STANDARD = [
    (400, "40001", Trouble.REFUSED, OURS, OK),
    (400, "40002", Trouble.REFUSED, OURS, OK),
    (400, "40003", Trouble.REFUSED, OURS, OK),
    (400, "40004", Trouble.REFUSED, OURS, OK),
    (401, "40101", Trouble.CONSENT_REQUIRED, PERSONS, OK),
    (401, "40102", Trouble.REFUSED, OURS, OK),
    (401, "40103", Trouble.REFUSED, OURS, OK),
    (401, "40104", Trouble.REFUSED, OURS, OK),
    (401, "40105", Trouble.REFUSED, PERSONS, OK),
    (401, "40106", Trouble.CONSENT_REQUIRED, PERSONS, OK),
    (403, "40301", Trouble.REFUSED, OURS, OK),
    (403, "40302", Trouble.BUSY, OURS, IGNORED),
    (403, "40303", Trouble.REFUSED, OURS, OK),
    (403, "40304", Trouble.REFUSED, OURS, OK),
    (403, "40305", Trouble.REFUSED, PERSONS, OK),
    (404, "40401", Trouble.REFUSED, OURS, OK),
    (404, "40402", Trouble.REFUSED, PERSONS, OK),
    (404, "40403", Trouble.REFUSED, PERSONS, OK),
    (405, "40501", Trouble.REFUSED, OURS, OK),
    (429, "42901", Trouble.BUSY, OURS, IGNORED),
    *[(500, f"5000{n}", Trouble.UNAVAILABLE, THEIRS, FAILURE) for n in range(1, 8)],
    (500, "50008", Trouble.RESTING, NOBODYS, IGNORED),
    (500, "50009", Trouble.BUSY, OURS, IGNORED),
    (400, "invalid_request", Trouble.REFUSED, OURS, OK),
    (400, "invalid_client", Trouble.REFUSED, OURS, OK),
    (400, "invalid_grant", Trouble.CONSENT_REQUIRED, PERSONS, OK),
    (400, "unauthorized_client", Trouble.REFUSED, OURS, OK),
    (400, "unsupported_grant_type", Trouble.REFUSED, OURS, OK),
    (400, "invalid_scope", Trouble.REFUSED, OURS, OK),
    (400, "unauthorized_user", Trouble.REFUSED, PERSONS, OK),
    (405, "method_not_allowed", Trouble.REFUSED, OURS, OK),
    (500, "server_error", Trouble.UNAVAILABLE, THEIRS, FAILURE),
    (503, "temporarily_unavailable", Trouble.UNAVAILABLE, THEIRS, FAILURE),
]


@pytest.mark.parametrize(("status", "code", "trouble", "fault", "weight"), STANDARD)
def test_every_code_of_the_standard_has_its_meaning(status: int, code: str, trouble: Trouble, fault: Fault, weight: Weight) -> None:
    finding = of_answer(status, code, READ_ACCEPTED if code.isdigit() else OAUTH_ACCEPTED)
    assert finding == Finding(trouble, code)
    outcome = outcome_of(finding.reason)
    assert (outcome.trouble, outcome.fault, outcome.weight) == (trouble, fault, weight)
    assert outcome.words.code == trouble


def test_the_catalogue_is_closed() -> None:
    assert set(CATALOGUE) == {*RspCode, *OAuthError, *Failure} - ANSWERS
    assert {code for _, code, *_ in STANDARD} == set(CATALOGUE) - set(Failure)
    assert set(ADVICE) == set(UserAction)
    assert all(advice.ko and advice.en for advice in ADVICE.values())
    assert {UserAction(words.user_action) for words in ITEM_ERRORS.values()} == set(ADVICE)
    for name in ("40403 ", "http_2000", "anything", ""):
        with pytest.raises(KeyError):
            outcome_of(name)


@pytest.mark.parametrize(
    ("error", "seconds", "weight"),
    [
        (None, 0.9, Weight.OK),
        (None, 1.0, Weight.SLOW),
        (failed(BANK, Failure.CONNECT), 0.1, Weight.FAILURE),
        (failed(BANK, Failure.DEADLINE), 20.0, Weight.FAILURE),
        (failed(BANK, Failure.MALFORMED), 0.1, Weight.FAILURE),
        (failed(BANK, Failure.ADDRESS), 0.1, Weight.IGNORED),
        (error_of(BANK, Finding(Trouble.REFUSED, RspCode.NO_ASSET)), 0.1, Weight.OK),
        (error_of(BANK, Finding(Trouble.REFUSED, RspCode.NO_ASSET)), 3.0, Weight.SLOW),
        (error_of(BANK, Finding(Trouble.BUSY, RspCode.QUOTA)), 3.0, Weight.IGNORED),
        (error_of(BANK, Finding(Trouble.UNAVAILABLE, "http_502")), 0.1, Weight.FAILURE),
        (error_of(BANK, Finding(Trouble.REFUSED, "http_404")), 0.1, Weight.OK),
        (ProviderUnavailable(BANK), 0.1, Weight.IGNORED),
    ],
)
def test_what_the_end_of_a_call_means_to_a_circuit(error: ProviderUnavailable | None, seconds: float, weight: Weight) -> None:
    assert weight_of(error, seconds, 1.0) is weight


@pytest.mark.parametrize(
    ("status", "code", "trouble"),
    [
        (429, None, Trouble.BUSY),
        (503, "50008", Trouble.RESTING),
        (502, None, Trouble.UNAVAILABLE),
        (404, None, Trouble.REFUSED),
        (302, None, Trouble.INVALID_RESPONSE),
        (204, None, Trouble.INVALID_RESPONSE),
        (200, None, Trouble.INVALID_RESPONSE),
        (200, "12345", Trouble.INVALID_RESPONSE),
        (200, "50001", Trouble.UNAVAILABLE),
        (500, "40101", Trouble.UNAVAILABLE),  # a broken provider, not a worn token
        (400, "50001", Trouble.REFUSED),
        (500, "00000", Trouble.UNAVAILABLE),
    ],
)
def test_an_answer_of_a_data_api_is_judged_by_its_code_where_that_fits_its_status(status: int, code: str | None, trouble: Trouble) -> None:
    finding = of_answer(status, code, READ_ACCEPTED)
    assert finding is not None
    assert finding.trouble is trouble


@pytest.mark.parametrize(
    ("status", "error", "trouble"),
    [
        (500, OAuthError.INVALID_GRANT, Trouble.UNAVAILABLE),
        (200, OAuthError.INVALID_GRANT, Trouble.CONSENT_REQUIRED),
    ],
)
def test_an_answer_of_a_token_endpoint_is_judged_by_its_error(status: int, error: str, trouble: Trouble) -> None:
    finding = of_answer(status, error, OAUTH_ACCEPTED)
    assert finding is not None
    assert finding.trouble is trouble


def test_what_is_accepted_is_an_answer() -> None:
    assert of_answer(200, RspCode.OK, ACCEPTED) is None
    assert of_answer(200, RspCode.UP_TO_DATE, READ_ACCEPTED) is None
    assert of_answer(200, None, OAUTH_ACCEPTED) is None
    assert of_answer(200, RspCode.UP_TO_DATE, ACCEPTED) == Finding(Trouble.INVALID_RESPONSE, "malformed")


@given(st.integers(100, 599), st.none() | st.text() | st.sampled_from([*RspCode, *OAuthError]))
def test_every_answer_is_judged_and_no_reason_repeats_what_came_from_outside(status: int, code: str | None) -> None:
    finding = of_answer(status, code, READ_ACCEPTED)
    if finding is not None:
        assert finding.reason in {*RspCode, *OAuthError, "malformed", f"http_{status}"}
        assert outcome_of(finding.reason).trouble is finding.trouble
        assert error_of(BANK, finding).TROUBLE is finding.trouble


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_of_the_transport_has_its_error(failure: Failure) -> None:
    assert failed(BANK, failure).reason == failure
    assert of_failure(failure).trouble is CATALOGUE[failure].trouble


def test_the_contract_names_what_a_misbehaving_provider_becomes() -> None:
    assert failed(BANK, Failure.RESET).TROUBLE is Trouble.UNAVAILABLE
    assert failed(BANK, Failure.DEADLINE).TROUBLE is Trouble.TIMEOUT
    for failure in (Failure.TRUNCATED, Failure.OVERSIZE, Failure.MALFORMED, Failure.ENCODED):
        assert failed(BANK, failure).TROUBLE is Trouble.INVALID_RESPONSE


def test_what_an_institution_said_is_told_from_what_we_met_without_it() -> None:
    assert all(is_an_answer(reason) for reason in ("42901", "50009", "server_error"))
    assert not any(is_an_answer(reason) for reason in (None, "00000", "http_x", *Failure))
    assert not is_an_answer("http_429"), "a gateway says that, whatever lies behind it"


def test_an_error_about_one_asset_and_a_worn_token_can_be_told() -> None:
    def judged(status: int, code: str) -> Finding:
        finding = of_answer(status, code, READ_ACCEPTED)
        assert finding is not None
        return finding

    assert [
        only_this_asset(error_of(BANK, judged(*each))) for each in [(401, "40105"), (404, "40402"), (403, "40305"), (404, "40403")]
    ] == [
        True,
        True,
        True,
        False,
    ]
    assert not_served(error_of(BANK, judged(401, "40104")))
    assert not_served(error_of(BANK, judged(404, "40401")))
    assert not not_served(error_of(BANK, judged(404, "40402")))
    assert token_is_worn(error_of(BANK, judged(401, "40101")))
    assert not token_is_worn(error_of(BANK, judged(401, "40106")))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2),
        (" 30 ", 30),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("soon", None),
        ("0", 1),
        ("99999999999", 3600),
        ("Sun, 22 Nov 2026 01:02:33 GMT", 30),
        ("Sun, 22 Nov 2020 01:02:33 GMT", 1),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_is_clamped(header: str, seconds: int | None) -> None:
    assert retry_at(header, NOW) == (None if seconds is None else NOW + timedelta(seconds=seconds))


@given(st.text(), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_any_retry_after_is_a_moment_within_the_hour_or_nothing(header: str, now: datetime) -> None:
    moment = retry_at(header, now)
    assert moment is None or timedelta(seconds=1) <= moment - now <= timedelta(hours=1)
