"""A real browser at the page of the running system: Chromium, without anything that it would load by itself."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.running import Running

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 30_000  # milliseconds; a busy machine is no fault of the page
FAST = {"p50": 1, "p99": 2}
PEOPLE = count(1)


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine: install the package chromium to examine the page")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield chromium
        await chromium.close()


@pytest.fixture
async def sandbox(running: Running) -> AsyncIterator[Running]:
    """The system with a fast CA; reset afterwards."""
    running.sandbox("ca", approve_after_ms=20, latency_ms=FAST)
    yield running
    running.reset()


class Visitor:
    """One person at the page, and everything that the page complained about."""

    def __init__(self, page: Page, user: str) -> None:
        self.page = page
        self.user = user
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text) if message.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    async def choose(self, *org_codes: str) -> None:
        """Only these."""
        await self.page.click("#choose-none")
        for code in org_codes:
            await self.page.check(f"input[value='{code}']")

    async def connect(self) -> None:
        await self.page.click("#connect")

    async def status(self, org_code: str, status: str) -> None:
        """Waits for it."""
        await self.page.wait_for_selector(f".card[data-code='{org_code}'][data-status='{status}']")

    async def over(self) -> None:
        await self.page.wait_for_selector("#again:visible")

    async def text(self, selector: str) -> str:
        return await self.page.inner_text(selector)

    async def token(self, running: Running) -> str:
        """One of this person's."""
        answer = await self.page.request.get(f"{running.url}/demo/token", params={"user": self.user})
        return str((await answer.json())["token"])

    async def sign(self) -> None:
        """As if they had signed at the CA's page, which is linked."""
        address = await self.page.get_attribute("#signature-link", "href")
        assert address is not None
        assert (await self.page.request.post(address, data="decision=approve")).ok


@pytest.fixture
async def visit(browser: Browser, sandbox: Running) -> AsyncIterator[Callable[..., Any]]:
    """Opens the page as a new person, ready to choose; nothing that it complained about is forgiven."""
    contexts: list[BrowserContext] = []
    visitors: list[Visitor] = []

    async def open_page(query: str = "", *, user: str | None = None, **options: Any) -> Visitor:
        context = await browser.new_context(locale="ko-KR", **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        visitor = Visitor(await context.new_page(), user or f"visitor-{next(PEOPLE)}")
        visitors.append(visitor)
        await visitor.page.goto(f"{sandbox.url}/?user={visitor.user}{query}")
        await visitor.page.wait_for_selector("#chooser:visible")
        return visitor

    yield open_page
    for context in contexts:
        await context.close()
    assert [visitor.complaints for visitor in visitors] == [[] for _ in visitors]
