"""What a person signs for one provider, and the form in which a provider takes it (standard, section 6). RULE: pure.

In: the provider, who we are, the moment, a serial. Out: `Consent` values and the fields of the token request.
v1 fields with the consent flow of MyData 2.0: one consent per provider, the industry's full scope, all assets (no asset_list).
The document's text is made once; its bytes are hashed, signed and sent, so nothing may render it a second time.
"""

from __future__ import annotations

import hashlib
from datetime import date, datetime

import orjson

from backend.clock import KST
from backend.providers import ids
from backend.providers.api_codes import FULL_SCOPES
from backend.providers.contract import Consent, Person, Provider, SignedConsent

PURPOSE = "본인신용정보 통합조회"
TITLE = "개인신용정보 전송요구"  # of the signature, and of each consent beside the provider's name
_PERIOD = "99991231"  # kept as long as the service is used
_CYCLE = "1/w"


def consent_for(provider: Provider, *, operator: str, ca: str, now: datetime, serial: int) -> Consent:
    """The consent that the person is asked to sign for this provider. It ends a year from today in Korea."""
    ends_on = year_after(now.astimezone(KST).date())
    document = {
        "snd_org_code": provider.org_code,
        "rcv_org_code": operator,
        "is_scheduled": "true",
        "fnd_cycle": _CYCLE,
        "add_cycle": _CYCLE,
        "end_date": ends_on.strftime("%Y%m%d"),
        "purpose": PURPOSE,
        "period": _PERIOD,
        "target_info": [{"scope": scope} for scope in FULL_SCOPES[provider.industry].split()],
        "is_consent_trans_memo": "true",
        "is_consent_merchant_name_regno": "true",
    }
    return Consent(
        org_code=provider.org_code,
        tx_id=ids.tx_id(operator, provider.org_code, ca, now, serial),
        document=orjson.dumps(document).decode(),
        ends_on=ends_on,
    )


def consent_hash(document: str) -> str:
    """What the person's certificate really signs (`consent_type` 1): SHA-256 in lower-case hex, 64 characters."""
    return hashlib.sha256(document.encode()).hexdigest()


def sign_request_form(
    person: Person, consents: tuple[Consent, ...], *, sign_tx_id: str, return_scheme: str
) -> dict[str, str | list[dict[str, str]]]:
    """The body of sign_request (102). The order of the consents is kept: the answer comes in the same."""
    return {
        "sign_tx_id": sign_tx_id,
        "user_ci": person.user_ci,
        "real_name": person.real_name,
        "phone_num": person.phone_num,
        "request_title": TITLE,
        "device_code": "MO",
        "device_browser": "HY",
        "return_app_scheme_url": return_scheme,
        "consent_type": "1",
        "consent_cnt": str(len(consents)),
        "consent_list": [_listed(consent) for consent in consents],
    }


def token_form(person: Person, consent: SignedConsent, *, client_id: str, client_secret: str, service_id: str) -> dict[str, str]:
    """The form of a provider's token request on a signed consent (002 of the one-signature way)."""
    return {
        "tx_id": consent.tx_id,
        "org_code": consent.org_code,
        "grant_type": "password",
        "client_id": client_id,
        "client_secret": client_secret,
        "ca_code": consent.ca_code,
        "username": person.user_ci,
        "request_type": "1",
        "password_len": str(len(consent.signed_consent)),
        "password": consent.signed_consent,
        "auth_type": "1",
        "consent_type": "1",
        "consent_len": str(len(consent.document.encode())),
        "consent": consent.document,
        "cert_tx_id": consent.cert_tx_id,
        "service_id": service_id,
    }


def year_after(day: date) -> date:
    """The same day of the next year; 28 February for a 29th."""
    if (day.month, day.day) == (2, 29):
        return day.replace(year=day.year + 1, day=28)
    return day.replace(year=day.year + 1)


def _listed(consent: Consent) -> dict[str, str]:
    digest = consent_hash(consent.document)
    return {"consent_len": str(len(digest)), "consent_title": TITLE, "consent": digest, "tx_id": consent.tx_id}
