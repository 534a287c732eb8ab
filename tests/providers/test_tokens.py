from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from urllib.parse import parse_qs

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.providers.contract import TokenPair
from backend.providers.payloads import Malformed
from backend.providers.tokens import Credentials, refresh_call, revoke_call
from tests.providers.given import BANK, NOW, provider

CREDENTIALS = Credentials(client_id="id", client_secret="hush", service_id="moa")
PAIR = TokenPair(
    access_token="access",
    access_expires_at=NOW,
    refresh_token="refresh",
    refresh_expires_at=NOW + timedelta(days=9),
    scope="bank.list",
)
ANSWER = {"token_type": "Bearer", "access_token": "new", "expires_in": "3600"}


def read(**changed: object) -> TokenPair:
    return refresh_call(provider(), PAIR, CREDENTIALS, NOW).read(None, orjson.dumps({**ANSWER, **changed}))


def test_a_refresh_keeps_the_refresh_token_unless_a_new_one_comes() -> None:
    assert (read().refresh_token, read().refresh_expires_at) == ("refresh", PAIR.refresh_expires_at)
    renewed = read(refresh_token="second", refresh_token_expires_in="60")
    assert (renewed.refresh_token, renewed.refresh_expires_at) == ("second", NOW + timedelta(seconds=60))


def test_no_token_lives_longer_than_the_law_allows() -> None:
    pair = read(expires_in="999999999999", refresh_token="second", refresh_token_expires_in="999999999999999")
    assert pair.access_expires_at == NOW + timedelta(days=90)
    assert pair.refresh_expires_at == NOW + timedelta(days=365)


@pytest.mark.parametrize(
    "fault",
    [{"access_token": "a\r\nX-Evil: 1"}, {"access_token": ""}, {"access_token": "a" * 1501}, {"token_type": "mac"}, {"expires_in": "-1"}],
)
def test_a_token_that_would_not_fit_into_a_header_is_malformed(fault: dict[str, str]) -> None:
    with pytest.raises(Malformed):
        read(**fault)


@given(st.binary())
def test_any_bytes_are_a_pair_or_malformed(body: bytes) -> None:
    with suppress(Malformed):
        refresh_call(provider(), PAIR, CREDENTIALS, NOW).read(None, body)


def test_a_refresh_and_a_revoke_name_the_provider_and_show_no_secret() -> None:
    refresh, revoke = refresh_call(provider(), PAIR, CREDENTIALS, NOW), revoke_call(provider(), "access", CREDENTIALS)
    assert parse_qs((refresh.body or b"").decode())["refresh_token"] == ["refresh"]
    assert parse_qs((revoke.body or b"").decode()) == {
        "org_code": [BANK],
        "token": ["access"],
        "client_id": ["id"],
        "client_secret": ["hush"],
    }
    assert "hush" not in repr(refresh) + repr(revoke) + repr(CREDENTIALS)
