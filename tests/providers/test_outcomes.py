from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import Trouble
from backend.providers.calls import ACCEPTED, OAUTH_ACCEPTED, READ_ACCEPTED
from backend.providers.outcomes import (
    Failure,
    Finding,
    OAuthError,
    RspCode,
    error_of,
    failed,
    of_answer,
    only_this_asset,
    retry_at,
    token_is_worn,
)
from tests.providers.given import BANK, NOW


@pytest.mark.parametrize(
    ("status", "code", "trouble"),
    [
        (400, "40001", Trouble.REFUSED),
        (401, "40101", Trouble.CONSENT_REQUIRED),
        (401, "40102", Trouble.REFUSED),
        (401, "40105", Trouble.REFUSED),
        (401, "40106", Trouble.CONSENT_REQUIRED),
        (403, "40302", Trouble.BUSY),
        (403, "40305", Trouble.REFUSED),
        (404, "40402", Trouble.REFUSED),
        (404, "40403", Trouble.REFUSED),
        (429, "42901", Trouble.BUSY),
        (429, None, Trouble.BUSY),
        (500, "50001", Trouble.UNAVAILABLE),
        (500, "50003", Trouble.UNAVAILABLE),
        (500, "50008", Trouble.RESTING),
        (503, "50008", Trouble.RESTING),
        (500, "50009", Trouble.BUSY),
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
        (400, OAuthError.INVALID_GRANT, Trouble.CONSENT_REQUIRED),
        (400, OAuthError.INVALID_CLIENT, Trouble.REFUSED),
        (400, OAuthError.UNAUTHORIZED_USER, Trouble.REFUSED),
        (500, OAuthError.SERVER_ERROR, Trouble.UNAVAILABLE),
        (503, OAuthError.TEMPORARILY_UNAVAILABLE, Trouble.UNAVAILABLE),
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
        assert error_of(BANK, finding).TROUBLE is finding.trouble


@pytest.mark.parametrize("failure", Failure)
def test_every_failure_of_the_transport_has_its_error(failure: Failure) -> None:
    assert failed(BANK, failure).reason == failure


def test_the_contract_names_what_a_misbehaving_provider_becomes() -> None:
    assert failed(BANK, Failure.RESET).TROUBLE is Trouble.UNAVAILABLE
    assert failed(BANK, Failure.DEADLINE).TROUBLE is Trouble.TIMEOUT
    for failure in (Failure.TRUNCATED, Failure.OVERSIZE, Failure.MALFORMED, Failure.ENCODED):
        assert failed(BANK, failure).TROUBLE is Trouble.INVALID_RESPONSE


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
    assert token_is_worn(error_of(BANK, judged(401, "40101")))
    assert not token_is_worn(error_of(BANK, judged(401, "40106")))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("2", 2), (" 30 ", 30), ("0", 1), ("99999999999", 3600), ("Sun, 22 Nov 2026 01:02:33 GMT", 30), ("Sun, 22 Nov 2020 01:02:33 GMT", 1)],
)
def test_retry_after_is_seconds_or_a_date_and_is_clamped(header: str, seconds: int) -> None:
    assert retry_at(header, NOW) == NOW + timedelta(seconds=seconds)


@given(st.text(), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_any_retry_after_is_a_moment_within_the_hour_or_nothing(header: str, now: datetime) -> None:
    moment = retry_at(header, now)
    assert moment is None or timedelta(seconds=1) <= moment - now <= timedelta(hours=1)
