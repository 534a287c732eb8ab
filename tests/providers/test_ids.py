from __future__ import annotations

import re
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from backend.providers.ids import SERIAL_SPAN, Serials, sign_tx_id, tran_id, tx_id
from tests.providers.given import BANK, CA_CODE, NOW, OPERATOR

serials = st.integers(0, SERIAL_SPAN - 1)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(serials)
def test_a_tran_id_is_the_operator_then_m_then_fourteen_places(serial: int) -> None:
    assert re.fullmatch(f"{OPERATOR}M[0-9A-Z]{{14}}", tran_id(OPERATOR, serial))


@given(moments, serials)
def test_a_tx_id_has_74_characters_and_a_sign_tx_id_49(moment: datetime, serial: int) -> None:
    assert re.fullmatch(r"MD_\w{10}_\w{10}_\w{10}_\w{10}_\d{14}_[0-9A-Z]{12}", tx_id(OPERATOR, BANK, CA_CODE, moment, serial))
    assert len(tx_id(OPERATOR, BANK, CA_CODE, moment, serial)) == 74
    assert len(sign_tx_id(OPERATOR, CA_CODE, moment, serial)) == 49


def test_moments_are_written_in_korean_time() -> None:
    assert "_20261122100203_" in tx_id(OPERATOR, BANK, CA_CODE, NOW, 1)
    assert sign_tx_id(OPERATOR, CA_CODE, NOW, 1) == f"{OPERATOR}_{CA_CODE}_20261122100203_000000000001"


def test_serials_count_up_from_their_start_and_wrap_at_the_end() -> None:
    source = Serials(SERIAL_SPAN - 2)
    assert [source.next(), source.next(), source.next()] == [SERIAL_SPAN - 1, 0, 1]


def test_ten_thousand_calls_of_one_process_have_ten_thousand_tran_ids() -> None:
    source = Serials(7)
    assert len({tran_id(OPERATOR, source.next()) for _ in range(10_000)}) == 10_000
