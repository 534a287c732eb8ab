"""What the tests of this room begin with: a moment, a person, institutions, and clients to them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx

from backend.clock import Clock, SystemClock
from backend.events import Industry
from backend.providers.calling.transport import Guard, Repeats, Transport
from backend.providers.contract import CertificationAuthority, Person, Provider
from backend.providers.ids import Serials
from backend.providers.user_ci import development_user_ci

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)  # 10:02:03 on a Sunday in Korea
OPERATOR = "ZVMOA00000"
CA_CODE = "CAMOA00001"
BANK = "A1MOABK001"


def person(sub: str = "alice") -> Person:
    return Person(user_ci=development_user_ci(sub), real_name="김모아", phone_num="+821000000000")


def provider(base_url: str = "http://127.0.0.1:1", industry: Industry = Industry.BANK, **more: Any) -> Provider:
    return Provider(org_code=BANK, name="새벽은행", industry=industry, base_url=base_url, allow_private=True, **more)


def authority(base_url: str = "http://127.0.0.1:1") -> CertificationAuthority:
    return CertificationAuthority(org_code=CA_CODE, name="모아인증", base_url=base_url, allow_private=True)


def transport(
    wire: httpx.AsyncBaseTransport,
    base_url: str,
    *,
    org_code: str = BANK,
    deadline: float = 5.0,
    clock: Clock | None = None,
    guard: Guard | None = None,
    repeats: Repeats | None = None,
) -> Transport:
    return Transport(
        org_code,
        wire=wire,
        base_url=base_url,
        operator=OPERATOR,
        serials=Serials(0),
        clock=clock or SystemClock(),
        deadline=deadline,
        guard=guard,
        repeats=repeats,
    )
