"""One per API process: brings each user's events to whoever listens here, without hole or double.

In: live batches from one pub/sub line, slices of the log. Out: entries in mailboxes, or the word that some are lost.
Live batches are only the fast way. The log is the truth: it is read when somebody attaches, when a batch does not follow, and when a look
at the positions, once a second and after each reconnect, shows that somebody is behind. Events are not parsed, and nobody waits for Valkey
but the one who attaches.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Self

import structlog

from backend.errors import EngineUnavailable, Problem, Refused
from backend.events import Position
from backend.metrics import Metric, Sample, Samples
from backend.realtime import merging
from backend.realtime.channels import Dial, Heard, Line
from backend.realtime.feed import SLICE_BYTES, FeedReader, Slice, channel
from backend.realtime.mailbox import Mailbox
from backend.realtime.merging import News, Nothing, ReadLog, following
from backend.realtime.protocol import CloseCode
from backend.realtime.tallies import Tallies, Transport

CHECK_SECONDS = 1.0  # a last message that was lost is repaired within this time
SILENCE_ROUNDS = 5  # so many checks without a word from the line, although it was pinged: it is dead
LINGER_ROUNDS = 30  # a room stays for so many checks after its last listener: pollers come back
KEEP_ROUNDS = 1800  # every half hour the numbers of a quiet feed are kept alive
REDIAL_SECONDS = (0.05, 2.0)  # doubling, with full jitter
CONFIRM_SECONDS = 1.0  # then the once-a-second check has to do
READS_AT_ONCE = 32
TAKE_SECONDS = 2.0  # so long a client may take to write out a slice of the log before it is handed the next
CHANNELS_AT_ONCE = 500
SLICE_SECONDS = 0.1  # of a drain
GOODBYE_SECONDS = 1.0  # so long a drain waits for the last goodbyes to be written

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class Listener:
    """One client in its room; `position` is after the last entry in its mailbox."""

    mailbox: Mailbox
    position: Position


@dataclass(eq=False, slots=True)
class Room:
    """Everybody here who listens to one user's feed."""

    user_id: str
    cursor: Position | None = None  # nobody who listens lacks anything up to here; None: nobody has listened yet
    listeners: list[Listener] = field(default_factory=list)
    attaching: int = 0
    confirmed: asyncio.Event = field(default_factory=asyncio.Event)
    repair: asyncio.Task[None] | None = None  # None: live batches are followed
    behind: bool = False  # the log has, or may have, more than the cursor
    idle_rounds: int = 0

    @property
    def idle(self) -> bool:
        return not self.listeners and not self.attaching and self.repair is None


class Hub:
    """Give `dial` a way to pub/sub (`channels.dialer`). Use it as a context manager, or `start` and `stop` it."""

    def __init__(
        self,
        *,
        feed: FeedReader,
        dial: Dial,
        sockets_per_user: int = 0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._feed = feed
        self._dial = dial
        self._sockets_per_user = sockets_per_user  # 0: no limit
        self._sleep = sleep
        self._rooms: dict[str, Room] = {}  # by channel
        self._places: dict[Mailbox, tuple[Room, Listener]] = {}
        self._open: dict[Mailbox, Transport] = {}  # in the order in which they came
        self._tallies = Tallies()
        self._sockets: Counter[Hashable] = Counter()
        self._line: Line | None = None
        self._quiet_rounds = 0
        self._rounds = 0
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._look = asyncio.Event()
        self._draining = False
        self._deserted = asyncio.Event()  # draining, and nobody is left
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def start(self) -> None:
        """Begins to listen, and goes on through every fault of Valkey."""
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._check_for_ever())]

    async def stop(self) -> None:
        """Ends at once; `drain` first."""
        tasks = self._tasks + [room.repair for room in self._rooms.values() if room.repair is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def position(self, user_id: str) -> Position:
        """A position that everything known here of this user's feed is after, or at: free if the user listens here, else Valkey's newest.

        It may be older than the feed's own newest: whoever begins there hears again what the snapshot shows already. Raises
        `EngineUnavailable`.
        """
        room = self._rooms.get(channel(user_id))
        if room is not None and room.listeners and room.cursor is not None:
            return room.cursor
        return await self._feed.position(user_id)

    def measured(self) -> Samples:
        """Of this process."""
        connected = Counter(self._open.values())
        yield from (Sample(Metric.SOCKETS, (transport,), connected[transport]) for transport in Transport)
        yield Sample(Metric.FEEDS_HEARD, (), sum(bool(room.listeners) for room in self._rooms.values()))
        yield Sample(Metric.FEED_LINE, (), self._line is not None)
        yield from self._tallies.measured()

    # --- clients ------------------------------------------------------------------------------------------------------

    def enrol(self, mailbox: Mailbox, transport: Transport) -> None:
        """Makes a client known, so that a drain reaches it. Raises `Refused` while draining."""
        if self._draining:
            raise Refused(Problem.SHUTTING_DOWN)
        self._open[mailbox] = transport
        self._tallies.came(transport)

    def withdraw(self, mailbox: Mailbox, *, by_itself: bool = False) -> None:
        """The client is gone, and has been told what there was to tell. `by_itself`: it went before it was closed."""
        self.detach(mailbox)
        transport = self._open.pop(mailbox, None)
        if transport is not None:
            self._tallies.left(transport, None if by_itself else mailbox.closing)
        if self._draining and not self._open:
            self._deserted.set()

    def admit(self, owner: Hashable) -> bool:
        """Counts one more socket of `owner`, unless there are too many; `release` it."""
        if self._sockets_per_user and self._sockets[owner] >= self._sockets_per_user:
            return False
        self._sockets[owner] += 1
        return True

    def release(self, owner: Hashable) -> None:
        """One socket of `owner` less."""
        self._sockets[owner] -= 1
        if self._sockets[owner] <= 0:
            del self._sockets[owner]

    async def attach(self, user_id: str, mailbox: Mailbox, since: Position | None) -> Slice:
        """What the client has missed since `since`; everything after it will come into the mailbox. Raises `EngineUnavailable`.

        The caller hands the slice on before it awaits anything else.
        """
        room = self._rooms.get(channel(user_id)) or self._enter(user_id)
        room.attaching += 1
        try:
            await self._confirmation(room)
            async with self._reading:
                missed = await self._feed.read(user_id, since)
        finally:
            room.attaching -= 1
        self._join(room, Listener(mailbox, missed.position), more=missed.more)
        if since is not None and mailbox in self._open:
            self._tallies.resumed(self._open[mailbox], recovered=missed.recovered)
        return missed

    def detach(self, mailbox: Mailbox) -> None:
        """Nothing more comes into the mailbox, and what waits there is dropped: a `Lost`, too, which would end the next subscription."""
        place = self._places.get(mailbox)
        if place is not None:
            self._leave(*place)
        mailbox.drop_events()

    @property
    def draining(self) -> bool:
        """Whether everybody is being sent away."""
        return self._draining

    async def drain(self, seconds: float) -> None:
        """Sends everybody away in slices over `seconds`, so that they do not all come back at once. Nobody new is let in.

        Returns when all have gone, or `GOODBYE_SECONDS` after the last slice: what the server closes afterwards is closed without our code.
        """
        self._draining = True
        waiting = list(self._open)
        slices = max(1, min(len(waiting), int(seconds / SLICE_SECONDS)))
        for part in range(slices):
            for mailbox in waiting[part * len(waiting) // slices : (part + 1) * len(waiting) // slices]:
                mailbox.close(CloseCode.SHUTDOWN)
            if part + 1 < slices:
                await self._sleep(seconds / slices)
        if self._open:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self._deserted.wait()

    # --- rooms --------------------------------------------------------------------------------------------------------

    def _enter(self, user_id: str) -> Room:
        name = channel(user_id)
        room = self._rooms[name] = Room(user_id)
        if self._line is not None:
            self._spawn(self._send(self._line.subscribe([name])))
        return room

    async def _confirmation(self, room: Room) -> None:
        """Reading first and subscribing later would leave a hole. Without a line it is filled when there is one, or by the next check."""
        if self._line is not None and not room.confirmed.is_set():
            try:
                async with asyncio.timeout(CONFIRM_SECONDS):
                    await room.confirmed.wait()
            except TimeoutError:
                log.info("hub.unconfirmed")

    def _join(self, room: Room, listener: Listener, *, more: bool) -> None:
        if room.cursor is None or not room.listeners:
            room.cursor = listener.position
        elif room.cursor.epoch != listener.position.epoch:
            self._catch_up(room)
        elif listener.position.offset < room.cursor.offset:
            room.cursor = listener.position  # live events came while the log was read: read on from there
            self._catch_up(room)
        room.listeners.append(listener)
        if more:
            self._catch_up(room)
        room.idle_rounds = 0
        self._places[listener.mailbox] = (room, listener)

    def _leave(self, room: Room, listener: Listener) -> None:
        room.listeners.remove(listener)
        del self._places[listener.mailbox]

    def _deliver(self, room: Room, news: News) -> None:
        """Hands each listener what it does not have. The news follow the cursor, and no listener is behind the cursor."""
        room.cursor = news.position
        dead: list[Listener] = []
        for listener in room.listeners:
            behind = news.position.offset - listener.position.offset
            if listener.position.epoch != news.position.epoch:
                dead.append(listener)  # it joined just as its epoch ended
            elif behind > 0:
                listener.position = news.position
                listener.mailbox.put_entries(news.entries[-behind:])
        self._lose(room, dead)

    def _lose(self, room: Room, listeners: list[Listener]) -> None:
        for listener in listeners:
            self._leave(room, listener)
            listener.mailbox.put_lost()

    # --- reading the log ----------------------------------------------------------------------------------------------

    def _catch_up(self, room: Room) -> None:
        """Live batches are left aside until the log has been read to its end."""
        room.behind = True
        if room.repair is None:
            self._tallies.repaired()
            room.repair = asyncio.create_task(self._repair(room))

    async def _repair(self, room: Room) -> None:
        try:
            while room.behind and room.listeners and room.cursor is not None:
                room.behind = False
                asked = room.cursor
                async with self._reading:
                    missed = await self._feed.read(room.user_id, asked)
                if room.cursor != asked:
                    room.behind = True  # somebody joined who needs earlier events
                elif missed.recovered:
                    self._deliver(room, News(missed.entries, missed.position))
                    if missed.more:
                        room.behind = True
                        await self._taken(room)
                else:
                    self._start_anew(room, asked, missed.position)
        except EngineUnavailable:
            room.behind = True  # the check starts it again
        finally:
            room.repair = None

    async def _taken(self, room: Room) -> None:
        """A log is handed over at the pace of whoever lacks it; who is slower than that falls behind by its mailbox, and is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TAKE_SECONDS):
                for listener in list(room.listeners):
                    await listener.mailbox.taken()

    def _start_anew(self, room: Room, asked: Position, newest: Position) -> None:
        """What follows `asked` is gone: whoever needs it is told. The others go on from the earliest of them."""
        same = asked.epoch == newest.epoch

        def lacks(at: Position) -> bool:
            return at.epoch != newest.epoch or at.offset > newest.offset or (same and at.offset <= asked.offset)

        self._lose(room, [listener for listener in room.listeners if lacks(listener.position)])
        room.cursor = min((listener.position for listener in room.listeners), key=lambda at: at.offset, default=newest)
        room.behind |= room.cursor != newest

    # --- the live line ------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                line = await self._dial()
                failures = 0
                await self._follow(line)
            except EngineUnavailable:
                log.info("hub.line_lost")
            least, most = REDIAL_SECONDS
            await self._sleep(least + random.uniform(0, min(most, least * 2**failures)))  # noqa: S311  # jitter
            failures = min(failures + 1, 10)

    async def _follow(self, line: Line) -> None:
        try:
            names = list(self._rooms)
            self._line = line
            self._quiet_rounds = 0
            for start in range(0, len(names), CHANNELS_AT_ONCE):
                await line.subscribe(names[start : start + CHANNELS_AT_ONCE])
            async for heard in line.heard():
                self._hear(heard)
        finally:
            self._line = None
            for room in self._rooms.values():
                room.confirmed.clear()
            await line.close()

    def _hear(self, heard: Heard) -> None:
        self._quiet_rounds = 0
        room = self._rooms.get(heard.channel)
        if room is None:
            return
        if heard.message is None:
            room.confirmed.set()
            if room.listeners:
                self._look.set()  # after a reconnect nobody knows what was missed
        elif room.repair is not None:
            room.behind = True
        elif room.listeners and len(heard.message) > SLICE_BYTES:
            self._catch_up(room)  # in slices, as fast as they are taken: no mailbox has room for what one append may hold
        elif room.listeners and room.cursor is not None and (batch := merging.decode(heard.message)):
            match following(room.cursor, batch):
                case News() as news:
                    self._deliver(room, news)
                case ReadLog():
                    self._catch_up(room)
                case Nothing():
                    pass

    async def _send(self, command: Awaitable[None]) -> None:
        """A line that cannot be written to is about to be found broken by its reader."""
        try:
            await command
        except EngineUnavailable:
            log.info("hub.line_lost")

    def _spawn(self, command: Awaitable[None]) -> None:
        task = asyncio.ensure_future(command)
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    # --- once a second ------------------------------------------------------------------------------------------------

    async def _check_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                self._rounds += 1
                await self._keep_line()
                await self._close_idle_rooms()
            self._look.clear()
            try:
                await self.check()
            except EngineUnavailable:
                log.info("hub.check_failed")

    async def check(self) -> None:
        """Compares every listened feed's newest position with what was delivered here, and repairs. Raises `EngineUnavailable`."""
        rooms = [room for room in self._rooms.values() if room.listeners]
        before = [room.cursor for room in rooms]
        keep = self._rounds % KEEP_ROUNDS == KEEP_ROUNDS - 1
        found = await self._feed.glance([room.user_id for room in rooms], keep=keep)
        for room, then, newest in zip(rooms, before, found, strict=True):
            now = room.cursor
            if now is None or then is None:
                continue
            if room.behind or newest is None or newest.epoch != now.epoch or not then.offset <= newest.offset <= now.offset:
                self._catch_up(room)

    async def _keep_line(self) -> None:
        if self._line is None:
            return
        self._quiet_rounds += 1
        if self._quiet_rounds > SILENCE_ROUNDS:
            log.warning("hub.line_silent")
            await self._line.close()
        else:
            await self._send(self._line.ping())

    async def _close_idle_rooms(self) -> None:
        leaving: list[str] = []
        for name, room in list(self._rooms.items()):
            room.idle_rounds = room.idle_rounds + 1 if room.idle else 0
            if room.idle_rounds > LINGER_ROUNDS:
                del self._rooms[name]
                leaving.append(name)
        if leaving and self._line is not None:
            await self._send(self._line.unsubscribe(leaving))
