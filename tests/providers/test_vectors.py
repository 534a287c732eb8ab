"""The examples that the standard gives (section 9), those that this room can obey.

Periods, windows and the provider's side of timestamps are examined in `tests/sandbox/test_asking.py`. The list consent of one week
(20211201 to 20211208) is no more: MyData 2.0 has one consent for everything.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from backend.providers.api_codes import APIS
from backend.providers.consents import consent_for
from backend.providers.contract import Timestamps
from backend.providers.ids import sign_tx_id, tran_id, tx_id
from backend.providers.sandbox.asking import is_unchanged
from tests.providers.given import BANK, CA_CODE, OPERATOR, provider

FIRST_OF_DECEMBER = datetime(2021, 11, 30, 15, 0, tzinfo=UTC)  # midnight in Korea


def test_ids_have_the_lengths_of_the_standard() -> None:
    assert len(tran_id(OPERATOR, 1)) == 25
    assert len(tx_id(OPERATOR, BANK, CA_CODE, FIRST_OF_DECEMBER, 1)) == 74
    assert len(sign_tx_id(OPERATOR, CA_CODE, FIRST_OF_DECEMBER, 1)) == 49


def test_timestamps_of_the_standard_from_both_sides() -> None:
    """Modified at 40: 0 gets data and 100; 100 gets nothing new; after a change at 150 it gets data and 200."""
    known: dict[str, str] = {}
    for modified, now, news in (("40", "100", True), ("40", "120", False), ("150", "200", True), ("150", "220", False)):
        timestamps = Timestamps(known)
        unchanged = is_unchanged(modified, timestamps.of("BA01"))
        assert unchanged is not news
        timestamps.heard("BA01", None if unchanged else now)
        assert timestamps.moved is news
        known = timestamps.reached
    assert known == {"BA01": "200"}


@pytest.mark.parametrize("scopes", ["bank.list bank.invest bank.irp", "card.list card.card card.point card.loan", "insu.list"])
def test_the_scopes_of_the_standard_are_those_of_our_table(scopes: str) -> None:
    assert set(scopes.split()) <= {api.scope for api in APIS}


def test_a_consent_of_the_first_of_december_is_good_for_a_year() -> None:
    consent = consent_for(provider(), operator=OPERATOR, ca=CA_CODE, now=FIRST_OF_DECEMBER, serial=1)
    told = orjson.loads(consent.document)
    assert (told["end_date"], told["period"]) == ("20221201", "99991231")
