"""Each line of the contract about the WebSocket, said by a client that knows no SDK."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from backend.cli.serving import DrainingServer, config_of, listen
from backend.identity import TokenVerifier
from backend.realtime import session, sockets
from backend.realtime.hub import READS_AT_ONCE
from tests.realtime.conftest import Stage
from tests.realtime.given import Api, numbers, token, until

SUBSCRIBE = {"id": 2, "subscribe": {"channel": "feed"}}


def subscribe(**values: Any) -> dict[str, Any]:
    return {"id": 2, "subscribe": {"channel": "feed", **values}}


async def test_connect_says_what_sdks_need(api: Api) -> None:
    async with api.raw() as raw:
        reply = await raw.ask({"id": 1, "connect": {"token": token(ttl=100), "name": "test", "unknown": [1]}})
    assert reply["id"] == 1
    told = reply["connect"]
    assert told.pop("client")
    assert told.pop("ttl") in {98, 99, 100}
    assert told == {"version": "0.1.0", "ping": 25, "pong": True, "expires": True}


async def test_the_handshakes_header_is_a_token_too(api: Api) -> None:
    async with api.raw(additional_headers={"Authorization": f"Bearer {token()}"}) as raw:
        assert "connect" in await raw.ask({"id": 1, "connect": {}})


async def test_no_subprotocol_is_needed_and_ours_is_selected(api: Api) -> None:
    async with api.raw() as raw:
        assert raw.connection.subprotocol is None
    async with api.raw(subprotocols=["centrifuge-protobuf", "centrifuge-json"]) as raw:
        assert raw.connection.subprotocol == "centrifuge-json"


@pytest.mark.parametrize("connect", [{}, {"token": "nonsense"}, {"token": token(secret="x" * 32)}])
async def test_an_invalid_token_closes_for_good(api: Api, connect: dict[str, Any]) -> None:
    async with api.raw() as raw:
        await raw.say({"id": 1, "connect": connect})
        assert await raw.closed() == (3500, "invalid token")


async def test_an_expired_token_is_an_error_that_sdks_mend(api: Api) -> None:
    async with api.raw() as raw:
        reply = await raw.ask({"id": 1, "connect": {"token": token(ttl=-1)}})
        assert reply == {"id": 1, "error": {"code": 109, "message": "token expired"}}
        assert "connect" in await raw.ask({"id": 2, "connect": {"token": token()}})


async def test_a_token_without_the_scope_is_denied(api: Api) -> None:
    async with api.raw() as raw:
        assert (await raw.ask({"id": 1, "connect": {"token": token(scope="ops")}}))["error"]["code"] == 103
    async with api.raw("/ops/events") as raw:
        assert (await raw.ask({"id": 1, "connect": {"token": token(scope="user")}}))["error"]["code"] == 103


async def test_operators_have_a_channel_of_their_own(api: Api) -> None:
    async with api.raw("/ops/events") as raw:
        await raw.ask({"id": 1, "connect": {"token": token(scope="ops")}})
        assert (await raw.ask(subscribe()))["error"]["code"] == 103
        assert (await raw.ask({"id": 3, "subscribe": {"channel": "ops"}}))["subscribe"]["offset"] == 0


async def test_who_says_nothing_is_closed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CONNECT_SECONDS", 0.05)  # a real timer in a real server: time cannot be moved from here
    async with api.raw() as raw:
        assert await raw.closed() == (3502, "stale")


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "nonsense",
        "[]",
        "1",
        '{"id":-1,"connect":{}}',
        '{"id":"1","connect":{}}',
        '{"connect":{"token":"x"}}',
        '{"id":1,"connect":{"token":1}}',
        '{"id":1,"subscribe":{"channel":"feed"}}',
        "{" * 5000,
        b"\xff\xfe",
        b"{}\x00",
        "{}\n" * 33 + "{}",
        '{"id":1,"connect":{"token":"' + "x" * 70_000 + '"}}',
    ],
)
async def test_what_is_malformed_or_out_of_order_closes_for_good(api: Api, frame: str | bytes) -> None:
    async with api.raw() as raw:
        await raw.connection.send(frame)
        assert await raw.closed() == (3501, "bad request")


async def test_connecting_twice_is_out_of_order(api: Api) -> None:
    async with api.connected() as raw:
        await raw.say({"id": 2, "connect": {"token": token()}})
        assert (await raw.closed())[0] == 3501


async def test_a_frame_may_hold_the_whole_beginning(api: Api) -> None:
    async with api.raw() as raw:
        await raw.say({"id": 1, "connect": {"token": token()}}, {}, SUBSCRIBE, {"id": 3, "publish": {"channel": "feed", "data": 1}})
        assert "connect" in await raw.hear()
        assert "subscribe" in await raw.hear()
        assert await raw.hear() == {"id": 3, "error": {"code": 104, "message": "method not found"}}


async def test_subscribing_starts_at_the_top(api: Api) -> None:
    await api.append(1, 3)
    position = await api.feed.position("anna")
    async with api.connected() as raw:
        reply = await raw.ask(SUBSCRIBE)
        assert reply == {
            "id": 2,
            "subscribe": {
                "recoverable": True,
                "positioned": True,
                "epoch": position.epoch,
                "offset": 3,
                "was_recovering": False,
                "recovered": False,
                "publications": [],
            },
        }
        await api.append(4, 5)
        assert numbers(await raw.publications(2)) == [(4, 4), (5, 5)]


async def test_a_push_names_its_channel(api: Api) -> None:
    async with api.connected() as raw:
        await raw.ask(SUBSCRIBE)
        await api.append(1, 1)
        push = await raw.hear()
        assert push["push"]["channel"] == "feed"
        assert push["push"]["pub"]["data"]["type"] == "provider.connecting"


@pytest.mark.parametrize("channel", ["", "Feed", "feed:anna", "feed#ben", "ops", "$feed"])
async def test_any_other_channel_is_denied(api: Api, channel: str) -> None:
    async with api.connected() as raw:
        assert await raw.ask({"id": 2, "subscribe": {"channel": channel}}) == {
            "id": 2,
            "error": {"code": 103, "message": "permission denied"},
        }


async def test_subscribing_twice_is_an_error(api: Api) -> None:
    async with api.connected() as raw:
        await raw.ask(SUBSCRIBE)
        assert (await raw.ask({**SUBSCRIBE, "id": 3}))["error"]["code"] == 105


async def test_nobody_hears_another_users_events(api: Api) -> None:
    async with api.connected("anna") as anna, api.connected("ben") as ben:
        await anna.ask(SUBSCRIBE)
        await ben.ask(SUBSCRIBE)
        await api.append(1, 1, "ben")
        await api.append(1, 2, "anna")
        assert numbers(await anna.publications(2)) == [(1, 1), (2, 2)]
        assert numbers(await ben.publications(1)) == [(1, 1)]


async def test_recovering_repeats_the_position_that_was_asked_from(api: Api) -> None:
    await api.append(1, 4)
    epoch = (await api.feed.position("anna")).epoch
    async with api.connected() as raw:
        reply = (await raw.ask(subscribe(recover=True, epoch=epoch, offset=1)))["subscribe"]
        assert (reply["was_recovering"], reply["recovered"], reply["offset"]) == (True, True, 1)
        assert numbers(reply["publications"]) == [(2, 2), (3, 3), (4, 4)]
        await api.append(5, 5)
        assert numbers(await raw.publications(1)) == [(5, 5)]


async def test_an_absent_offset_is_zero(api: Api) -> None:
    await api.append(1, 2)
    epoch = (await api.feed.position("anna")).epoch
    async with api.connected() as raw:
        reply = (await raw.ask(subscribe(recover=True, epoch=epoch)))["subscribe"]
        assert (reply["recovered"], reply["offset"], len(reply["publications"])) == (True, 0, 2)


@pytest.mark.parametrize("asked", [{"epoch": "_"}, {"epoch": "gone", "offset": 1}, {"offset": 9}, {}, {"offset": 2**60}])
async def test_lost_history_is_said_in_the_reply_or_as_an_error(api: Api, asked: dict[str, Any]) -> None:
    await api.append(1, 3)
    epoch = (await api.feed.position("anna")).epoch
    asked = {"recover": True, "epoch": epoch if "offset" in asked and "epoch" not in asked else "", **asked}
    async with api.connected() as raw:
        refused = await raw.ask(subscribe(**asked, flag=3))
        assert refused == {"id": 2, "error": {"code": 112, "message": "unrecoverable position"}}
        reply = (await raw.ask(subscribe(**asked, flag=1)))["subscribe"]
        assert (reply["was_recovering"], reply["recovered"], reply["offset"], reply["publications"]) == (True, False, 3, [])
        await api.append(4, 4)
        assert numbers(await raw.publications(1)) == [(4, 4)]


async def test_after_unsubscribing_there_is_silence_and_one_may_come_back(api: Api) -> None:
    async with api.connected() as raw:
        epoch = (await raw.ask(SUBSCRIBE))["subscribe"]["epoch"]
        assert await raw.ask({"id": 3, "unsubscribe": {"channel": "feed"}}) == {"id": 3, "unsubscribe": {}}
        await api.append(1, 1)
        reply = (await raw.ask({**subscribe(recover=True, epoch=epoch, offset=0), "id": 4}))["subscribe"]
        assert numbers(reply["publications"]) == [(1, 1)]


async def test_a_token_is_refreshed_in_place(api: Api) -> None:
    async with api.connected() as raw:
        reply = await raw.ask({"id": 2, "refresh": {"token": token(ttl=500)}})
        assert reply["refresh"].pop("ttl") in {498, 499, 500}
        assert reply == {"id": 2, "refresh": {"expires": True}}
        assert (await raw.ask({"id": 3, "refresh": {"token": token(ttl=-5)}}))["error"]["code"] == 109


@pytest.mark.parametrize("other", [token("ben"), "nonsense", ""])
async def test_a_refresh_with_a_strange_token_closes_for_good(api: Api, other: str) -> None:
    async with api.connected() as raw:
        await raw.say({"id": 2, "refresh": {"token": other}})
        assert (await raw.closed())[0] == 3500


async def test_a_token_that_runs_out_closes_the_socket(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "EXPIRY_GRACE_SECONDS", -0.95)  # a real timer in a real server: time cannot be moved from here
    async with api.raw() as raw:
        await raw.ask({"id": 1, "connect": {"token": token(ttl=1)}})
        assert await raw.closed() == (3005, "expired")


async def test_pings_are_empty_and_silence_closes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PING_SECONDS", 0.05)
    monkeypatch.setattr(session, "PONG_SECONDS", 0.12)
    async with api.connected() as raw:
        for _ in range(5):
            assert await raw.ask({}) == {}
        assert await raw.closed() == (3012, "no pong")


async def test_an_irreparable_gap_unsubscribes_and_tells_on_return(api: Api) -> None:
    async with api.connected() as raw:
        epoch = (await raw.ask(SUBSCRIBE))["subscribe"]["epoch"]
        await api.append(1, 1)
        await raw.publications(1)
        await api.feed.append("anna", [(5, b'{"type":"x","data":{"n":5}}')], rebase=True)
        assert await raw.hear() == {"push": {"channel": "feed", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
        reply = (await raw.ask({**subscribe(recover=True, epoch=epoch, offset=1), "id": 7}))["subscribe"]
        assert (reply["recovered"], reply["offset"]) == (False, 5)


async def test_too_many_sockets_of_one_user_are_told_to_come_back_later(
    api_with: Callable[..., AbstractAsyncContextManager[Api]],
) -> None:
    async with api_with(sockets_per_user=2) as api, api.connected() as first, api.connected(), api.raw() as third:
        reply = await third.ask({"id": 1, "connect": {"token": token()}})
        assert reply == {"id": 1, "error": {"code": 111, "message": "too many requests", "temporary": True}}
        async with api.connected("ben"):
            pass
        await first.connection.close()
        await until(lambda: api.hub.admit(("feed", "anna")))


async def test_a_drain_sends_everybody_away_and_lets_nobody_in(api: Api) -> None:
    async with api.connected() as one, api.connected() as two, api.raw() as three:
        await one.ask(SUBSCRIBE)
        await api.hub.drain(0.02)
        for raw in (one, two, three):
            assert await raw.closed() == (3001, "shutdown")
    async with api.raw() as late:
        assert (await late.closed())[0] == 3001


async def test_whose_server_ends_hears_the_goodbye_first(api: Api, stage: Stage) -> None:
    app = stage.app
    assert isinstance(app, Starlette)
    app.state.drain = partial(api.hub.drain, 0)
    listener = listen("127.0.0.1", 0)
    server = DrainingServer(config_of(app, drain_seconds=1), app, 1)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started)
    async with replace(api, port=listener.getsockname()[1]).connected() as alone:
        await alone.ask(SUBSCRIBE)
        server.should_exit = True
        assert await alone.closed() == (3001, "shutdown")
    await serving


async def test_without_valkey_a_subscription_may_be_tried_again(api_with: Callable[..., AbstractAsyncContextManager[Api]]) -> None:
    async with api_with(url="unix:///nowhere/at/all.sock") as api, api.connected() as raw:
        reply = await raw.ask(SUBSCRIBE)
        assert reply == {"id": 2, "error": {"code": 100, "message": "internal", "temporary": True}}
        assert (await raw.ask({**SUBSCRIBE, "id": 3}))["error"]["code"] == 100


async def test_who_is_kept_waiting_is_told_to_try_again_before_they_give_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "ANSWER_SECONDS", 0.05)
    async with contextlib.AsyncExitStack() as busy, api.connected() as raw:
        for _ in range(READS_AT_ONCE):  # as by so many others, who wait for an engine themselves
            await busy.enter_async_context(api.hub._reading)
        async with asyncio.timeout(2):
            assert await raw.ask(SUBSCRIBE) == {"id": 2, "error": {"code": 100, "message": "internal", "temporary": True}}
        await busy.aclose()
        assert (await raw.ask({**SUBSCRIBE, "id": 3}))["subscribe"]["offset"] == 0


async def test_one_frame_has_one_time_for_all_that_it_asks_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "ANSWER_SECONDS", 0.2)
    for room, name in ((TokenVerifier, "verify"), (api.feed, "read")):
        monkeypatch.setattr(room, name, late(getattr(room, name), 0.15))
    async with api.raw() as raw:
        await raw.say({"id": 1, "connect": {"token": token()}}, SUBSCRIBE)
        assert "connect" in await raw.hear()
        assert (await raw.hear())["error"]["code"] == 100


async def test_keys_that_do_not_come_in_time_are_no_verdict(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "ANSWER_SECONDS", 0.05)
    with monkeypatch.context() as hanging:
        hanging.setattr(TokenVerifier, "verify", late(TokenVerifier.verify, 60))
        async with api.raw() as raw:
            assert (await raw.ask({"id": 1, "connect": {"token": token()}}))["error"]["code"] == 100
            hanging.undo()
            assert "connect" in await raw.ask({"id": 2, "connect": {"token": token()}})


def late(deed: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    async def then(*said: Any) -> Any:
        await asyncio.sleep(seconds)
        return await deed(*said)

    return then


async def test_who_reads_too_slowly_is_closed_and_finds_everything_on_return(api: Api) -> None:
    big = b'{"type":"provider.assets","data":{"n":0,"padding":"%b"}}' % (b"x" * 60_000)
    async with api.raw(max_queue=1) as raw:
        connection: ClientConnection = raw.connection
        await raw.ask({"id": 1, "connect": {"token": token()}})
        epoch = (await raw.ask(SUBSCRIBE))["subscribe"]["epoch"]
        for offset in range(1, 201):
            await api.feed.append("anna", [(offset, big)])
        await until(lambda: not api.hub._places)
        read = 0
        with contextlib.suppress(ConnectionClosed):
            while await connection.recv():
                read += 1
        assert read < 200
        assert (connection.close_code, connection.close_reason) == (3008, "slow")
    async with api.connected() as raw:
        connection = raw.connection
        await raw.say(subscribe(recover=True, epoch=epoch, offset=190))
        reply = (await raw.hear())["subscribe"]
        recovered = [publication["offset"] for publication in reply["publications"]]
        assert 0 < len(recovered) < 10, "a slice of the log; the rest follows"
        pushed = [publication["offset"] for publication in await raw.publications(10 - len(recovered))]
        assert recovered + pushed == list(range(191, 201))
