"""Real CMS SignedData (RFC 5652): the CA signs for a person, a provider verifies. Elliptic curves (P-256), SHA-256.

Keys follow from the seed, so a consent that was signed before a restart is still good. Signing takes some 60 us, a person's first
signature 0.2 ms more, verifying 0.4 ms. Secret keys never leave this module; they protect nothing but invented people.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from datetime import UTC, datetime, timedelta

from asn1crypto import cms
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from backend.providers.sandbox.bounded import Bounded

_CURVE = ec.SECP256R1()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ROOT_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_ROOT_UNTIL = datetime(2050, 1, 1, tzinfo=UTC)
_PERSONAL_LIFE = timedelta(days=365)
_LARGEST = 16 * 1024  # characters of a signed consent that are looked at


class BadSignature(Exception):
    """A signed consent that does not hold; the message names the check that failed."""


def identity_of(user_ci: str) -> str:
    """What a person's certificate says about whom it was issued for (subject serialNumber)."""
    return hashlib.sha256(user_ci.encode()).hexdigest()[:40]


def _private_key(*names: str) -> ec.EllipticCurvePrivateKey:
    digest = hashlib.sha512("\0".join(names).encode()).digest()
    return ec.derive_private_key(int.from_bytes(digest, "big") % (_ORDER - 1) + 1, _CURVE)


def _name(common_name: str, serial_number: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name), x509.NameAttribute(NameOID.SERIAL_NUMBER, serial_number)])


class Signer:
    """The CA's root and the certificates it has issued to persons."""

    def __init__(self, org_code: str, seed: str) -> None:
        self._seed = seed
        self._key = _private_key(seed, "root", org_code)
        self._issuer = _name("Moa sandbox root", org_code)
        self.root = self._certificate(self._issuer, self._key.public_key(), _ROOT_FROM, _ROOT_UNTIL, authority=True)
        self._persons: Bounded[str, tuple[x509.Certificate, ec.EllipticCurvePrivateKey]] = Bounded(20_000)

    def sign(self, user_ci: str, content: bytes, now: datetime) -> str:
        """CMS SignedData over `content` (contained), with the person's certificate: base64url without padding."""
        certificate, key = self._person(user_ci, now)
        builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(certificate, key, hashes.SHA256())
        der = builder.sign(Encoding.DER, [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.NoCapabilities])
        return base64.urlsafe_b64encode(der).rstrip(b"=").decode()

    def _person(self, user_ci: str, now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        identity = identity_of(user_ci)
        known = self._persons.get(identity)
        if known and known[0].not_valid_after_utc - now > timedelta(days=1):
            return known
        key = _private_key(self._seed, "person", identity)
        start = now - timedelta(days=1)
        subject = _name("Moa sandbox person", identity)
        made = self._certificate(subject, key.public_key(), start, start + _PERSONAL_LIFE, authority=False), key
        self._persons[identity] = made
        return made

    def _certificate(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, start: datetime, end: datetime, *, authority: bool
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._issuer).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        return builder.sign(self._key, hashes.SHA256())


def verified(signed_consent: str, root: x509.Certificate, now: datetime) -> tuple[bytes, str]:
    """What was signed, and the identity in the certificate of who signed it. Raises `BadSignature`."""
    try:
        return _verified(signed_consent, root, now)
    except BadSignature:
        raise
    except InvalidSignature as exc:
        raise BadSignature("signature") from exc
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as exc:
        raise BadSignature("not a CMS SignedData") from exc


def _verified(signed_consent: str, root: x509.Certificate, now: datetime) -> tuple[bytes, str]:
    signed_data = _signed_data(signed_consent)
    content = signed_data["encap_content_info"]["content"].native
    certificate = x509.load_der_x509_certificate(signed_data["certificates"][0].dump())
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError) as exc:
        raise BadSignature("certificate chain") from exc
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise BadSignature("certificate validity")
    signer = signed_data["signer_infos"][0]
    attributes = {attribute["type"].native: attribute["values"] for attribute in signer["signed_attrs"]}
    digest = attributes["message_digest"][0].native
    if signer["digest_algorithm"]["algorithm"].native != "sha256" or digest != hashlib.sha256(content).digest():
        raise BadSignature("digest")
    public_key = certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise BadSignature("key")
    # RFC 5652, 5.4: signed over the attributes as a SET OF, not under the tag [0] that they are sent with.
    signed_attributes = b"\x31" + signer["signed_attrs"].dump()[1:]
    public_key.verify(signer["signature"].native, signed_attributes, ec.ECDSA(hashes.SHA256()))
    return content, str(certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)[0].value)


def _signed_data(signed_consent: str) -> cms.SignedData:
    if len(signed_consent) > _LARGEST:
        raise BadSignature("size")
    try:
        der = base64.urlsafe_b64decode(signed_consent + "=" * (-len(signed_consent) % 4))
    except binascii.Error as exc:
        raise BadSignature("base64url") from exc
    content_info = cms.ContentInfo.load(der, strict=True)
    if content_info["content_type"].native != "signed_data":
        raise BadSignature("content type")
    return content_info["content"]
