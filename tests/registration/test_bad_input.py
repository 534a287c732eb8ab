"""What is wrong with a request is said in one problem document, and nothing of it is stored."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from backend import web
from backend.app import create_app
from backend.errors import PROBLEMS, Problem
from tests.registration.house import BANK, BANK2, CARD, SECRET, Client, House, token

REGISTRATIONS = "/v1/registrations"
NOBODYS = f"{REGISTRATIONS}/reg_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture(autouse=True)
async def nothing_is_stored(house: House) -> AsyncIterator[None]:
    before = await house.counts()
    yield
    assert await house.counts() == before


def is_problem(answer: httpx.Response, status: int, code: str) -> list[dict[str, str]]:
    """Checks the document; returns its field faults."""
    document = answer.json()
    assert (answer.status_code, document["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    kind = PROBLEMS[Problem(code)]
    assert set(document) - {"errors"} == {"type", "title", "status", "detail", "code", "request_id"}
    assert (document["title"], document["status"]) == (kind.title, status)
    assert document["type"] == f"urn:moa:problem:{code}"
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert ("retry-after" in answer.headers) == (kind.retry_after is not None)
    for fault in document.get("errors", []):
        assert set(fault) == {"field", "message"}
    return list(document.get("errors", []))


async def post(client: Client, content: Any, **headers: str) -> httpx.Response:
    return await client.http.post(REGISTRATIONS, content=content, headers={"Content-Type": "application/json", **headers})


# --- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("providers", "code", "fields"),
    [
        ([], "validation_failed", ["providers"]),
        ([BANK] * 101, "validation_failed", ["providers"]),
        ([f"A1MOA{number:05}" for number in range(101)], "validation_failed", ["providers"]),
        ([BANK, CARD, BANK, BANK], "validation_failed", ["providers[2]", "providers[3]"]),
        (["Z9MOAXX001"], "unknown_provider", ["providers[0]"]),
        ([BANK, "Z9MOAXX001", CARD, "Z9MOAXX002"], "unknown_provider", ["providers[1]", "providers[3]"]),
        ([BANK.lower()], "unknown_provider", ["providers[0]"]),
        (["A1MOABK00\0"], "unknown_provider", ["providers[0]"]),
        (["' OR 1=1 --"], "unknown_provider", ["providers[0]"]),
        (["은행"], "unknown_provider", ["providers[0]"]),
        (["CAMOA00001"], "unknown_provider", ["providers[0]"]),
        ([""], "validation_failed", ["providers[0]"]),
        (["x" * 65], "validation_failed", ["providers[0]"]),
        ([BANK, 1], "validation_failed", ["providers[1]"]),
        ([None], "validation_failed", ["providers[0]"]),
        ([[BANK]], "validation_failed", ["providers[0]"]),
        (BANK, "validation_failed", ["providers"]),
        ({BANK: True}, "validation_failed", ["providers"]),
        (None, "validation_failed", ["providers"]),
    ],
)
async def test_providers_that_cannot_be_registered(anna: Client, providers: Any, code: str, fields: list[str]) -> None:
    answer = await anna.http.post(REGISTRATIONS, json={"providers": providers})
    assert [fault["field"] for fault in is_problem(answer, 422, code)] == fields


@pytest.mark.parametrize("body", [b"{}", b'{"provider":[]}', b'{"providers":["A1MOABK001"],"user":"x"}', b"[]", b'"x"', b"null", b"1"])
async def test_json_of_another_shape(anna: Client, body: bytes) -> None:
    assert is_problem(await post(anna, body), 422, "validation_failed")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"providers":["A1MOABK001"]',
        b'{"providers":["A1MOABK001"]}}',
        b"{'providers':[]}",
        b'\xef\xbb\xbf{"providers":[]}',
        b'{"providers":["\xff\xfe"]}',
        b'{"providers":["A1MOABK0\x001"]}',
        b'{"providers":["\\ud800"]}',
        b'{"providers":[NaN]}',
        b"\0",
        b'{"providers":"' + b"A" * 1000,
        b"providers=A1MOABK001",
    ],
)
async def test_what_is_no_json(anna: Client, body: bytes) -> None:
    is_problem(await post(anna, body), 400, "malformed_json")


@pytest.mark.parametrize("body", [b'{"providers":' + b"[" * 60_000, b"[" * 60_000, b'{"a":' * 12_000, b'{"x":' + b"[" * 60_000])
async def test_json_that_is_nested_without_end(anna: Client, body: bytes) -> None:
    answer = await post(anna, body)
    assert answer.status_code in {400, 422}
    is_problem(answer, answer.status_code, answer.json()["code"])


async def test_a_body_that_is_too_large_whether_it_says_so_or_not(anna: Client) -> None:
    large = b'{"providers":["' + b"A" * 70_000 + b'"]}'

    async def in_chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 10_000):
            yield large[start : start + 10_000]

    is_problem(await post(anna, large), 413, "body_too_large")
    is_problem(await post(anna, in_chunks()), 413, "body_too_large")


async def test_a_body_that_does_not_come_to_its_end(anna: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODY_SECONDS", 0.2)

    lines = [f"POST {REGISTRATIONS} HTTP/1.1", "Host: moa", f"Authorization: {anna.http.headers['authorization']}"]
    lines += ["Content-Type: application/json", "Content-Length: 100", "", '{"providers":']
    reader, writer = await asyncio.open_connection(anna.http.base_url.host, anna.http.base_url.port)
    writer.write("\r\n".join(lines).encode())
    status, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n")  # to the end: the connection is closed
    writer.close()
    assert status == b"HTTP/1.1 408 Request Timeout"
    assert b'"code":"body_too_slow"' in body


async def test_a_client_that_goes_in_the_middle_of_its_body_is_no_fault_of_ours(house: House, anna: Client) -> None:
    lines = [f"POST {REGISTRATIONS} HTTP/1.1", "Host: moa", f"Authorization: {anna.http.headers['authorization']}"]
    lines += ["X-Request-Id: gone-away", "Content-Type: application/json", "Content-Length: 100", "", '{"providers":']
    _, writer = await asyncio.open_connection(anna.http.base_url.host, anna.http.base_url.port)
    writer.write("\r\n".join(lines).encode())
    await writer.drain()
    await asyncio.sleep(0.1)  # until the endpoint waits for the rest
    writer.close()
    await asyncio.sleep(0.1)
    assert (await anna.get("/v1/providers")).status_code == 200
    assert "request.failed" not in house.logs.getvalue()
    assert 'status="500"' not in (await anna.get("/metrics")).text


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"])
async def test_a_body_of_another_kind(anna: Client, media_type: str) -> None:
    is_problem(await post(anna, b'{"providers":["A1MOABK001"]}', **{"Content-Type": media_type}), 415, "unsupported_media_type")


@pytest.mark.parametrize("key", ["", "k" * 256, "key 1", "schlüssel".encode().decode("latin-1")])
async def test_a_key_that_is_none(anna: Client, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    answer = await anna.http.post(REGISTRATIONS, json={"providers": [BANK]}, headers=headers)  # type: ignore[arg-type]
    assert [fault["field"] for fault in is_problem(answer, 400, "malformed_request")] == ["Idempotency-Key"]


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "registration_id",
    [
        "reg_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "reg_1",
        "1",
        "..",
        "%00",
        "reg_%00",
        "reg_01ARZ3NDEKTSV4RRFFQ69G5FAV%0A",
        "은행",
        "x" * 5000,
        "' OR 1=1",
    ],
)
async def test_a_registration_that_nobody_made(anna: Client, registration_id: str) -> None:
    path = f"{REGISTRATIONS}/{registration_id}"
    for method, address in (("GET", path), ("DELETE", path), ("POST", f"{path}/retry")):
        is_problem(await anna.http.request(method, address), 404, "not_found")


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v2/registrations", f"{NOBODYS}/nothing", "/.env", "/v1/../etc/passwd"])
async def test_an_address_that_is_none(anna: Client, path: str) -> None:
    is_problem(await anna.get(path), 404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/providers/"), ("POST", f"{REGISTRATIONS}/"), ("GET", "/ops/"), ("GET", "/demo")])
async def test_nobody_is_led_elsewhere_with_their_token(anna: Client, method: str, path: str) -> None:
    answer = await anna.http.request(method, path, headers={"Host": "elsewhere.example"})
    assert "location" not in answer.headers
    is_problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", REGISTRATIONS, {"GET", "HEAD", "POST"}),
        ("PATCH", NOBODYS, {"GET", "HEAD", "DELETE"}),
        ("POST", NOBODYS, {"GET", "HEAD", "DELETE"}),
        ("GET", f"{NOBODYS}/retry", {"POST"}),
        ("POST", "/v1/providers", {"GET", "HEAD"}),
        ("DELETE", "/v1/assets", {"GET", "HEAD"}),
        ("POST", "/v1/events", {"GET", "HEAD"}),
        ("PROPFIND", REGISTRATIONS, {"GET", "HEAD", "POST"}),
    ],
)
async def test_a_method_that_is_not_for_this_address(anna: Client, method: str, path: str, allowed: set[str]) -> None:
    answer = await anna.http.request(method, path)
    is_problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].replace(" ", "").split(",")) == allowed


def _token(*parts: str) -> str:
    return base64.urlsafe_b64encode("\0".join(parts).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        *(
            (path, {"limit": limit}, "limit")
            for path in (REGISTRATIONS, "/v1/assets")
            for limit in ("0", "-1", "501", "x", "", "1.5", "٣", "9" * 30)
        ),
        *((REGISTRATIONS, {"page_token": bad}, "page_token") for bad in ("", "!", "x", "_w", "A" * 600, _token("a", "b"), _token("a", ""))),
        *(("/v1/assets", {"page_token": bad}, "page_token") for bad in ("", "%00", _token("a"), _token("a", "b", "c"), _token("", "b"))),
        ("/v1/assets", {"industry": "banks"}, "industry"),
        ("/v1/assets", {"industry": ""}, "industry"),
        ("/v1/assets", {"org_code": ""}, "org_code"),
        ("/v1/assets", {"org_code": "A1MOABK00\0"}, "org_code"),
        ("/v1/assets", {"org_code": "A1MOABK0011"}, "org_code"),
        ("/v1/events", {"since": "x"}, "since"),
        ("/v1/events", {"since": "e:-1"}, "since"),
        ("/v1/events", {"wait": "31"}, "wait"),
    ],
)
async def test_a_parameter_that_cannot_be(anna: Client, path: str, params: dict[str, str], field: str) -> None:
    assert [fault["field"] for fault in is_problem(await anna.get(path, **params), 400, "malformed_request")] == [field]


async def test_a_page_token_of_other_words_finds_nothing_and_breaks_nothing(anna: Client) -> None:
    assert (await anna.get(REGISTRATIONS, page_token=_token("' OR 1=1 --"))).json() == {"registrations": []}
    assert (await anna.get("/v1/assets", page_token=_token("zzz", "은행"))).json() == {"assets": []}


# --- who calls -------------------------------------------------------------------------------------------------------


def _unsigned(**claims: Any) -> str:
    return jwt.encode({"sub": "anna", "scope": "user", "exp": 4e9, **claims}, None, algorithm="none")


def _raw(header: bytes, payload: bytes = b"{}") -> str:
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, payload, b"signature"))


BAD_TOKENS = {
    "expired": (token("anna", ttl=-1), "token_expired"),
    "of another secret": (token("anna", secret="another secret that is also long enough"), "token_invalid"),
    "of another algorithm": (token("anna", algorithm="HS512", secret=SECRET * 2), "token_invalid"),
    "signed by nobody": (_unsigned(), "token_invalid"),
    "cut": (token("anna")[:-3], "token_invalid"),
    "garbage": ("x.y.z", "token_invalid"),
    "too long": ("x" * 9000, "token_invalid"),
    "nested without end": (_raw(b"[" * 5000), "token_invalid"),
    "without sub": (token(None), "token_invalid"),  # type: ignore[arg-type]
    "of nobody": (token(""), "token_invalid"),
    "of a number": (token(7), "token_invalid"),  # type: ignore[arg-type]
    "of a null byte": (token("an\0na"), "token_invalid"),
    "of half a character": (token("anna\ud800"), "token_invalid"),
    "of a long sub": (token("a" * 256), "token_invalid"),
    "without end": (token("anna", exp=None), "token_invalid"),
    "ending in words": (token("anna", exp="tomorrow"), "token_invalid"),
    "ending never": (token("anna", exp=float("inf")), "token_invalid"),
    "ending for true": (token("anna", exp=True), "token_invalid"),
    "without scope": (token("anna", scope=None), "token_invalid"),
    "scope of numbers": (token("anna", scope=[1]), "token_invalid"),
    "not yet": (token("anna", nbf=4e9), "token_invalid"),
    "not before a list": (token("anna", nbf=[]), "token_invalid"),
    "name of half a character": (token("anna", name="\ud800"), "token_invalid"),
    "name of a number": (token("anna", name=7), "token_invalid"),
}


@pytest.mark.parametrize("which", BAD_TOKENS)
async def test_a_token_that_is_not_good(house: House, which: str) -> None:
    bad, code = BAD_TOKENS[which]
    answer = await house.http.post(f"{house.url}{REGISTRATIONS}", json={"providers": [BANK]}, headers={"Authorization": f"Bearer {bad}"})
    is_problem(answer, 401, code)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert bad not in answer.text


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic YTpi", token("anna"), f"Token {token('anna')}"])
async def test_a_request_without_a_token(house: House, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in (REGISTRATIONS, "/v1/assets", "/v1/providers", "/v1/events"):
        is_problem(await house.http.get(f"{house.url}{path}", params={"token": token("anna")}, headers=headers), 401, "unauthenticated")


async def test_a_token_of_another_scope(house: House) -> None:
    async with house.client("anna", scope="ops other") as operator:
        is_problem(await operator.get(REGISTRATIONS), 403, "scope_missing")
        is_problem(await operator.http.post(REGISTRATIONS, json={"providers": [BANK, BANK2]}), 403, "scope_missing")


PUBLIC = {"/", "/ops", "/healthz", "/readyz", "/metrics", "/metrics/all", "/openapi.json", "/asyncapi.json"}


async def test_no_route_is_open_to_a_token_without_its_scope(house: House) -> None:
    """Whatever routes there are: those of operators want `ops`, those of people `user`, before anything else is looked at."""
    checked = 0
    for route in create_app(house.settings).routes:
        if not isinstance(route, Route) or route.path in PUBLIC:
            continue
        wanted = "ops" if route.path.startswith(("/ops/", "/v1/webhooks")) else "user"
        path = route.path.replace("{id}", "x").replace("{org_code}", BANK)
        for method in route.methods or ():
            for scope in ("user", "users ops2 OPS,ops", "") if wanted == "ops" else ("ops", "User", "user,ops", ""):
                headers = {"Authorization": f"Bearer {token('anna', scope=scope)}"}
                refused = await house.http.request(method, house.url + path, headers=headers)
                assert refused.status_code == 403, (method, path, scope)
            assert (await house.http.request(method, house.url + path)).status_code == 401, (method, path)
            checked += 1
    assert checked > 30


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://app.example.evil.example", "http://app.example", "https://app.example:444"]
)
async def test_a_page_of_another_origin(house: House, anna: Client, origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = await anna.http.request(method, REGISTRATIONS, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        is_problem(answer, 403, "origin_not_allowed")
        assert "access-control-allow-origin" not in answer.headers
    with pytest.raises(InvalidStatus) as refused:
        await connect(house.url.replace("http", "ws") + "/v1/events", origin=origin, proxy=None)  # type: ignore[arg-type]
    assert refused.value.response.status_code == 403
    assert b"origin_not_allowed" in bytes(refused.value.response.body or b"")


async def test_pages_that_may_call(house: House, anna: Client) -> None:
    for origin in ("https://app.example", house.url):
        answer = await anna.http.get(REGISTRATIONS, headers={"Origin": origin})
        assert answer.status_code == 200
        nobody = await house.http.get(house.url + REGISTRATIONS, headers={"Origin": origin})
        assert (nobody.status_code, nobody.headers["vary"], answer.headers["vary"]) == (401, "Origin", "Origin")
        async with connect(house.url.replace("http", "ws") + "/v1/events", origin=origin, proxy=None):  # type: ignore[arg-type]
            pass
    preflight = await house.http.options(
        f"{house.url}{REGISTRATIONS}",
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
