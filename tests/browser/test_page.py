"""The page as a person uses it: choose, connect, see results arrive; sick banks, signatures by hand, reloads, other languages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.async_api import expect

from tests.running import Running

pytestmark = pytest.mark.system

BANK, CARD, INVEST, TELECOM = "A1MOABK001", "B1MOACD001", "C1MOAIV001", "G1MOATC001"
SOME = (BANK, CARD, TELECOM)
Visit = Callable[..., Any]


async def test_a_person_connects_ten_providers_with_one_button(visit: Visit) -> None:
    visitor = await visit()
    assert await visitor.text("#connect") == "10곳 모두 연결하기"
    assert await visitor.page.locator("fieldset").count() == 7
    await visitor.connect()
    await visitor.over()
    assert re.fullmatch(r"모두 모았어요 · 자산 \d+개", await visitor.text("#run-title"))
    assert await visitor.page.locator(".card[data-status=completed]").count() == 10
    for timing in ("accepted", "signed", "first", "last"):
        assert re.fullmatch(r"[\d,]+ ms|[\d.]+ s", await visitor.text(f"#timing-{timing}"))
    assert await visitor.page.get_attribute("#progress", "aria-valuenow") == "10"
    assert await visitor.page.locator(".assets .worth").count() >= 10
    groups = await visitor.page.locator("#groups h3").all_inner_texts()
    assert groups == ["내 자산", "매달 나가는 돈", "결제 수단", "대출"]


async def test_the_sums_are_those_of_the_assets(visit: Visit, running: Running) -> None:
    visitor = await visit()
    await visitor.choose(*SOME)
    await visitor.connect()
    await visitor.over()
    answer = await visitor.page.request.get(f"{running.url}/v1/assets", headers={"Authorization": f"Bearer {await visitor.token(running)}"})
    assets = (await answer.json())["assets"]
    deposits = sum(float(asset["balance"]["amount"]) for asset in assets if asset["kind"] == "deposit")
    shown = await visitor.text("[data-group=home] dl div:has-text('예금') dd")
    assert shown.startswith(f"₩{deposits:,.0f}")
    cards = sum(asset["kind"] == "card" for asset in assets)
    assert f"{cards}개" in await visitor.text("[data-group=payment] dl div:has-text('카드') dt")


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
async def test_every_transport_brings_the_same(visit: Visit, transport: str) -> None:
    visitor = await visit(f"&transport={transport}")
    await visitor.page.wait_for_selector(f"#line[data-state={transport}]")
    await visitor.choose(*SOME)
    await visitor.connect()
    await visitor.over()
    assert await visitor.page.locator(".card[data-status=completed]").count() == 3


async def test_without_websockets_the_page_falls_back_to_an_event_stream(visit: Visit) -> None:
    visitor = await visit()
    await visitor.page.add_init_script(
        "WebSocket = class { constructor() { setTimeout(() => this.onclose({code: 1006, reason: ''})); } close() {} }"
    )
    await visitor.page.reload()
    await visitor.page.wait_for_selector("#line[data-state=sse]")
    await visitor.choose(BANK)
    await visitor.connect()
    await visitor.status(BANK, "completed")


async def test_a_bank_that_is_down_is_said_in_plain_words_and_retried(visit: Visit, sandbox: Running) -> None:
    sandbox.sandbox(f"providers/{BANK}", mode="down")
    visitor = await visit()
    await visitor.choose(*SOME)
    await visitor.connect()
    await visitor.status(BANK, "failed")
    await visitor.over()
    assert await visitor.text("#run-title") == "3곳 중 2곳을 모았어요"
    assert "기관에 연결할 수 없습니다" in await visitor.text(f".card[data-code={BANK}]")
    sandbox.sandbox(f"providers/{BANK}", mode="ok")
    await visitor.page.click("#retry")
    await visitor.status(BANK, "completed")
    await visitor.over()
    assert (await visitor.text("#run-title")).startswith("모두 모았어요")


async def test_a_provider_that_rests_comes_later_by_itself(visit: Visit, sandbox: Running) -> None:
    sandbox.sandbox(f"providers/{INVEST}", mode="maintenance")
    visitor = await visit()
    await visitor.choose(BANK, INVEST)
    await visitor.connect()
    await visitor.status(INVEST, "deferred")
    assert "저절로 다시 시도해요" in await visitor.text(f".card[data-code={INVEST}]")
    sandbox.sandbox(f"providers/{INVEST}", mode="ok")
    await visitor.status(INVEST, "completed")


async def test_a_person_signs_by_hand_on_the_page_of_the_ca(visit: Visit, sandbox: Running) -> None:
    sandbox.sandbox("ca", approve_after_ms=None)
    visitor = await visit()
    await visitor.choose(*SOME)
    await visitor.connect()
    await visitor.page.wait_for_selector("#signature:visible")
    async with visitor.page.context.expect_page() as opened:
        await visitor.page.click("#signature-link")
    ca = await opened.value
    await ca.click("button[value=approve]")
    await visitor.page.bring_to_front()
    await visitor.over()
    assert await visitor.page.locator("#signature").is_hidden()
    assert await visitor.page.locator(".card[data-status=completed]").count() == 3


async def test_what_waits_can_be_cancelled(visit: Visit, sandbox: Running) -> None:
    sandbox.sandbox("ca", approve_after_ms=None)
    visitor = await visit()
    await visitor.connect()
    await visitor.page.click("#cancel")
    await visitor.over()
    assert await visitor.text("#run-title") == "취소했어요"
    await visitor.page.click("#again")
    assert await visitor.page.locator("#chooser").is_visible()


async def test_a_reload_in_the_middle_loses_nothing(visit: Visit, sandbox: Running) -> None:
    sandbox.sandbox("ca", approve_after_ms=None)
    visitor = await visit()
    await visitor.choose(*SOME)
    await visitor.connect()
    await visitor.page.wait_for_selector("#signature:visible")
    await visitor.page.reload()
    await visitor.page.wait_for_selector("#signature:visible")
    await visitor.sign()
    await visitor.over()
    assert (await visitor.text("#run-title")).startswith("모두 모았어요")


async def test_a_connection_that_breaks_is_resumed_and_nothing_is_missed(visit: Visit, sandbox: Running) -> None:
    sandbox.sandbox("ca", approve_after_ms=None)
    visitor = await visit()
    await visitor.page.add_init_script(
        "const Real = WebSocket; WebSocket = class extends Real { constructor(...a) { super(...a); window.socket = this; } }"
    )
    await visitor.page.reload()
    await visitor.page.wait_for_selector("#line[data-state=websocket]")
    await visitor.choose(*SOME)
    await visitor.connect()
    await visitor.page.wait_for_selector("#signature:visible")
    await visitor.page.evaluate("window.socket.close()")
    await visitor.sign()
    await visitor.over()
    assert await visitor.page.locator(".card[data-status=completed]").count() == 3
    assert await visitor.text("#line") == "WebSocket으로 실시간 수신 중"


async def test_everything_is_said_in_english_too(visit: Visit, sandbox: Running) -> None:
    sandbox.sandbox(f"providers/{BANK}", mode="down")
    visitor = await visit()
    await visitor.page.click("#language")
    assert await visitor.page.get_attribute("html", "lang") == "en"
    await visitor.choose(BANK, CARD)
    assert await visitor.text("#connect") == "Connect all 2"
    await visitor.connect()
    await visitor.over()
    assert await visitor.text("#run-title") == "1 of 2 gathered"
    assert "does not answer" in await visitor.text(f".card[data-code={BANK}]")
    assert not re.search("[가-힣]", await visitor.text("#timings") + await visitor.text("#groups"))


async def test_the_keyboard_is_enough_and_the_end_is_told(visit: Visit) -> None:
    visitor = await visit()
    await visitor.choose()
    assert await visitor.page.locator("#connect").is_disabled()
    await visitor.page.focus(f"input[value='{BANK}']")
    await visitor.page.keyboard.press("Space")
    await visitor.page.keyboard.press("Enter")
    await visitor.over()
    assert await visitor.page.evaluate("document.activeElement.id") == "run-title"
    await expect(visitor.page.locator("#said")).to_contain_text("새벽은행 완료")


async def test_a_name_from_outside_is_text_and_nothing_else(visit: Visit) -> None:
    visitor = await visit()
    evil = "<img src=x onerror=document.title='hacked'>"

    async def hostile(route: Any) -> None:
        answer = await route.fetch()
        body = await answer.json()
        body["providers"][0]["name"] = evil
        await route.fulfill(response=answer, json=body)

    await visitor.page.route("**/v1/providers", hostile)
    await visitor.page.reload()
    await visitor.page.wait_for_selector("#chooser:visible")
    assert evil in await visitor.text("#industries")
    assert await visitor.page.locator("#industries img").count() == 0
    assert await visitor.page.title() == "모아"


async def test_the_page_calls_its_own_server_only(visit: Visit, running: Running) -> None:
    visitor = await visit()
    await visitor.choose(BANK)
    await visitor.connect()
    await visitor.over()
    assert visitor.requests
    assert {str(httpx.URL(url).copy_with(path="/", query=None)).rstrip("/") for url in visitor.requests} == {running.url}
    assert not any("eyJ" in url for url in visitor.requests)


@pytest.mark.parametrize("width", [320, 390, 768])
async def test_nothing_sticks_out_of_a_narrow_screen(visit: Visit, width: int) -> None:
    visitor = await visit(viewport={"width": width, "height": 800}, user=f"rich-{width}")
    await visitor.choose(*SOME)
    await visitor.connect()
    await visitor.over()
    assert await visitor.page.evaluate("document.documentElement.scrollWidth") <= width


async def test_without_a_demo_token_a_person_may_give_their_own(visit: Visit, running: Running) -> None:
    visitor = await visit()
    token = await visitor.token(running)
    await visitor.page.route("**/demo/token?*", lambda route: route.fulfill(status=404, json={"code": "not_found"}))
    await visitor.page.reload()
    await visitor.page.fill("#token", token)
    await visitor.page.click("#token-form button")
    await visitor.page.wait_for_selector("#chooser:visible")
    assert await visitor.page.input_value("#token") == ""
    visitor.complaints.clear()  # the 404 above
