"""Who we speak to and who they see, over real handshakes; a request leaves after both are right, and not one byte before."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.errors import ProviderError, ProviderUnavailable
from backend.providers.calling.wire import open_wire
from backend.providers.contract import Tls
from backend.providers.tls import TlsFault, context_of, serial_numbers
from tests.providers.certificates import Issued, TestAuthority
from tests.providers.given import provider, transport
from tests.providers.lines import READ
from tests.providers.rogue import Rogue, Talk, rogue

THEIRS = "110111-1234567"
OURS = "110111-7654321"


@dataclass
class House:
    """An authority, what it issued to an institution and to us, and what the entry says of it."""

    authority: TestAuthority
    institution: Issued
    us: Issued

    def tls(self, **other: str | None) -> Tls:
        known: dict[str, str | None] = {
            "ca_bundle": str(self.authority.bundle),
            "client_certificate": str(self.us.certificate),
            "client_key": str(self.us.key),
            "peer_serial_number": THEIRS,
        }
        return Tls(**{**known, **other})  # type: ignore[arg-type]


@pytest.fixture
def house(tmp_path: Path) -> House:
    authority = TestAuthority(tmp_path)
    return House(authority, authority.issued("institution", THEIRS), authority.issued("us", OURS))


async def answers(talk: Talk) -> None:
    await talk.answer()


@asynccontextmanager
async def served(context: ssl.SSLContext) -> AsyncIterator[Rogue]:
    async with rogue(answers, context) as server:
        yield server


async def called(server: Rogue, tls: Tls | None, times: int = 1) -> None:
    async with open_wire(provider(server.url, tls=tls)) as wire:
        for _ in range(times):
            await transport(wire, server.url).call(READ)


async def test_both_show_their_certificates_and_the_call_goes_through(house: House) -> None:
    async with served(house.authority.server(house.institution)) as server:
        await called(server, house.tls(), times=3)
    assert (server.connections, len(server.requests)) == (1, 3)


async def test_a_peer_without_our_authority_gets_nothing(house: House, tmp_path: Path) -> None:
    stranger = TestAuthority(tmp_path, "another authority")
    async with served(house.authority.server(house.institution)) as server:
        for tls in (None, house.tls(ca_bundle=str(stranger.bundle))):
            with pytest.raises(ProviderUnavailable, match=r"\(tls\)"):
                await called(server, tls)
    assert server.begun == 0


@pytest.mark.parametrize("numbers", [("999999-9999999",), (), (THEIRS, "999999-9999999"), (THEIRS + "0",)])
async def test_not_one_byte_of_a_request_reaches_a_peer_with_another_serialnumber(house: House, numbers: tuple[str, ...]) -> None:
    other = house.authority.issued("other", *numbers)  # of the same authority, for the same address
    async with served(house.authority.server(other)) as server:
        with pytest.raises(ProviderUnavailable, match=r"\(peer\)"):
            await called(server, house.tls())
        await called(server, house.tls(peer_serial_number=None))  # it does answer to whoever does not look
    assert server.connections == 2
    assert server.begun == 1


async def refusal(context: ssl.SSLContext, tls: Tls) -> tuple[str, str]:
    """How such a server ends the handshake, and what our call becomes. It sends its alert, as servers do and asyncio's does not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def handshake() -> str:
            plain, _ = listener.accept()
            line = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            try:
                line.do_handshake()
            except ssl.SSLError as exc:
                return str(exc.reason)
            finally:
                with socket.socket(fileno=line.detach()) as rest:
                    rest.shutdown(socket.SHUT_WR)
                    while rest.recv(65_536):  # closed with bytes unread, it would send a reset for the alert
                        pass
            return "none"

        ended = asyncio.create_task(asyncio.to_thread(handshake))
        with pytest.raises(ProviderError) as caught:
            await called(Rogue(f"https://127.0.0.1:{listener.getsockname()[1]}"), tls)
        return await ended, caught.value.reason


async def test_a_server_that_knows_tls_12_only_is_not_spoken_to(house: House) -> None:
    old = house.authority.server(house.institution, newest=ssl.TLSVersion.TLSv1_2)
    assert await refusal(old, house.tls()) == ("UNSUPPORTED_PROTOCOL", "tls")


async def test_a_server_that_refuses_our_certificate_is_told_from_one_that_breaks_down(house: House, tmp_path: Path) -> None:
    unknown = TestAuthority(tmp_path, "another authority").issued("stranger", OURS)
    context = house.authority.server(house.institution)
    none = house.tls(client_certificate=None, client_key=None)
    assert await refusal(context, none) == ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "tls")
    wrong = house.tls(client_certificate=str(unknown.certificate), client_key=str(unknown.key))
    assert await refusal(context, wrong) == ("CERTIFICATE_VERIFY_FAILED", "tls")


def test_files_that_cannot_be_used_are_a_fault_that_names_the_field(house: House, tmp_path: Path) -> None:
    sealed = house.authority.issued("sealed", OURS, key_password=b"a secret")
    (tmp_path / "empty.pem").write_bytes(b"")
    for other, field in (
        ({"ca_bundle": str(tmp_path / "none.pem")}, "tls.ca_bundle"),
        ({"ca_bundle": str(tmp_path / "empty.pem")}, "tls.ca_bundle"),
        ({"client_key": str(sealed.key)}, "tls.client_certificate"),  # another certificate's, and sealed
        ({"client_certificate": str(sealed.certificate), "client_key": str(sealed.key)}, "tls.client_certificate"),
        ({"client_key": None}, "tls.client_certificate"),
        ({"client_certificate": str(tmp_path / "none.pem")}, "tls.client_certificate"),
    ):
        with pytest.raises(TlsFault) as caught:
            context_of(house.tls(**other))
        assert caught.value.field == field
        assert "\n" not in str(caught.value)


def test_a_subject_is_read_for_all_its_serialnumbers() -> None:
    subject = ((("commonName", "bank"),), (("serialNumber", "1"), ("serialNumber", "2")), (("serialNumber", "3"),))
    assert serial_numbers({"subject": subject}) == ["1", "2", "3"]
    assert serial_numbers({}) == serial_numbers(None) == []
