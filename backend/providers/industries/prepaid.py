"""What is left on something prepaid: the answer of EF02 and PP02 alike, in won. RULE: pure."""

from __future__ import annotations

from backend.providers.contract import CollectedAsset
from backend.providers.payloads import Amount, Page, balance, facts
from backend.providers.reading import with_more


class PrepaidBalance(Page, frozen=True, kw_only=True):
    """Answer of EF02 and PP02."""

    total_balance_amt: Amount
    charge_balance_amt: Amount | None = None
    reserve_balance_amt: Amount | None = None
    reserve_due_amt: Amount | None = None
    exp_due_amt: Amount | None = None


def with_balance(asset: CollectedAsset, answer: PrepaidBalance) -> CollectedAsset:
    """The balance is what was charged and earned together."""
    return with_more(asset, facts(answer, "total_balance_amt"), balance(answer.total_balance_amt))
