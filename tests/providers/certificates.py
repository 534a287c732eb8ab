"""An authority of our own for one test: certificates with the SERIALNUMBER that the test says, as PEM files."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFE = timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in two files."""

    certificate: Path
    key: Path


class TestAuthority:
    """`bundle` is its certificate."""

    __test__ = False

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        own = self._begun(self._name, self._key, timedelta(days=365)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.bundle = folder / f"{name.replace(' ', '-')}.pem"
        self.bundle.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issued(self, file: str, *serial_numbers: str, key_password: bytes | None = None, lasts: timedelta = _LIFE) -> Issued:
        """For 127.0.0.1, with these SERIALNUMBERs in its subject."""
        numbers = [x509.NameAttribute(NameOID.SERIAL_NUMBER, number) for number in serial_numbers]
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file), *numbers])
        signed = self._begun(subject, key, lasts).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        made = Issued(self._folder / f"{file}.pem", self._folder / f"{file}.key")
        made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        sealed = serialization.BestAvailableEncryption(key_password) if key_password else serialization.NoEncryption()
        made.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))
        return made

    def server(self, own: Issued, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, asks_for_ours: bool = True) -> ssl.SSLContext:
        """What an institution listens with; it takes certificates of this authority."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own.certificate, own.key)
        context.maximum_version = newest
        if asks_for_ours:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.bundle)
        return context

    def _begun(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta) -> x509.CertificateBuilder:
        now = datetime.now(UTC)  # real time: OpenSSL looks at it
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _LIFE)
            .not_valid_after(now + lasts)
        )
