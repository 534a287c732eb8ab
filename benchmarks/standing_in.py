"""A provider that does nothing but note when the last byte of its list went out: one telecom, one contract for everybody.

In: token requests and data calls as the standard has them, unchecked. Out: answers after `LATENCY`, as a provider's take a while; asked,
`[user, moment]` of each list. It stands in for the sandbox's, whose log knows milliseconds only.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast
from urllib.parse import parse_qs

import httptools
import orjson

from backend.providers.user_ci import development_sub
from benchmarks.companions import Answering, serve

LATENCY = 0.03  # seconds; long enough for a worker to have stored the token while it waits for the list
LIST = "/telecoms"
YEAR = str(365 * 86_400)
# One answer to every data call: each reads its own fields. Every value is a string (standard, section 1).
_DATA = {
    "rsp_code": "00000",
    "rsp_msg": "ok",
    "search_timestamp": "0",
    "telecom_cnt": "1",
    "telecom_list": [{"mgmt_id": "contract-1", "is_consent": "true", "telecom_num": "01000000000", "type": "01", "status": "01"}],
    "charge_cnt": "1",
    "charge_list": [{"charge_month": "202601", "charge_amt": "33000", "charge_date": "20260125"}],
    "trans_cnt": "0",
    "trans_list": [],
}


class Provider:
    """Who asked, and when they were answered."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}  # by access token
        self.listed: list[tuple[str, float]] = []

    def token(self, body: bytes) -> bytes:
        form = parse_qs(body.decode())
        access = f"access-{len(self.users)}"
        self.users[access] = development_sub(form["username"][0]) or ""
        granted = {"token_type": "Bearer", "access_token": access, "expires_in": "3600", "refresh_token": f"refresh-{access}"}
        more = {"tx_id": form["tx_id"][0], "refresh_token_expires_in": YEAR, "scope": "telecom.list telecom.mgmt"}
        return orjson.dumps(granted | more)

    async def answer(self, _question: dict[str, Any]) -> object:
        listed, self.listed = self.listed, []
        return listed


class Connection(asyncio.Protocol):
    """One connection, request after request."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._parser = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self._path, self._token, self._tran_id, self._body = "", "", b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._token = value.decode().removeprefix("Bearer ")
        elif name.lower() == b"x-api-tran-id":
            self._tran_id = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path = self._path.partition("?")[0]
        answer = self._provider.token(self._body) if path.endswith("/oauth/2.0/token") else orjson.dumps(_DATA)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-api-tran-id: %b\r\ncontent-length: %d\r\n\r\n"
        listed = self._provider.users.get(self._token) if path.endswith(LIST) else None
        asyncio.get_running_loop().call_later(LATENCY, self._answer, head % (self._tran_id, len(answer)) + answer, listed)
        self._begin()

    def _answer(self, answer: bytes, listed: str | None) -> None:
        if listed is not None:
            self._provider.listed.append((listed, time.monotonic()))
        self._transport.write(answer)


async def begin() -> Answering:
    provider = Provider()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(provider), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def answer(question: dict[str, Any]) -> object:
        return {"url": f"http://127.0.0.1:{port}"} if "url" in question else await provider.answer(question)

    return answer


if __name__ == "__main__":
    serve(begin)
