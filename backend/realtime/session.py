"""One client's conversation as a rule: what was received, verified, attached, lost or late becomes what to do.

`Connecting` knows nobody, `Connected` knows the user, `Subscribed` hears events; each allows what its type allows.
In: frames, answers to what was asked for, the time. Out: a list of actions, to be done in order; one that asks (`Verify`, `Attach`) is
answered before anything else is received. No I/O, no clock, no randomness; times are seconds on a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TypeAlias

from backend.events import Position
from backend.realtime import protocol
from backend.realtime.feed import Slice
from backend.realtime.protocol import CloseCode, Command, Connect, ErrorCode, Refresh, Subscribe, Unsubscribe, UnsubscribeCode

CONNECT_SECONDS = 10.0  # to the first successful connect
PING_SECONDS = 25
PONG_SECONDS = 10.0
EXPIRY_GRACE_SECONDS = 2.0  # SDKs start to refresh when the ttl is over, not before
LATE_SECONDS = 1.0  # a deadline that is looked at so late is our stall, not the client's silence


# --- what to do -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    frame: bytes


@dataclass(frozen=True)
class Close:
    """Nothing follows."""

    code: CloseCode


@dataclass(frozen=True)
class Verify:
    """Answer with `verified`. `token` None: the one of the handshake."""

    token: str | None = field(repr=False)
    joining: bool  # True: a new connection, which counts


@dataclass(frozen=True)
class Attach:
    """Answer with `attached`. `since` None: from now on."""

    since: Position | None


@dataclass(frozen=True)
class Detach:
    """No more events."""


Action: TypeAlias = Send | Close | Verify | Attach | Detach


# --- answers to Verify ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verified:
    user_id: str
    ttl: float  # seconds


class Rejection(Enum):
    INVALID = auto()
    EXPIRED = auto()
    FORBIDDEN = auto()  # a good token without the scope
    CROWDED = auto()  # too many sockets of this user
    UNAVAILABLE = auto()  # whoever could tell does not answer


_REJECTED_BY_ERROR = {
    Rejection.EXPIRED: ErrorCode.TOKEN_EXPIRED,
    Rejection.FORBIDDEN: ErrorCode.PERMISSION_DENIED,
    Rejection.CROWDED: ErrorCode.TOO_MANY_REQUESTS,
    Rejection.UNAVAILABLE: ErrorCode.INTERNAL,
}


# --- states -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Connecting:
    stale_at: float


@dataclass(frozen=True)
class Connected:
    user_id: str = field(repr=False)
    expires_at: float
    ping_at: float
    pong_by: float | None = None  # None: no ping is unanswered


@dataclass(frozen=True)
class Subscribed(Connected):
    pass


@dataclass(frozen=True)
class Closed:
    pass


State: TypeAlias = Connecting | Connected | Subscribed | Closed


class Session:
    """The conversation. `client` is its public name, `channel` the one channel that it may hear."""

    def __init__(self, *, channel: str, client: str, version: str, now: float) -> None:
        self._channel = channel
        self._client = client
        self._version = version
        self._held: list[Command] = []  # behind the command that asks; one frame's at most
        self._asking: Command | None = None
        self.state: State = Connecting(now + CONNECT_SECONDS)

    # --- what happened ------------------------------------------------------------------------------------------------

    def received(self, frame: str | bytes) -> list[Action]:
        """A frame came in."""
        if isinstance(self.state, Closed):
            return []
        commands = protocol.decode(frame)
        if commands is None:
            return self._close(CloseCode.BAD_REQUEST)
        self._held.extend(commands)
        return self._go_on()

    def verified(self, answer: Verified | Rejection, now: float) -> list[Action]:
        """The answer to `Verify`."""
        match self._asking, answer:
            case None, _:
                return []
            case _, Rejection.INVALID:
                return self._close(CloseCode.INVALID_TOKEN)
            case Command(id=command_id), Rejection():
                return self._answered([Send(protocol.error(command_id, _REJECTED_BY_ERROR[answer]))])
            case Command(id=command_id, connect=Connect()), Verified():
                return self._answered(self._welcome(command_id, answer, now))
            case Command(id=command_id), Verified():
                return self._answered(self._prolong(command_id, answer, now))
        return []

    def attached(self, answer: Slice | None) -> list[Action]:
        """The answer to `Attach`. None: the feed cannot be read now."""
        if self._asking is None or not isinstance(self.state, Connected) or not isinstance(self._asking.subscribe, Subscribe):
            return []
        command_id, asked = self._asking.id, self._asking.subscribe
        if answer is None:
            return self._answered([Send(protocol.error(command_id, ErrorCode.INTERNAL))])
        since = asked.since
        recovered = since is not None and answer.recovered
        if since is not None and not recovered and asked.flag & protocol.REJECT_UNRECOVERED:
            return self._answered([Detach(), Send(protocol.error(command_id, ErrorCode.UNRECOVERABLE_POSITION))])
        self.state = Subscribed(**vars(self.state))
        reply = protocol.subscribed(
            command_id,
            since if since is not None and recovered else answer.position,
            was_recovering=since is not None,
            recovered=recovered,
            entries=answer.entries if recovered else (),
        )
        return self._answered([Send(reply)])

    def lost(self) -> list[Action]:
        """Events are gone that this client has not had; it must subscribe again and be told."""
        if not isinstance(self.state, Subscribed):
            return []
        self._leave()
        return [Send(protocol.unsubscribe_push(self._channel, UnsubscribeCode.INSUFFICIENT_STATE))]

    @property
    def wake_at(self) -> float | None:
        """When `elapsed` wants to be called; None: never."""
        match self.state:
            case Connecting(stale_at):
                return stale_at
            case Connected() as state:
                expiry = state.expires_at + EXPIRY_GRACE_SECONDS
                return min(expiry, state.ping_at, state.pong_by if state.pong_by is not None else expiry)
        return None

    def elapsed(self, now: float) -> list[Action]:
        """Time went by."""
        match self.state:
            case Connecting(stale_at) if now >= stale_at:
                return self._close(CloseCode.STALE)
            case Connected() as state:
                return self._elapsed(state, now)
        return []

    def _elapsed(self, state: Connected, now: float) -> list[Action]:
        if now >= state.expires_at + EXPIRY_GRACE_SECONDS:
            return self._close(CloseCode.EXPIRED)
        if state.pong_by is not None and now >= state.pong_by:
            if now - state.pong_by < LATE_SECONDS:
                return self._close(CloseCode.NO_PONG)
            state = replace(state, pong_by=now + LATE_SECONDS)  # its pong may lie in the socket, unread by us
        if now < state.ping_at:
            self.state = state
            return []
        pong_by = state.pong_by if state.pong_by is not None else now + PONG_SECONDS
        self.state = replace(state, ping_at=now + PING_SECONDS, pong_by=pong_by)
        return [Send(protocol.PING)]

    # --- commands -----------------------------------------------------------------------------------------------------

    def _go_on(self) -> list[Action]:
        """Carries out what is held, up to the next command that asks."""
        actions: list[Action] = []
        while self._held and self._asking is None and not isinstance(self.state, Closed):
            actions += self._carry_out(self._held.pop(0))
        return actions

    def _answered(self, actions: list[Action]) -> list[Action]:
        self._asking = None
        return actions + self._go_on()

    def _carry_out(self, command: Command) -> list[Action]:
        match self.state, command.method:
            case Connected() as state, None if command.id == 0:
                self.state = replace(state, pong_by=None)
                return []
            case _, None if command.id == 0:
                return []  # a pong before connect does no harm and helps nobody
            case Connecting(), Connect(token=token) if command.id:
                return self._ask(command, Verify(token or None, joining=True))
            case Connected(), method if command.id and not isinstance(method, Connect):
                return self._carry_out_connected(command)
        return self._close(CloseCode.BAD_REQUEST)  # no id, connect twice, or anything else before connect

    def _carry_out_connected(self, command: Command) -> list[Action]:
        match command.method:
            case Refresh(token=token):
                return self._ask(command, Verify(token, joining=False))
            case Subscribe(channel=channel) if channel != self._channel:
                return [Send(protocol.error(command.id, ErrorCode.PERMISSION_DENIED))]
            case Subscribe() if isinstance(self.state, Subscribed):
                return [Send(protocol.error(command.id, ErrorCode.ALREADY_SUBSCRIBED))]
            case Subscribe() as subscribe:
                return self._ask(command, Attach(subscribe.since))
            case Unsubscribe(channel=channel):
                left: list[Action] = [Detach()] if channel == self._channel and isinstance(self.state, Subscribed) else []
                if left:
                    self._leave()
                return [*left, Send(protocol.unsubscribed(command.id))]
        return [Send(protocol.error(command.id, ErrorCode.METHOD_NOT_FOUND))]

    def _ask(self, command: Command, question: Verify | Attach) -> list[Action]:
        self._asking = command
        return [question]

    def _welcome(self, command_id: int, identity: Verified, now: float) -> list[Action]:
        if not isinstance(self.state, Connecting):
            return []
        self.state = Connected(user_id=identity.user_id, expires_at=now + identity.ttl, ping_at=now + PING_SECONDS)
        ttl = _whole(identity.ttl)
        return [Send(protocol.connected(command_id, client=self._client, version=self._version, ping=PING_SECONDS, ttl=ttl))]

    def _prolong(self, command_id: int, identity: Verified, now: float) -> list[Action]:
        if not isinstance(self.state, Connected):
            return []
        if identity.user_id != self.state.user_id:
            return self._close(CloseCode.INVALID_TOKEN)
        self.state = replace(self.state, expires_at=now + identity.ttl)
        return [Send(protocol.refreshed(command_id, ttl=_whole(identity.ttl)))]

    def _leave(self) -> None:
        values = vars(self.state)
        self.state = Connected(**values)

    def _close(self, code: CloseCode) -> list[Action]:
        self.state = Closed()
        self._asking = None
        self._held.clear()
        return [Close(code)]


def _whole(ttl: float) -> int:
    """SDKs refresh when so many seconds are over: rounded down, so that they come before the end."""
    return max(1, int(ttl))
