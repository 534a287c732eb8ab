"""What operators are told, from its real source to a real chat: a worker whose line is cut, a certificate that ends, a week too short.

In: processes of ours, an institution behind TLS, a directory file that an operator changes. Out: messages that begin with what is wrong and
what to do, and end with its end. Circuits, 50009, lost work and late queues have their own rooms; here is what takes minutes to be over.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from backend.providers.directory import BUILT_IN
from tests.faults.chaos import Reset, proxying
from tests.faults.circuits import decided, entries, until
from tests.faults.minutes import linked
from tests.faults.receiver import Receiver
from tests.faults.stage import BANK, CARD, Stage, a_stage
from tests.faults.supervisor import Topology, a_fleet, free_port
from tests.providers.certificates import TestAuthority

pytestmark = [pytest.mark.system, pytest.mark.long]

CA, TELECOM = "CAMOA00001", "G1MOATC001"
ORIGIN = "http://127.0.0.1:8900"  # of the built-in directory
NODE, ENDING, WEEK = "Calls fail on one node alone", "A certificate ends soon", "The weekly batch will not finish in time"
MINUTES = 3 * 60.0  # seconds


@pytest.fixture
async def chat() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.listen()
    yield receiver
    await receiver.close()


def told_to(chat: Receiver, **more: str) -> dict[str, str]:
    """Settings of a fleet whose operators read this chat."""
    webhooks = f"http://127.0.0.1:{chat.port}/services/secret"
    return {"MOA_NOTICE_WEBHOOKS": webhooks, "MOA_ALERT_SECONDS": "1", "MOA_NOTICE_LANGUAGE": "en", **more}


# --- a bad node -------------------------------------------------------------------------------------------------------


async def test_a_worker_whose_line_to_institutions_is_cut_is_named_believed_by_nobody_and_told_as_well_again(chat: Receiver) -> None:
    settings = told_to(chat, MOA_CIRCUIT_SIZE="60", MOA_CIRCUIT_MINIMUM_CALLS="60")
    async with a_fleet(Topology(workers=2, settings=settings)) as fleet, a_stage(fleet) as stage:
        stage.ill = True
        line, sandbox = free_port(), int(fleet.sandbox.url.rpartition(":")[2])
        async with proxying(("127.0.0.1", line), ("127.0.0.1", sandbox)) as proxy, people_coming(stage):
            proxy.set(Reset())
            ill = fleet.another_worker("ill")
            ill.environment = {**ill.environment, "MOA_SANDBOX_URL": f"http://127.0.0.1:{line}"}
            await ill.start()
            [started] = entries(ill, "node.started")
            begun = await chat.tells("🚨", NODE, started["node"])
            assert f":{ill.pid}:" in begun, "an operator finds the process by it"
            assert any(org_code in begun for org_code in (CA, BANK, CARD)), "where it was found first"
            assert "To do: " in begun
            await asyncio.sleep(10)  # it goes on failing, and nobody believes it
            assert [each for each in decided(fleet) if each["state"] == "open"] == []
            proxy.heal()
            ended = await chat.tells("✅", NODE, started["node"], seconds=MINUTES)
            assert "🚨" not in ended
        assert len([text for text in chat.shown.values() if NODE in text]) == 2
        assert not any("are refused" in text for text in chat.shown.values())
        assert fleet.tracebacks() == []


@asynccontextmanager
async def people_coming(stage: Stage) -> AsyncIterator[None]:
    """Five a second, whether what they chose works or not."""

    async def come() -> None:
        while True:
            await stage.person().register(BANK, CARD)
            await asyncio.sleep(0.2)

    coming = asyncio.create_task(come())
    try:
        yield
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


# --- a certificate ----------------------------------------------------------------------------------------------------


class Front:
    """TLS before the sandbox, as a bank has it that takes our certificate. `seen`: the serial numbers of those that were shown."""

    def __init__(self, authority: TestAuthority) -> None:
        self.port = free_port()
        self.sandbox = 0  # its port
        self.seen: list[str] = []
        self._context = authority.server(authority.issued("bank", "110111-0000001"))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._context):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link: ssl.SSLObject = writer.get_extra_info("ssl_object")
        self.seen.append(str((link.getpeercert() or {})["serialNumber"]))
        there, back = await asyncio.open_connection("127.0.0.1", self.sandbox)
        try:
            await asyncio.gather(_carried(reader, back), _carried(there, writer))
        finally:
            for each in (back, writer):
                each.close()


async def _carried(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
        sink.close()


def directory_of(folder: Path, sandbox_url: str, changed: Callable[[str], str]) -> Path:
    """The built-in directory at this sandbox, changed; put in its place as an operator does: the whole file at once."""
    file, new = folder / "providers.toml", folder / "providers.new"
    new.write_text(changed(BUILT_IN.read_text("utf-8")).replace(ORIGIN, sandbox_url), "utf-8")
    return new.replace(file)


async def test_a_certificate_near_its_end_is_told_until_the_new_one_is_shown(chat: Receiver, tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    front = Front(authority)
    old = authority.issued("us", lasts=timedelta(days=5))
    old_key = old.key.read_bytes()

    def behind_tls(text: str) -> str:
        ours = f'[tls]\nca_bundle = "{authority.bundle.name}"\nclient_certificate = "us.pem"\nclient_key = "us.key"\n'
        return ours + text.replace(f"{ORIGIN}/{BANK}", f"https://127.0.0.1:{front.port}/{BANK}")

    file = directory_of(tmp_path, ORIGIN, behind_tls)
    async with front.open(), a_fleet(Topology(settings=told_to(chat, MOA_PROVIDERS_FILE=str(file)))) as fleet, a_stage(fleet) as stage:
        begun = await chat.tells("🚨", ENDING, BANK, "4 days left")
        assert CARD not in begun, "to whom we show none"
        front.sandbox = int(fleet.sandbox.url.rpartition(":")[2])
        directory_of(tmp_path, fleet.sandbox.url, behind_tls)
        await read_at(stage, front, 1)

        new = authority.issued("us", lasts=timedelta(days=300))
        key = new.key.read_bytes()
        new.key.write_bytes(old_key)  # half of what an operator had to do
        await until(lambda: any(entries(fleet.coordinators[0], "directory.not_usable")))
        await asyncio.sleep(10)
        assert not any("✅" in text for text in chat.shown.values()), "the old one is still shown, and still ends"
        await read_at(stage, front, 1)

        new.key.write_bytes(key)
        ended = await chat.tells("✅", ENDING, BANK)
        assert "🚨" not in ended
        await read_at(stage, front, 2)
        assert len(chat.shown) == 2


async def read_at(stage: Stage, front: Front, certificates: int) -> None:
    """Somebody new is read at the bank, to which we have then shown so many different certificates."""
    deadline = time.monotonic() + 30.0
    while True:
        person = stage.person()
        registration = await person.register(BANK)
        while (status := (await person.get(f"/v1/registrations/{registration['id']}")).json()["status"]) in {"signing", "collecting"}:
            await asyncio.sleep(0.1)
        if status == "completed" and len(set(front.seen)) == certificates:
            return
        assert time.monotonic() < deadline, (status, front.seen)  # processes follow the directory within five seconds


# --- the week ---------------------------------------------------------------------------------------------------------

LINKS = 300


async def test_a_week_that_is_too_short_is_told_until_the_provider_takes_more(chat: Receiver, tmp_path: Path) -> None:
    """Its window is the whole day, so that the test may run at any hour; only not in the week's last minutes."""

    def taking(calls_per_second: float) -> Callable[[str], str]:
        entry = re.compile(rf'(org_code = "{TELECOM}"\n(?:.+\n)*?)transfer_windows = .+\n')
        return lambda text: entry.sub(rf'\1transfer_windows = ["0000:2400"]\ncalls_per_second = {calls_per_second}\n', text)

    file = directory_of(tmp_path, ORIGIN, taking(0.0001))
    settings = told_to(chat, MOA_PROVIDERS_FILE=str(file), MOA_BATCH_AUTOMATIC="true")
    async with a_fleet(Topology(apis=0, workers=0, settings=settings)) as fleet:
        directory_of(tmp_path, fleet.sandbox.url, taking(0.0001))
        await linked(fleet, TELECOM, LINKS)
        begun = await chat.tells("🚨", WEEK, TELECOM, "links left")
        assert "window ends" in begun
        assert int(re.search(r"(\d+) links left", begun)[1]) > LINKS / 2  # type: ignore[index]
        directory_of(tmp_path, fleet.sandbox.url, taking(200.0))
        ended = await chat.tells("✅", WEEK, TELECOM)
        assert "🚨" not in ended
        assert len(chat.shown) == 2
        assert fleet.tracebacks() == []
