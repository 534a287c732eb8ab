"""A bank that answers every call with the same page of accounts, at once: what is measured is whoever calls it.

In: any request. Out: `ACCOUNTS` accounts in the standard's words, 2.9 KB. Asked, it tells where it listens.
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
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=UTF-8\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


class Connection(asyncio.Protocol):
    """One connection, request after request."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(_ANSWER)


async def begin() -> Answering:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def answer(_question: dict[str, Any]) -> object:
        return {"url": f"http://127.0.0.1:{port}"}

    return answer


if __name__ == "__main__":
    serve(begin)
