"""The tests' own small operator: it speaks the standard by the letter, so that each test changes only what it is about."""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import timedelta
from typing import Any

import httpx

from backend.clock import KST, ManualClock
from backend.events import Industry
from backend.providers.api_codes import FULL_SCOPES, Api, by_code
from backend.providers.directory import BUILT_IN, load_directory
from backend.providers.user_ci import development_user_ci

OPERATOR = "ZVMOA00000"
CA = "CAMOA00001"
CLIENT = {"client_id": "moa-sandbox-client", "client_secret": "moa-sandbox-secret"}
PROVIDERS = {provider.org_code: provider for provider in load_directory(BUILT_IN).providers}
FIRST = {provider.industry: provider.org_code for provider in reversed(load_directory(BUILT_IN).providers)}
BANK = FIRST[Industry.BANK]


class Signed:
    """One signed consent: what a token request needs."""

    def __init__(self, org_code: str, user: str, tx_id: str, document: str, cert_tx_id: str, cms: str = "") -> None:
        self.org_code, self.user, self.tx_id, self.document, self.cert_tx_id, self.cms = org_code, user, tx_id, document, cert_tx_id, cms

    def form(self, **changed: str) -> dict[str, str]:
        """The token request of 002; `changed` replaces fields, "" leaves one out."""
        document = changed.get("consent", self.document)
        password = changed.get("password", self.cms)
        whole = {
            "tx_id": self.tx_id,
            "org_code": self.org_code,
            "grant_type": "password",
            **CLIENT,
            "ca_code": CA,
            "username": development_user_ci(self.user),
            "request_type": "1",
            "password_len": str(len(password)),
            "password": password,
            "auth_type": "1",
            "consent_type": "1",
            "consent_len": str(len(document.encode())),
            "consent": document,
            "cert_tx_id": self.cert_tx_id,
            "service_id": "moa",
            **changed,
        }
        return {name: value for name, value in whole.items() if value}


class Operator:
    """Calls the sandbox at `url`."""

    def __init__(self, http: httpx.AsyncClient, url: str, clock: ManualClock) -> None:
        self.http, self.url, self.clock = http, url, clock
        self._serial = itertools.count(1)
        self._tokens: dict[tuple[str, str], str] = {}

    def tran_id(self) -> str:
        return f"{OPERATOR}M{next(self._serial):014}"

    async def form(self, address: str, fields: dict[str, str]) -> httpx.Response:
        return await self.http.post(f"{self.url}{address}", data=fields, headers={"x-api-tran-id": self.tran_id()})

    async def ca_token(self) -> str:
        answer = await self.form("/oauth/2.0/token", {"grant_type": "client_credentials", **CLIENT, "scope": "ca"})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def ca(self, call: str, body: Any, token: str | None = None) -> httpx.Response:
        headers = {"x-api-tran-id": self.tran_id(), "authorization": f"Bearer {token or await self.ca_token()}"}
        return await self.http.post(f"{self.url}/v1/ca/{call}", json=body, headers=headers)

    def document(self, org_code: str, **changed: Any) -> str:
        """The consent document for one provider."""
        end = self.clock.now().astimezone(KST) + timedelta(days=365)
        whole = {
            "snd_org_code": org_code,
            "rcv_org_code": OPERATOR,
            "is_scheduled": "true",
            "fnd_cycle": "1/w",
            "add_cycle": "1/w",
            "end_date": f"{end:%Y%m%d}",
            "purpose": "통합조회",
            "period": "99991231",
            "target_info": [{"scope": scope} for scope in FULL_SCOPES[PROVIDERS[org_code].industry].split()],
            "is_consent_trans_memo": "true",
            "is_consent_merchant_name_regno": "true",
            **changed,
        }
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))

    def tx_id(self, org_code: str) -> str:
        return f"MD_{OPERATOR}_{org_code}_0000000000_{CA}_20261122120000_{next(self._serial):012}"

    def sign_request(self, user: str, documents: dict[str, str]) -> dict[str, Any]:
        """The body of 102; `documents` by org_code."""
        consents = [
            {
                "consent_len": "64",
                "consent_title": org_code,
                "consent": hashlib.sha256(text.encode()).hexdigest(),
                "tx_id": self.tx_id(org_code),
            }
            for org_code, text in documents.items()
        ]
        return {
            "sign_tx_id": f"{OPERATOR}_{CA}_20261122120000_{next(self._serial):012}",
            "user_ci": development_user_ci(user),
            "real_name": "김모아",
            "phone_num": "+821012345678",
            "request_title": "자산 연결",
            "device_code": "MO",
            "device_browser": "NA",
            "return_app_scheme_url": "moa://signed",
            "consent_type": "1",
            "consent_cnt": str(len(consents)),
            "consent_list": consents,
        }

    async def signed(self, user: str, *org_codes: str, **changed: Any) -> list[Signed]:
        """Consents for these providers, signed with one signature."""
        documents = {org_code: self.document(org_code, **changed) for org_code in org_codes}
        token = await self.ca_token()
        body = self.sign_request(user, documents)
        asked = (await self.ca("sign_request", body, token)).json()
        assert asked["rsp_code"] == "00000", asked
        result = (await self.ca("sign_result", {"cert_tx_id": asked["cert_tx_id"], "sign_tx_id": body["sign_tx_id"]}, token)).json()
        assert result["rsp_code"] == "00000", result
        return [
            Signed(org_code, user, signed["tx_id"], documents[org_code], asked["cert_tx_id"], signed["signed_consent"])
            for org_code, signed in zip(org_codes, result["signed_consent_list"], strict=True)
        ]

    async def grant(self, org_code: str, form: dict[str, str]) -> httpx.Response:
        """A call of a provider's token endpoint."""
        return await self.form(f"/{org_code}/oauth/2.0/token", form)

    async def token(self, user: str, org_code: str) -> str:
        """An access token; the same one for every further call of this test."""
        if (user, org_code) not in self._tokens:
            (signed,) = await self.signed(user, org_code)
            answer = await self.grant(org_code, signed.form())
            assert answer.status_code == 200, answer.text
            self._tokens[user, org_code] = answer.json()["access_token"]
        return self._tokens[user, org_code]

    async def call(
        self, user: str, org_code: str, code: str, headers: dict[str, str | None] | None = None, path: str | None = None, **params: str
    ) -> httpx.Response:
        """A data API by its code. `headers`: replaces, None leaves one out. `card_id` goes into the path."""
        api = by_code(PROVIDERS[org_code].industry, code)
        whole: dict[str, str | None] = {"x-api-tran-id": self.tran_id(), "x-api-type": "user-consent", **(headers or {})}
        if "authorization" not in whole:
            whole["authorization"] = f"Bearer {await self.token(user, org_code)}"
        sent = {name: value for name, value in whole.items() if value is not None}
        return await self.raw(
            api, org_code, path or api.path.format(card_id=params.pop("card_id", "")), sent, {"org_code": org_code, **params}
        )

    async def raw(self, api: Api, org_code: str, path: str, headers: dict[str, str], params: dict[str, str]) -> httpx.Response:
        address = f"{self.url}/{org_code}/v1/{api.industry}{path}"
        if api.method == "GET":
            return await self.http.get(address, params=params, headers=headers)
        return await self.http.post(address, json=params, headers=headers)

    async def steer(self, org_code: str, **change: Any) -> httpx.Response:
        return await self.http.put(f"{self.url}/sandbox/providers/{org_code}", json=change)

    async def steer_ca(self, **change: Any) -> httpx.Response:
        return await self.http.put(f"{self.url}/sandbox/ca", json=change)

    async def calls(self, **query: str) -> list[dict[str, Any]]:
        """The call log."""
        return list((await self.http.get(f"{self.url}/sandbox/calls", params=query)).json()["calls"])
