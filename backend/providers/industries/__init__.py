"""One module per industry: which calls, what their answers look like, how they become assets. All RULE: pure.

Each module has a tuple `LISTINGS`; a listing finds assets and says which details each still wants.
Numbers are masked here; `key` alone keeps what the provider calls an asset. Assets without consent are left out.
"""

from __future__ import annotations

from typing import Any

from backend.events import Industry
from backend.providers.industries import bank, capital, card, efin, insu, invest, telecom
from backend.providers.reading import Listing

LISTINGS: dict[Industry, tuple[Listing[Any], ...]] = {
    Industry.BANK: bank.LISTINGS,
    Industry.CARD: card.LISTINGS,
    Industry.INVEST: invest.LISTINGS,
    Industry.INSU: insu.LISTINGS,
    Industry.EFIN: efin.LISTINGS,
    Industry.CAPITAL: capital.LISTINGS,
    Industry.TELECOM: telecom.LISTINGS,
}
