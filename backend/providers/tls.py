"""How a line is secured: TLS 1.3 and nothing older, our certificate, their authorities, their SERIALNUMBER (standard, section 1).

In: an entry's `Tls`. Out: an `ssl.SSLContext`, or a `TlsFault` that names the field to mend; when ours ends, and who a peer says it is.
A key is never asked for at a terminal, and no message repeats what is in a file.
"""

from __future__ import annotations

import ssl
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from backend.errors import MoaError
from backend.providers.contract import Tls


class TlsFault(MoaError):
    """Files that cannot be used. `field` is of `Tls`, the message one plain line."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


def context_of(tls: Tls | None) -> ssl.SSLContext:
    """None: no certificate of ours, and the public authorities. Raises `TlsFault`."""
    if tls is None:
        return _public()
    context = _public_authorities() if tls.ca_bundle is None else _authorities(tls.ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if tls.client_certificate is not None:
        _show(context, tls.client_certificate, tls.client_key)
    return context


def end_of(tls: Tls) -> datetime | None:
    """When the certificate that we show ends, the earliest of its chain. None: we show none. Raises `TlsFault`."""
    if tls.client_certificate is None:
        return None
    try:
        chain = x509.load_pem_x509_certificates(Path(tls.client_certificate).read_bytes())
    except OSError as exc:
        raise TlsFault("tls.client_certificate", _why(exc)) from None
    except ValueError:  # OpenSSL takes what the standard refuses
        raise TlsFault("tls.client_certificate", "is not PEM that can be used") from None
    return min(each.not_valid_after_utc for each in chain)


def serial_numbers(certificate: Any) -> list[str]:
    """Every SERIALNUMBER (2.5.4.5) in the subject of a certificate as `getpeercert` tells it; an EV certificate has one."""
    names = (name for names in (certificate or {}).get("subject", ()) for name in names)
    return [value for kind, value in names if kind == "serialNumber"]


@cache
def _public() -> ssl.SSLContext:
    """Reading the public authorities takes 20 ms, so once for all."""
    context = _public_authorities()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _public_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _authorities(bundle: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificate and name are checked
    try:
        context.load_verify_locations(cafile=bundle)
    except OSError as exc:  # an SSLError is one, too
        raise TlsFault("tls.ca_bundle", _why(exc)) from None
    return context


def _show(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    try:
        context.load_cert_chain(certificate, key, password="")  # without one, OpenSSL would ask at the terminal
    except OSError as exc:
        raise TlsFault("tls.client_certificate", f"with its key: {_why(exc)}") from None


def _why(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"is not PEM that can be used ({exc.reason or type(exc).__name__})"
    return f"cannot be read ({type(exc).__name__})"
