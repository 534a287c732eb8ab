"""Every resource that the sandbox's providers have, by industry and API code."""

from __future__ import annotations

from backend.events import Industry
from backend.providers.sandbox import bank, capital, card, efin, insu, invest, telecom
from backend.providers.sandbox.people import Resource

CATALOGUE: dict[Industry, dict[str, Resource]] = {
    Industry.BANK: bank.RESOURCES,
    Industry.CARD: card.RESOURCES,
    Industry.INVEST: invest.RESOURCES,
    Industry.INSU: insu.RESOURCES,
    Industry.EFIN: efin.RESOURCES,
    Industry.CAPITAL: capital.RESOURCES,
    Industry.TELECOM: telecom.RESOURCES,
}
