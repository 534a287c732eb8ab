"""Whatever a person wishes at once, in whatever order: nobody answers 500, and tokens, links and assets belong together afterwards.

Seeded: several hands of one person register, cancel, retry, unlink, refresh and erase, while institutions fail and tokens grow old.
No call is slower than its deadline: a provider may give a token to somebody who has stopped listening, and nobody can end that.
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from backend.clock import SystemClock
from backend.storage.vault import Vault
from tests.links.test_forgetting import rows_of
from tests.registration.house import BANK, CARD, EFIN, VAULT_KEYS, Client, House

CODES = (BANK, CARD, EFIN)
WISHES = {"register": 5, "again": 4, "cancel": 8, "retry": 5, "unlink": 4, "refresh": 3, "forget": 1, "harm": 2, "age": 1}
HANDS, WISHES_EACH = 5, 25
MODES = ("http500", "maintenance", "slow", "slow", "slow", "token_expired")


async def wish(house: House, anna: Client, draw: random.Random) -> None:
    """One, drawn."""
    [kind] = draw.choices(list(WISHES), list(WISHES.values()))
    http, chosen = anna.http, draw.choice(CODES)
    if kind == "harm":
        await house.provider(chosen, mode=draw.choice(MODES), latency_ms={"p50": draw.choice([5, 40, 120]), "p99": 300})
        return
    if kind == "age":
        await house.execute("UPDATE links SET access_expires_at = now() + interval '1 minute' WHERE user_id = $1", anna.sub)
        return
    known = (await anna.get("/v1/registrations", limit=3)).json()["registrations"] or [{"id": "reg_01ARZ3NDEKTSV4RRFFQ69G5FAV"}]
    one = f"/v1/registrations/{draw.choice(known)['id']}"
    match kind:
        case "register":
            answer = await http.post("/v1/registrations", json={"providers": draw.sample(CODES, draw.randint(1, 3))})
        case "again":
            headers = {"Idempotency-Key": draw.choice("ab")}
            answer = await http.post("/v1/registrations", json={"providers": [chosen]}, headers=headers)
        case "cancel":
            answer = await http.delete(one)
        case "retry":
            answer = await http.post(f"{one}/retry")
        case "unlink":
            answer = await http.delete(f"/v1/links/{chosen}")
        case "refresh":
            answer = await http.post("/v1/refresh", json={})
        case _:
            answer = await http.delete("/v1/me")
    assert answer.status_code < 500, (kind, answer.text)


async def at_rest(house: House, anna: Client) -> None:
    """Until nothing is under way, and no provider is to be told of anything."""
    underway = """
        SELECT 1 FROM registrations WHERE user_id = $1 AND status IN ('signing', 'collecting')
        UNION ALL SELECT 1 FROM registration_items WHERE user_id = $1 AND status IN ('connecting', 'collecting', 'deferred')
        UNION ALL SELECT 1 FROM refreshes WHERE user_id = $1 AND completed_at IS NULL
        UNION ALL SELECT 1 FROM revocations WHERE user_id = $1"""
    quiet = 0
    async with asyncio.timeout(60):
        while quiet < 10:
            quiet = 0 if await house.execute(underway, anna.sub) else quiet + 1
            await asyncio.sleep(0.1)


def tokens_of(house: House) -> Any:
    """What the institutions themselves know of tokens."""
    return house.recorder._app.routes[-1].app.tokens


def alive(house: House, anna: Client) -> set[str]:
    """Where a token of hers is good."""
    return {org_code for (org_code, user), kinds in tokens_of(house)._live.items() if user == anna.sub and kinds}


async def belong_together(house: House, anna: Client) -> None:
    links = {row["org_code"]: row for row in await house.execute("SELECT * FROM links WHERE user_id = $1", anna.sub)}
    active = {code for code, link in links.items() if link["status"] == "active"}
    assert alive(house, anna) == active, "a token that is good is the token of a link"
    for code in active:
        token = Vault(VAULT_KEYS).open(links[code]["access_token_sealed"], "links", "access", anna.sub, code).decode()
        assert tokens_of(house).is_live(tokens_of(house).read(token), SystemClock().now()), code
    shown = {asset["org_code"] for asset in await anna.assets()}
    assert not {code for code in shown if code not in links or links[code]["status"] == "revoked"}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
async def test_tokens_links_and_assets_belong_together_whatever_is_wished_at_once(house: House, anna: Client, seed: int) -> None:
    draw = random.Random(seed)
    await house.ca(approve_after_ms=draw.choice([0, 50, 300]))

    async def hand() -> None:
        for _ in range(WISHES_EACH):
            await wish(house, anna, draw)
            await asyncio.sleep(draw.random() * 0.1)

    await asyncio.gather(*(hand() for _ in range(HANDS)))
    await house.ca(approve_after_ms=0)
    for code in CODES:
        await house.provider(code, mode="ok", latency_ms={"p50": 1, "p99": 2})
    await at_rest(house, anna)
    await belong_together(house, anna)

    assert (await anna.http.delete("/v1/me")).status_code == 202
    async with asyncio.timeout(20):
        while set(await rows_of(house, anna.sub)) - {"consent_history"}:
            await asyncio.sleep(0.1)
    assert alive(house, anna) == set()
    lines = [json.loads(line) for line in house.logs.getvalue().splitlines()]
    assert [line for line in lines if line["level"] == "error"] == []
