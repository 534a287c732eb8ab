"""One call to the outside as a value: what is sent, and how its answer is read. RULE: pure.

`reading.py`, `ca.py` and `client.py` write calls, `Transport.call` makes them. A call holds secrets, so it prints as its name only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar
from urllib.parse import urlencode

from backend.providers.contract import ApiType
from backend.providers.outcomes import RspCode

JSON = "application/json; charset=UTF-8"
FORM = "application/x-www-form-urlencoded"

ACCEPTED = frozenset[str]([RspCode.OK])
READ_ACCEPTED = frozenset[str]([RspCode.OK, RspCode.UP_TO_DATE])
OAUTH_ACCEPTED = frozenset[str]()  # token endpoints have no rsp_code

T_co = TypeVar("T_co", covariant=True)


class Scope(StrEnum):
    """What a circuit tells apart within one institution."""

    READ = "read"
    TOKEN = "token"
    CA = "ca"


@dataclass(frozen=True, kw_only=True, repr=False)
class Call(Generic[T_co]):
    """One call of the standard."""

    api_code: str  # BA01 …; AU… for the token endpoints and the CA, by their numbers in the standard
    scope: Scope
    method: str
    path: str  # after the base URL; the parts that came from outside are quoted
    read: Callable[[str | None, bytes], T_co]  # (rsp_code, body) -> answer; raises Malformed. Pure
    accepts: frozenset[str] = ACCEPTED  # rsp_codes that `read` understands; empty for token endpoints
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = JSON
    token: str | None = None
    api_type: ApiType | None = None
    user: str | None = None  # for whom, as roll-ups name them (`traffic.user_key`); never sent. None: for nobody in particular
    repeatable: bool = False  # whether a second one has no further effect: every read, and a refresh

    def __repr__(self) -> str:
        return f"Call({self.api_code})"


def form(fields: Mapping[str, str]) -> bytes:
    """The body of a token endpoint."""
    return urlencode(fields).encode()
