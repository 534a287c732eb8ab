"""The call log: every call that reached the CA or a provider, in the order of arrival; the truth that tests compare with.

An entry is made when the call arrives, so calls that hang, or that are cut off, are in it too. `status` is 0 while, or if, no answer
was given (down, reset, hang), 499 when the client had gone before its answer. No tokens, no user_ci: a user is its `sub`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

NO_ANSWER: Final = 0
CLIENT_GONE: Final = 499


class Call(Struct, gc=False, omit_defaults=True, kw_only=True):
    """One call. `gc=False`: half a million of them must not slow the garbage collector down; they hold strings and numbers only."""

    at: float  # Unix seconds, cut to milliseconds
    org_code: str
    method: str
    path: str  # as received, with the base path, without the query
    api_code: str | None = None
    api_type: str | None = None
    tran_id: str | None = None
    user: str | None = None
    status: int  # HTTP status, or NO_ANSWER, or CLIENT_GONE
    rsp_code: str | None = None  # at authorization endpoints: the OAuth error
    ms: float  # from the arrival to the last byte handed over


class CallLog:
    """The newest `size` calls."""

    def __init__(self, size: int) -> None:
        self._calls: deque[Call] = deque(maxlen=size)

    def arrived(self, at: float, org_code: str, method: str, path: str) -> Call:
        """Enters a call; the caller fills in the rest as it becomes known."""
        call = Call(at=at, org_code=org_code, method=method, path=path[:200], status=NO_ANSWER, ms=0.0)
        self._calls.append(call)
        return call

    def since(self, at: float, org_code: str | None = None) -> Iterator[Call]:
        """The calls that arrived at or after `at`, oldest first; of one organisation, or (None) of all."""
        newest: list[Call] = []
        since = math.floor(at * 1000) / 1000  # arrivals are cut to milliseconds
        for call in reversed(self._calls):
            if call.at < since:
                break
            if org_code is None or call.org_code == org_code:
                newest.append(call)
        return reversed(newest)

    def clear(self) -> None:
        self._calls.clear()
