from __future__ import annotations

import string
from contextlib import suppress
from datetime import date
from decimal import Decimal

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct

from backend.providers.payloads import (
    Amount,
    Code,
    Count,
    Currency,
    Cursor,
    Day,
    Envelope,
    Identifier,
    Malformed,
    Segment,
    Text,
    code_of,
    decode,
    details,
    masked,
    named,
    plain,
)


class Everything(Struct, frozen=True):
    amount: Amount
    count: Count
    flag: bool
    day: Day | None = None
    name: Text = ""
    cursor: Cursor | None = None
    card: Segment | None = None
    number: Identifier | None = None
    currency: Currency | None = None
    code: Code | None = None


GOOD = {"amount": "12.30", "count": "007", "flag": "true"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
documents = json_values.map(lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
nearly = st.dictionaries(st.sampled_from(list(Everything.__struct_fields__)), json_values).map(
    lambda fields: orjson.dumps({**GOOD, **fields})
)


def test_strings_become_real_types() -> None:
    value = decode(Everything, orjson.dumps({**GOOD, "day": "20240229", "name": "급여통장", "more": {"unknown": ["1"]}}))
    assert (value.amount, value.count, value.flag, value.day, value.name) == (Decimal("12.30"), 7, True, date(2024, 2, 29), "급여통장")
    assert value.number is None


@pytest.mark.parametrize(
    "fault",
    [
        {"amount": "1e9"},
        {"amount": "NaN"},
        {"amount": "Infinity"},
        {"amount": "1" * 19},
        {"amount": ""},
        {"amount": 12},
        {"amount": "١٢"},
        {"count": "-1"},
        {"count": "9" * 16},
        {"flag": "yes"},
        {"day": "20230229"},
        {"day": "2024-02-29"},
        {"name": "a\0b"},
        {"name": "a" * 501},
        {"number": ""},
        {"number": "1\n2"},
        {"card": ".."},
        {"card": "."},
        {"card": "카드"},
        {"currency": "won"},
        {"cursor": "a\rb"},
        {"code": "0/1"},
    ],
)
def test_what_is_not_of_the_standards_form_is_malformed(fault: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        decode(Everything, orjson.dumps({**GOOD, **fault}))


def test_a_required_field_that_is_missing_is_malformed() -> None:
    with pytest.raises(Malformed):
        decode(Everything, b'{"amount":"1"}')


@given(st.binary() | documents | nearly)
@example(b'{"amount":' + b"[" * 100_000)
@example(b'{"x":' + b'{"x":' * 100_000)
@example(b'{"name":"\\ud800"}')
@example(b'{"name":"\xff"}')
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_a_value_or_malformed(body: bytes) -> None:
    assert code_of(body) is None or isinstance(code_of(body), str)
    for kind in (Everything, Envelope):
        with suppress(Malformed):
            assert isinstance(decode(kind, body), kind)


def test_a_fault_does_not_carry_the_bytes_along() -> None:
    with pytest.raises(Malformed) as caught:
        decode(Everything, b'{"amount":"110-123-456789"}')
    assert caught.value.__suppress_context__
    assert "110" not in str(caught.value)


def test_the_code_is_the_rsp_code_or_the_oauth_error() -> None:
    assert code_of(b'{"rsp_code":"00000"}') == "00000"
    assert code_of(b'{"error":"invalid_grant"}') == "invalid_grant"
    assert code_of(b'{"rsp_code":"50008","error":"temporarily_unavailable"}') == "50008"
    assert code_of(b"[]") is None
    assert code_of(b'{"rsp_code":40101}') is None


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        ("110-123-456789", "***-***-**6789"),
        ("1234567890", "******7890"),
        ("123456******9876", "************9876"),
        ("010-1234-5678", "***-****-5678"),
        ("123456", "****56"),
        ("1234", "****"),
        ("", ""),
        ("user@example.com12", "************om12"),
    ],
)
def test_a_number_shows_its_last_characters_only(number: str, shown: str) -> None:
    assert masked(number) == shown


@given(st.text(alphabet=string.ascii_letters + string.digits + "-* ./@가", max_size=40))
def test_a_masked_number_never_shows_more_than_four_characters(number: str) -> None:
    assert sum(char.isalnum() for char in masked(number)) <= 4


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**17), max_value=10**17, places=6))
def test_a_decimal_string_has_no_exponent_and_keeps_the_value(amount: Decimal) -> None:
    assert "E" not in plain(amount)
    assert Decimal(plain(amount)) == amount


@pytest.mark.parametrize("amount", ["-0", "-0.00", "+0", "0000", "0.0"])
def test_nothing_is_not_less_than_nothing(amount: str) -> None:
    """A balance that one answer calls 0 and the next -0 has not changed."""
    assert plain(Amount(amount)) == "0"


def test_details_leave_out_what_is_unknown() -> None:
    told = details(rate=Amount("1.500"), day=Day(2026, 1, 2), flag=False, name="x", nothing=None)
    assert told == {"rate": "1.50", "day": "2026-01-02", "flag": False, "name": "x"}


def test_a_code_that_no_table_knows_stays_as_it_is() -> None:
    assert (named("01", {"01": "active"}), named("77", {}), named(None, {})) == ("active", "77", "unknown")
