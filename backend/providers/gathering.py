"""One provider's whole collection: lists page after page, details at once over assets, each answer told as it arrives.

In: listings, and how to make a call. Out: tuples of assets that an answer changed. One page of each list is in flight and details up to
`CONCURRENT_CALLS` in all; closing the iterator early cancels them. Nothing here knows an industry, and nothing is kept afterwards.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from msgspec import structs

from backend.errors import ProviderError
from backend.providers import outcomes
from backend.providers.api_codes import by_code
from backend.providers.calls import Call
from backend.providers.contract import NEVER_READ, CollectedAsset
from backend.providers.outcomes import Failure
from backend.providers.payloads import Page
from backend.providers.reading import Asking, Detail, Listing

CONCURRENT_CALLS = 8
MOST_PAGES = 200  # of one list, or of one detail
MOST_IDLE_PAGES = 5  # in a row that were there before: a page may be empty, and the next one, too
MOST_ASSETS = 20_000
MOST_ROWS = 20_000  # of all details together: one event may hold them
MOST_WAITING = 100_000  # details that are still to be asked for

Assets = tuple[CollectedAsset, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class _Wanted:
    """One page."""

    next_page: str | None = None
    seen: frozenset[str] = frozenset()  # the cursors that led here
    pages: frozenset[int] = frozenset()  # what they led to, as hashes
    idle: int = 0  # of these pages the last that were there before


@dataclass(frozen=True, kw_only=True, repr=False)
class _ListPage(_Wanted):
    want: Listing[Any]


@dataclass(frozen=True, kw_only=True, repr=False)
class _DetailPage(_Wanted):
    want: Detail[Any]
    key: str  # of the asset


_Step = _ListPage | _DetailPage


async def gather(
    listings: Sequence[Listing[Any]], asking: Asking, call: Callable[[Call[Page | None]], Coroutine[Any, Any, Page | None]]
) -> AsyncGenerator[Assets, None]:
    """Yields after each answer what it changed. Raises the first `ProviderError` that is not about one asset alone."""
    gathering = _Gathering(asking, listings)
    running: dict[asyncio.Task[Page | None], _Step] = {}
    try:
        while True:
            for step in gathering.ready(len(running)):
                running[asyncio.create_task(call(asking.call(step.want, step.next_page)))] = step
            if not running:
                return
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            failure: ProviderError | None = None
            for task in done:
                step = running.pop(task)
                try:
                    changed = gathering.answered(step, task.result())
                except ProviderError as error:
                    if not gathering.bears(step, error):
                        failure = failure or error
                    continue
                if changed:
                    yield changed
            if failure is not None:
                raise failure
    finally:
        await _cancel(running)


class _Gathering:
    """What is known and what is still wanted. Touches nothing outside."""

    def __init__(self, asking: Asking, listings: Sequence[Listing[Any]]) -> None:
        self._org_code = asking.provider.org_code
        self._industry = asking.provider.industry
        self._timestamps = asking.timestamps
        self._lists: deque[_Step] = deque(_ListPage(want=listing) for listing in listings)
        self._details: deque[_Step] = deque()
        self._assets: dict[str, CollectedAsset] = {}
        self._rows = 0  # of details

    def ready(self, running: int) -> list[_Step]:
        """The steps to take now: pages of lists first, then as many details as there is room for."""
        steps = list(self._lists)
        self._lists.clear()
        while self._details and running + len(steps) < CONCURRENT_CALLS:
            steps.append(self._details.popleft())
        return steps

    def answered(self, step: _Step, page: Page | None) -> Assets:
        """Takes in one answer and returns what it changed. Raises for pages without end."""
        if isinstance(step, _ListPage) and step.next_page is None:
            stamp = None if page is None else page.search_timestamp or NEVER_READ
            self._timestamps.heard(step.want.api_code, stamp, step.want.kinds)
        if page is None:
            return ()
        following = [self._following(step, page, page.next_page)] if page.next_page and self._is_paged(step) else []
        if isinstance(step, _ListPage):
            self._lists.extend(following)
            return self._listed(step.want, page)
        self._details.extendleft(following)
        return self._detailed(step, page)

    def bears(self, step: _Step, error: ProviderError) -> bool:
        """Whether the collection goes on without this step: a detail of an asset that is gone or closed, a list that is not offered."""
        if isinstance(step, _DetailPage):
            return outcomes.only_this_asset(error)
        if not (step.want.optional and outcomes.not_served(error)):
            return False
        self._timestamps.not_told(step.want.kinds)
        return True

    def _listed(self, listing: Listing[Any], page: Page) -> Assets:
        self._lists.extend(_ListPage(want=each) for each in listing.then(page))
        new = []
        for found in listing.found(page):
            if found.asset.key in self._assets:
                continue  # a row that moved to another page while we read
            self._assets[found.asset.key] = found.asset
            new.append(found.asset)
            self._details.extend(_DetailPage(want=detail, key=found.asset.key) for detail in found.details)
        self._check_bounds()
        return tuple(new)

    def _detailed(self, step: _DetailPage, page: Page) -> Assets:
        self._rows += _rows_of(page)
        self._check_bounds()
        before = self._assets[step.key]
        after = step.want.add(before, page)
        self._assets[step.key] = after
        self._details.extend(_DetailPage(want=each, key=step.key) for each in step.want.then(page))
        self._check_bounds()
        return () if after == before else (after,)

    def _check_bounds(self) -> None:
        if len(self._assets) > MOST_ASSETS or len(self._details) > MOST_WAITING or self._rows > MOST_ROWS:
            raise outcomes.failed(self._org_code, Failure.PAGING)

    def _is_paged(self, step: _Step) -> bool:
        """Else the cursor cannot be sent, and the same answer would be asked for again."""
        return by_code(self._industry, step.want.api_code).is_paged

    def _following(self, step: _Step, page: Page, cursor: str) -> _Step:
        rows = hash(structs.replace(page, next_page=None, search_timestamp=None))
        idle = step.idle + 1 if rows in step.pages else 0
        if cursor in step.seen or len(step.seen) >= MOST_PAGES - 1 or idle >= MOST_IDLE_PAGES:
            raise outcomes.failed(self._org_code, Failure.PAGING)
        return replace(step, next_page=cursor, seen=step.seen | {cursor}, pages=step.pages | {rows}, idle=idle)


def _rows_of(page: Page) -> int:
    return sum(len(value) for value in structs.astuple(page) if isinstance(value, tuple))


async def _cancel(running: dict[asyncio.Task[Page | None], _Step]) -> None:
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
