"""A refresh reads what changed since the last reading that came to its end, and tells it; nothing new costs list calls only."""

from __future__ import annotations

import json

from tests.registration.house import BANK, Client, House


async def kept(house: House, client: Client, org_code: str) -> dict[str, str]:
    """What the link remembers of each list."""
    sql = "SELECT search_timestamps FROM links WHERE user_id = $1 AND org_code = $2"
    return dict(json.loads((await house.execute(sql, client.sub, org_code))[0]["search_timestamps"]))


async def test_what_the_lists_reached_is_kept_and_a_new_consent_reads_everything_again(house: House, anna: Client) -> None:
    first = await (await anna.register(BANK)).ended("completed")
    assert "BA01" in await kept(house, anna, BANK)
    again = await (await anna.register(BANK)).ended("completed")
    assert again["providers"][0]["assets"] == first["providers"][0]["assets"] > 0
    assert "BA01" in await kept(house, anna, BANK)
