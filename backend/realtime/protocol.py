"""The Centrifuge client protocol in JSON, as far as we speak it: frames in, frames out.

In: a text frame with one or more newline-separated commands. Out: typed commands, or None for a frame that is not acceptable.
Replies and pushes are built around the bytes of an EVENT, which is never parsed. Any bytes may come in; nothing here raises.
Source: the protocol's client schema (Command, Reply, Push) and its lists of error, unsubscribe and disconnect codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from backend.events import Position, to_json
from backend.realtime.merging import Entry

FRAME_BYTES = 64 * 1024  # a connect with the longest token that we read needs 8 KiB
COMMANDS_PER_FRAME = 32
SUBPROTOCOL = "centrifuge-json"  # selected when offered; nobody has to offer it

PING = b"{}"
REJECT_UNRECOVERED = 2  # bit of subscribe.flag: answer error 112 rather than `recovered` false


class ErrorCode(IntEnum):
    """Errors in replies; the socket stays open."""

    INTERNAL = 100  # temporary
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    TOKEN_EXPIRED = 109
    TOO_MANY_REQUESTS = 111  # temporary
    UNRECOVERABLE_POSITION = 112

    @property
    def message(self) -> str:
        return self.name.lower().replace("_", " ")

    @property
    def temporary(self) -> bool:
        """Whether a client should try again by itself."""
        return self in {ErrorCode.INTERNAL, ErrorCode.TOO_MANY_REQUESTS}


class CloseCode(IntEnum):
    """Why we close a socket. Clients come back by themselves below 3500, and not from 3500 on."""

    SHUTDOWN = 3001
    SERVER_ERROR = 3004
    EXPIRED = 3005  # the token ran out and was not refreshed
    SLOW = 3008  # the client read too slowly; it finds everything in the log
    NO_PONG = 3012
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502  # no connect in time

    @property
    def reason(self) -> str:
        return self.name.lower().replace("_", " ")


class UnsubscribeCode(IntEnum):
    """Why we end a subscription. From 2500 on, clients subscribe again."""

    INSUFFICIENT_STATE = 2500  # events are gone that this client has not had


class Connect(Struct):
    token: str = ""

    def __repr__(self) -> str:
        return "Connect(…)"


class Refresh(Struct):
    token: str = ""

    def __repr__(self) -> str:
        return "Refresh(…)"


class Subscribe(Struct):
    channel: str
    recover: bool = False
    epoch: str = ""
    offset: Annotated[int, Meta(ge=0)] = 0
    flag: Annotated[int, Meta(ge=0)] = 0

    @property
    def since(self) -> Position | None:
        """Where the client wants to go on; None: from now on."""
        return Position(self.epoch, self.offset) if self.recover else None


class Unsubscribe(Struct):
    channel: str


class Command(Struct):
    """One command; `{}` is a pong. Methods that we do not know are unknown fields, and ignored."""

    id: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    connect: Connect | UnsetType = UNSET
    subscribe: Subscribe | UnsetType = UNSET
    unsubscribe: Unsubscribe | UnsetType = UNSET
    refresh: Refresh | UnsetType = UNSET

    @property
    def method(self) -> Connect | Subscribe | Unsubscribe | Refresh | None:
        """None: a pong (without id), or a method that we do not have (with one)."""
        for method in (self.connect, self.subscribe, self.unsubscribe, self.refresh):
            if not isinstance(method, UnsetType):
                return method
        return None


_DECODER = msgspec.json.Decoder(Command)


def decode(frame: str | bytes) -> list[Command] | None:
    """The commands of a frame; None: malformed, too long or too many."""
    if len(frame) > FRAME_BYTES:
        return None
    try:
        data = frame.encode() if isinstance(frame, str) else frame
        lines = data.strip().split(b"\n")
        if len(lines) > COMMANDS_PER_FRAME:
            return None
        return [_DECODER.decode(line) for line in lines]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def error(command_id: int, code: ErrorCode) -> bytes:
    """An error reply. `temporary` is there when true."""
    told: dict[str, object] = {"code": int(code), "message": code.message}
    if code.temporary:
        told["temporary"] = True
    return to_json({"id": command_id, "error": told})


def connected(command_id: int, *, client: str, version: str, ping: int, ttl: int) -> bytes:
    """`ttl`: whole seconds until the token runs out."""
    told = {"client": client, "version": version, "ping": ping, "pong": True, "expires": True, "ttl": ttl}
    return to_json({"id": command_id, "connect": told})


def refreshed(command_id: int, *, ttl: int) -> bytes:
    return to_json({"id": command_id, "refresh": {"expires": True, "ttl": ttl}})


def subscribed(command_id: int, position: Position, *, was_recovering: bool, recovered: bool, entries: Iterable[Entry]) -> bytes:
    """When recovered, `position` is the one that was asked from: a client cut off after this reply must not skip its publications."""
    return b'{"id":%d,"subscribe":{"recoverable":true,"positioned":true,"epoch":%b,"offset":%d,"was_recovering":%b,"recovered":%b,%b}}' % (
        command_id,
        to_json(position.epoch),
        position.offset,
        to_json(was_recovering),
        to_json(recovered),
        b'"publications":[%b]' % b",".join(map(publication, entries)),
    )


def unsubscribed(command_id: int) -> bytes:
    return b'{"id":%d,"unsubscribe":{}}' % command_id


def publication(entry: Entry) -> bytes:
    return b'{"offset":%d,"data":%b}' % entry


def push(channel: bytes, entry: Entry) -> bytes:
    """`channel` is one of ours and needs no escaping."""
    return b'{"push":{"channel":"%b","pub":{"offset":%d,"data":%b}}}' % (channel, *entry)


def unsubscribe_push(channel: str, code: UnsubscribeCode) -> bytes:
    reason = code.name.lower().replace("_", " ")
    return to_json({"push": {"channel": channel, "unsubscribe": {"code": int(code), "reason": reason}}})
