"""The CA's client: against the sandbox where it is well, against a server of the test's own where the token wears out or lies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import pytest

from backend.errors import ProviderError, ProviderInvalidResponse, ProviderRefused, ProviderTimeout, ProviderUnavailable
from backend.events import Industry
from backend.providers.ca import HttpCaClient
from backend.providers.calling.wire import open_wire
from backend.providers.consents import consent_for
from backend.providers.contract import Consent, NotSignedYet, SignatureRefused, SignatureRequest, Signed
from backend.providers.ids import Serials
from backend.settings import Settings
from tests.providers.given import CA_CODE, NOW, OPERATOR, authority, person, provider, transport
from tests.providers.journey import Journey
from tests.providers.rogue import Rogue, Talk, rogue

REQUEST = SignatureRequest(sign_tx_id="S" * 49, cert_tx_id="cert", web_url="https://a", ios_app_scheme_url="a:b", aos_app_scheme_url="a:b")
ASKED = {
    "rsp_code": "00000",
    "cert_tx_id": "cert",
    "sign_web_url": "https://ca.example.com/sign",
    "sign_ios_app_scheme_url": "moaca://sign",
    "sign_aos_app_scheme_url": "intent://sign",
}


def consent() -> Consent:
    return consent_for(provider(), operator=OPERATOR, ca=CA_CODE, now=NOW, serial=1)


class Authority:
    """A CA that counts its tokens; `good` is the only one that it takes, `answer` what it says then."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.issued = 0
        self.good: str | None = None
        self.life = "3600"
        self.refuse_tokens = False

    async def __call__(self, talk: Talk) -> None:
        if b" /oauth/2.0/token " in talk.request:
            await asyncio.sleep(0.01)
            self.issued += 1
            if self.refuse_tokens:
                await talk.answer(b'{"error":"invalid_client"}', status=b"400 Bad Request")
                return
            body = {"token_type": "Bearer", "access_token": f"token-{self.issued}", "expires_in": self.life, "scope": "ca"}
            await talk.answer(orjson.dumps(body))
        elif self.good is not None and f"Bearer {self.good}\r\n".encode() not in talk.request:
            await talk.answer(b'{"rsp_code":"40101"}', status=b"401 Unauthorized")
        else:
            await talk.answer(orjson.dumps(self.answer))


@asynccontextmanager
async def asking(ca: Authority) -> AsyncIterator[tuple[HttpCaClient, Rogue]]:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    async with rogue(ca) as server, open_wire(authority(server.url)) as http:
        client = HttpCaClient(authority(server.url), transport(http, server.url), settings=settings, serials=Serials(0))
        yield client, server
        await client.aclose()


async def test_a_person_signs_for_a_hundred_providers_at_once(journey: Journey) -> None:
    providers = [provider(industry=Industry.BANK) for _ in range(100)]
    consents = journey.consents(*providers)
    request = await journey.clients.ca.request_signature(person(), consents, journey.clock.now())
    assert request.web_url.endswith(f"/sandbox/sign/{request.cert_tx_id}")
    answer = await journey.clients.ca.signature(request, consents, journey.clock.now())
    assert isinstance(answer, Signed)
    assert set(answer.signed_consents) == {each.tx_id for each in consents}


async def test_a_person_who_has_not_decided_and_one_who_said_no(journey: Journey) -> None:
    consents = journey.consents(journey.first(Industry.BANK))
    await journey.steer_ca(approve_after_ms=None)
    request = await journey.clients.ca.request_signature(person(), consents, journey.clock.now())
    assert await journey.clients.ca.signature(request, consents, journey.clock.now()) == NotSignedYet()
    await journey.steer_ca(mode="deny", approve_after_ms=0)
    request = await journey.clients.ca.request_signature(person(), consents, journey.clock.now())
    assert await journey.clients.ca.signature(request, consents, journey.clock.now()) == SignatureRefused()


async def test_a_ca_that_is_down_is_unavailable(journey: Journey) -> None:
    await journey.steer_ca(mode="down")
    with pytest.raises(ProviderUnavailable):
        await journey.clients.ca.request_signature(person(), journey.consents(journey.first(Industry.BANK)), journey.clock.now())


async def test_many_who_sign_at_once_share_one_token() -> None:
    ca = Authority(ASKED)
    async with asking(ca) as (client, _):
        await asyncio.gather(*(client.request_signature(person(), (consent(),), NOW) for _ in range(20)))
    assert ca.issued == 1


async def test_a_token_is_kept_until_shortly_before_its_end() -> None:
    ca = Authority(ASKED)
    async with asking(ca) as (client, _):
        for minutes in (0, 30, 58, 59, 60):
            await client.request_signature(person(), (consent(),), NOW + timedelta(minutes=minutes))
    assert ca.issued == 2


async def test_a_refused_token_is_replaced_once() -> None:
    ca = Authority(ASKED)
    async with asking(ca) as (client, _):
        await client.request_signature(person(), (consent(),), NOW)
        ca.good = "token-2"
        await asyncio.gather(*(client.request_signature(person(), (consent(),), NOW) for _ in range(5)))
        assert ca.issued == 2
        ca.good = "none"
        with pytest.raises(ProviderRefused, match="40101"):
            await client.request_signature(person(), (consent(),), NOW)
    assert ca.issued == 3


async def test_a_failed_token_request_fails_all_who_wait_for_it_and_the_next_asks_again() -> None:
    ca = Authority(ASKED)
    ca.refuse_tokens = True
    async with asking(ca) as (client, _):
        waiting = [client.request_signature(person(), (consent(),), NOW) for _ in range(5)]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(error) for error in ended} == {ProviderRefused}
        assert ca.issued == 1
        ca.refuse_tokens = False
        assert await client.request_signature(person(), (consent(),), NOW)


async def test_one_who_gives_up_waiting_takes_the_token_from_nobody() -> None:
    ca = Authority(ASKED)
    async with asking(ca) as (client, _):
        impatient = asyncio.create_task(client.request_signature(person(), (consent(),), NOW))
        patient = asyncio.create_task(client.request_signature(person(), (consent(),), NOW))
        await asyncio.sleep(0)
        impatient.cancel()
        assert (await patient).cert_tx_id == "cert"
    assert ca.issued == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"sign_web_url": "javascript:alert(1)"},
        {"sign_ios_app_scheme_url": "JavaScript:alert(1)"},
        {"cert_tx_id": "x" * 41},
        {"cert_tx_id": ""},
    ],
)
async def test_an_answer_that_could_hurt_the_app_is_invalid(fault: dict[str, str]) -> None:
    async with asking(Authority({**ASKED, **fault})) as (client, _):
        with pytest.raises(ProviderInvalidResponse):
            await client.request_signature(person(), (consent(),), NOW)


@pytest.mark.parametrize("rows", [[], [{"tx_id": "another", "signed_consent": "c2ln"}], [{"tx_id": "T", "signed_consent": "not base64!"}]])
async def test_a_signature_that_lacks_a_consent_is_invalid(rows: list[dict[str, str]]) -> None:
    listed = [{**row, "tx_id": consent().tx_id} if row["tx_id"] == "T" else row for row in rows]
    async with asking(Authority({"rsp_code": "00000", "signed_consent_list": listed})) as (client, _):
        with pytest.raises(ProviderInvalidResponse):
            await client.signature(REQUEST, (consent(),), NOW)


async def test_a_sign_request_is_never_sent_twice() -> None:
    ca = Authority(ASKED)

    async def behaviour(talk: Talk) -> None:
        if b"/ca/sign_request" in talk.request:
            talk.writer.close()
        else:
            await ca(talk)

    async with rogue(behaviour) as server, open_wire(authority(server.url)) as http:
        settings = Settings(_env_file=None)  # type: ignore[call-arg]
        client = HttpCaClient(authority(server.url), transport(http, server.url), settings=settings, serials=Serials(0))
        with pytest.raises(ProviderUnavailable):
            await client.request_signature(person(), (consent(),), NOW)
        assert sum(b"/ca/sign_request" in request for request in server.requests) == 1


async def test_a_ca_that_hangs_fails_all_who_wait_within_one_deadline() -> None:
    async def behaviour(_talk: Talk) -> None:
        await asyncio.sleep(30)

    async with rogue(behaviour) as server, open_wire(authority(server.url)) as http:
        settings = Settings(_env_file=None)  # type: ignore[call-arg]
        client = HttpCaClient(authority(server.url), transport(http, server.url, deadline=0.1), settings=settings, serials=Serials(0))
        async with asyncio.timeout(0.5):
            waiting = [client.request_signature(person(), (consent(),), NOW) for _ in range(10)]
            ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(error) for error in ended} == {ProviderTimeout}
        assert all(isinstance(error, ProviderError) for error in ended)
