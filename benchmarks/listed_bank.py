"""A bank that answers every call at once, the same for everybody: what is measured is whoever calls it.

In: any request. Out: for the list `ACCOUNTS` accounts in the standard's words, 2.9 KB; for a detail or basic call of one of them 0.2 KB; no
pensions. So a whole collection is `CALLS` calls. Asked, it tells where it listens.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools
import orjson

from benchmarks.companions import Answering, serve

ACCOUNTS = 20
BODY = orjson.dumps(
    {
        "rsp_code": "00000",
        "rsp_msg": "ok",
        "search_timestamp": "20261122000000",
        "account_cnt": str(ACCOUNTS),
        "account_list": [
            {
                "account_num": f"1101234567{number:02d}",
                "is_consent": "true",
                "seqno": "1",
                "is_foreign_deposit": "false",
                "prod_name": "모아 정기예금",
                "is_minus": "false",
                "account_type": "1001",
                "account_status": "01",
            }
            for number in range(ACCOUNTS)
        ],
    }
)
_TOLD = {"rsp_code": "00000", "rsp_msg": "ok", "search_timestamp": "20261122000000"}
_DETAIL = {"currency_code": "KRW", "balance_amt": "123400.00", "withdrawable_amt": "123400.00", "offered_rate": "2.10"}
_BASIC = {"currency_code": "KRW", "saving_method": "00", "issue_date": "20200102", "exp_date": "20300102"}
CALLS = 2 + 2 * ACCOUNTS  # both lists, and for each account its detail and its basic call
_BODIES = {
    b"/irps": orjson.dumps({**_TOLD, "irp_cnt": "0", "irp_list": []}),
    b"/accounts/deposit/detail": orjson.dumps({**_TOLD, "detail_cnt": "1", "detail_list": [_DETAIL]}),
    b"/accounts/deposit/basic": orjson.dumps({**_TOLD, "basic_cnt": "1", "basic_list": [_BASIC]}),
}


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=UTF-8\r\ncontent-length: %d\r\n\r\n" % len(body) + body


_ANSWERS = {b"/v1/bank" + path: _answer(body) for path, body in _BODIES.items()}
_ACCOUNTS = _answer(BODY)


class Connection(asyncio.Protocol):
    """One connection, request after request."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url.partition(b"?")[0]

    def on_message_complete(self) -> None:
        self._transport.write(_ANSWERS.get(self._path, _ACCOUNTS))


async def begin() -> Answering:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def answer(_question: dict[str, Any]) -> object:
        return {"url": f"http://127.0.0.1:{port}"}

    return answer


if __name__ == "__main__":
    serve(begin)
