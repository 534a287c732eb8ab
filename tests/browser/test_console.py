"""The operators' console as an operator uses it: enter with a token, see circuits live, force one with a reason, leave."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from backend.cli.tokens import development_token
from backend.clock import SystemClock
from tests.browser.conftest import PATIENCE
from tests.running import Running

pytestmark = pytest.mark.system

BANK = "A1MOABK001"
ROW = f"#breakers tr[data-code='{BANK}'][data-scope='read']"


def token(running: Running, *, ops: bool) -> str:
    return development_token(running.settings, user="olga", ops=ops, ttl=600, now=SystemClock().now())


@pytest.fixture
async def console(browser: Browser, running: Running) -> AsyncIterator[Page]:
    """The console, before anybody has entered; nothing that it complained about is forgiven."""
    context = await browser.new_context(locale="ko-KR")
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(f"{running.url}/ops")
    yield page
    assert await page.locator("#token").input_value() == ""
    await context.close()
    running.force(BANK, "auto")
    assert [each for each in complaints if " 403 " not in each] == []


async def test_an_operator_sees_a_circuit_change_and_forces_it_with_a_reason(console: Page, running: Running) -> None:
    await console.fill("#token", token(running, ops=True))
    await console.click("#token-form button")
    await console.wait_for_selector("#desk:visible")
    await console.wait_for_selector("#line[data-state=websocket]")
    await expect(console.locator("#traffic tr[data-industry=bank]")).to_have_count(1)

    running.force(BANK, "forced_open")  # by somebody else: it is heard at once
    await expect(console.locator(f"{ROW} .state")).to_have_attribute("data-state", "open")
    await expect(console.locator("#said")).to_contain_text("열림")
    await console.click(f"{ROW} button[data-act=auto]")
    await console.fill("#reason", "은행이 돌아왔다")
    await console.click("#ask-yes")
    await expect(console.locator(ROW)).to_have_count(0)  # as usual: not worth a line
    await expect(console.locator("#done li").filter(has_text="은행이 돌아왔다")).to_contain_text("olga")
    await console.check("#every")
    await expect(console.locator(f"{ROW} .state")).to_have_attribute("data-state", "closed")

    async with httpx.AsyncClient(base_url=running.url, headers=running.as_operator) as client:
        [newest, *_] = (await client.get("/ops/breakers/history", params={"org_code": BANK})).json()["actions"]
    assert (newest["who"], newest["action"], newest["reason"]) == ("olga", "breaker.auto", "은행이 돌아왔다")

    await console.click("#batch-steer")
    await console.fill("#reason", "점검")
    await console.click("#ask-yes")
    await expect(console.locator("#batch-note")).to_contain_text("모두 멈춰 있어요")
    await console.click("#batch-steer")
    await console.fill("#reason", "점검 끝")
    await console.click("#ask-yes")
    await expect(console.locator("#batch-note")).not_to_contain_text("모두 멈춰 있어요")

    await console.set_viewport_size({"width": 360, "height": 800})
    assert await console.evaluate("document.documentElement.scrollWidth") <= 360
    await console.click("#language")
    assert await console.inner_text("#breakers-title") == "Breakers"
    await console.click("#leave")
    await console.wait_for_selector("#token-form:visible")


async def test_a_token_that_is_no_operators_sees_nothing(console: Page, running: Running) -> None:
    await console.fill("#token", token(running, ops=False))
    await console.click("#token-form button")
    await expect(console.locator("#trouble")).to_contain_text("운영자 권한")
    assert await console.locator("#desk").is_hidden()
