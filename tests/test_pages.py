"""The page's files come with a policy that lets them load and call nothing but this server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette

from backend.pages import PAGES, routes


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=Starlette(routes=routes("1.2.3"))), base_url="http://moa") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/ops", "/demo/index.html", "/demo/app.js", "/demo/style.css", "/demo/icon.svg"])
async def test_every_file_carries_the_policy(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_the_documents_are_served_with_the_version(http: httpx.AsyncClient) -> None:
    for path in ("/openapi.json", "/asyncapi.json"):
        answer = await http.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["info"]["version"] == "1.2.3"


async def test_nothing_outside_the_folder_is_served(http: httpx.AsyncClient) -> None:
    for path in ("/demo/../pyproject.toml", "/demo/%2e%2e/pyproject.toml", "/demo/nothing.js"):
        assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("path", sorted(PAGES.iterdir()), ids=lambda path: path.name)
def test_no_file_of_the_page_names_another_host_or_writes_markup(path: object) -> None:
    text = (PAGES / str(path)).read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\s\"'`)]*", text)) - {"http://www.w3.org/2000/svg"}
    assert addresses == set()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert not re.search(r"<[^>]+\son\w+=|<[^>]+\sstyle=|<script(?![^>]+src=)", text)
