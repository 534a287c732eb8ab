"""The provider directory: the only place that knows an address.

In: a TOML file with one `[ca]` table and `[[providers]]` entries, fields as in `contract.Provider` and `contract.CertificationAuthority`,
each with a table `tls` (`contract.Tls`) if it wants one, over a `[tls]` for all https entries; its files are tried, so that a bad
certificate is known before a call needs it.
Out: a frozen `Directory`. A fault is one plain line that names file, entry and field; nothing is guessed and nothing unknown is ignored.
Addresses are https and public, unless the entry says `allow_private = true` (the sandbox does); names are judged again when they resolve.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from backend.errors import MoaError
from backend.providers.contract import CertificationAuthority, Provider, Tls
from backend.providers.tls import TlsFault, context_of, end_of
from backend.settings import Settings

BUILT_IN = Path(__file__).with_name("providers.toml")

_ORG_CODE = re.compile(r"[A-Za-z0-9]{10}")
_VERSION = re.compile(r"v[1-9][0-9]{0,2}")
_WINDOW = re.compile(r"([01][0-9]|2[0-3])[03]0:(([01][0-9]|2[0-3])[03]0|2400)")  # np_time, steps of half an hour
_FOR_ALL = frozenset({"ca_bundle", "client_certificate", "client_key"})  # a serial number is one institution's
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")  # all that is given to anybody (RFC 4291); the rest is local, reserved, or out of use
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PRIVATE_NAMES = ("localhost", ".localhost", ".local", ".internal", ".home.arpa")

Entry = TypeVar("Entry", Provider, CertificationAuthority)


class DirectoryFault(MoaError):
    """The directory can't be used; the message is one line for the operator."""


class Directory(Struct, frozen=True):
    """Every institution that Moa may call."""

    ca: CertificationAuthority
    by_org_code: Mapping[str, Provider]
    files: tuple[Path, ...] = ()  # everything that it was read from

    @property
    def providers(self) -> tuple[Provider, ...]:
        """All providers in the order of the file."""
        return tuple(self.by_org_code.values())

    def provider(self, org_code: str) -> Provider | None:
        """None: unknown."""
        return self.by_org_code.get(org_code)


def directory_of(settings: Settings) -> Directory:
    """The directory that the settings name; the built-in one points to the sandbox at `settings.sandbox_url`. Raises `DirectoryFault`."""
    if settings.providers_file is not None:
        return load_directory(settings.providers_file)
    return load_directory(BUILT_IN, origin=settings.sandbox_url)


def file_of(settings: Settings) -> Path:
    """Where the settings have it from."""
    return settings.providers_file or BUILT_IN


def load_directory(file: Path, *, origin: str | None = None) -> Directory:
    """Reads and checks a directory file. `origin` (`http://host:port`) replaces the origin of every address. Raises `DirectoryFault`."""
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except OSError as exc:
        raise DirectoryFault(f"{file}: cannot be read ({type(exc).__name__})") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise DirectoryFault(f"{file}: is not valid TOML ({exc})") from exc
    try:
        return _directory(raw, _Source(file, origin))
    except _Fault as fault:
        raise DirectoryFault(f"{file}: {fault}") from None


def is_sandboxed(provider: Provider, settings: Settings) -> bool:
    """Whether it is one of the sandbox's invented institutions. That an address is private says nothing of it: leased lines are, too."""
    if settings.environment != "development":
        return False
    theirs, ours = urlsplit(provider.base_url), urlsplit(settings.sandbox_url)
    path = ours.path.rstrip("/")
    return _origin(theirs) == _origin(ours) and (theirs.path.rstrip("/") == path or theirs.path.startswith(path + "/"))


def is_public(address: str) -> bool:
    """Whether an IP address lies in the public internet. IPv4 inside IPv6 is judged as what it is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = _ipv4_in(ip) if isinstance(ip, ipaddress.IPv6Address) else ip
    if inner is None:
        return ip in _GLOBAL_IPV6 and ip.is_global and not ip.is_multicast
    return inner.is_global and not inner.is_multicast


def _ipv4_in(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a packet to this one ends at, by translation (NAT64 in its well-known network, RFC 6052) or by tunnel."""
    translated = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
    return ip.ipv4_mapped or ip.sixtofour or translated


@dataclass(frozen=True)
class _Source:
    """Where entries come from, and what goes for all of them."""

    file: Path
    origin: str | None  # instead of each address's own
    tls: dict[str, Any] = field(default_factory=dict)  # what an https entry does not say for itself


class _Fault(Exception):
    def __init__(self, entry: str, field: str, message: str) -> None:
        super().__init__(f"{entry}: {field}: {message}")


def _directory(raw: dict[str, Any], source: _Source) -> Directory:
    unknown = sorted(raw.keys() - {"ca", "providers", "tls"})
    if unknown:
        raise _Fault("top level", unknown[0], "is not a known table")
    rows = raw.get("providers")
    if not isinstance(rows, list) or not rows:
        raise _Fault("top level", "providers", "at least one [[providers]] entry is needed")
    source = replace(source, tls=_tls_for_all(raw.get("tls", {})))
    ca = _entry(raw.get("ca"), CertificationAuthority, "[ca]", source)
    by_org_code: dict[str, Provider] = {}
    for number, row in enumerate(rows, 1):
        name = f"[[providers]] entry {number}"
        provider = _entry(row, Provider, name, source)
        if provider.org_code in by_org_code or provider.org_code == ca.org_code:
            raise _Fault(name, "org_code", f"{provider.org_code} is there twice")
        by_org_code[provider.org_code] = provider
    return Directory(ca, MappingProxyType(by_org_code), _files(source.file, (ca, *by_org_code.values())))


def _tls_for_all(raw: object) -> dict[str, Any]:
    """As it stands; its files are tried with each entry that they go for."""
    if not isinstance(raw, dict):
        raise _Fault("[tls]", "tls", "a table is needed")
    unknown = sorted(raw.keys() - _FOR_ALL)
    if unknown:
        raise _Fault("[tls]", unknown[0], "is not a known field of what goes for all")
    odd = sorted(name for name, value in raw.items() if not isinstance(value, str))
    if odd:
        raise _Fault("[tls]", odd[0], "a path is needed")
    return raw


def _with_tls(row: dict[str, Any], for_all: dict[str, Any]) -> dict[str, Any]:
    """The entry with what goes for all, field by field. A certificate comes with its key, from one place."""
    own = row.get("tls", {})
    if not for_all or not isinstance(own, dict) or not str(row.get("base_url")).startswith("https:"):
        return row
    has_own = bool({"client_certificate", "client_key"} & own.keys())
    left = {name: value for name, value in for_all.items() if name == "ca_bundle" or not has_own}
    return {**row, "tls": {**left, **own}}


def _files(file: Path, entries: Iterable[Provider | CertificationAuthority]) -> tuple[Path, ...]:
    named = (path for entry in entries if entry.tls for path in _named(entry.tls))
    return (file, *dict.fromkeys(named))


def _named(tls: Tls) -> tuple[Path, ...]:
    return tuple(Path(path) for path in (tls.ca_bundle, tls.client_certificate, tls.client_key) if path is not None)


def _entry(row: object, kind: type[Entry], name: str, source: _Source) -> Entry:
    if not isinstance(row, dict):
        raise _Fault(name, "entry", "a table is needed")
    unknown = sorted(row.keys() - set(kind.__struct_fields__))
    if unknown:
        raise _Fault(name, unknown[0], "is not a known field")
    try:
        entry = msgspec.convert(_with_tls(row, source.tls), kind)
    except msgspec.ValidationError as exc:
        message, _, at = str(exc).partition(" - at `$.")
        raise _Fault(name, at.rstrip("`") or "entry", message) from None
    _check(entry, name)
    if isinstance(entry, Provider):
        _check_provider(entry, name)
    if source.origin is not None:
        entry = msgspec.structs.replace(entry, base_url=_moved(entry.base_url, source.origin))
    _check_address(entry, name)
    return entry if entry.tls is None else msgspec.structs.replace(entry, tls=_secured(entry.tls, entry.base_url, name, source.file.parent))


def _check(entry: Provider | CertificationAuthority, name: str) -> None:
    if not _ORG_CODE.fullmatch(entry.org_code):
        raise _Fault(name, "org_code", "10 letters or digits are needed")
    if not entry.name.strip() or len(entry.name) > 100:
        raise _Fault(name, "name", "1 to 100 characters are needed")
    if not _VERSION.fullmatch(entry.api_version):
        raise _Fault(name, "api_version", "`v1`, `v2` … is needed")
    if not 1 <= entry.max_connections <= 1000:
        raise _Fault(name, "max_connections", "1 to 1000 is needed")
    if entry.call_deadline is not None and not 0 < entry.call_deadline <= 300:
        raise _Fault(name, "call_deadline", "more than 0 and at most 300 seconds are needed")
    if entry.slow_after is not None and not 0 < entry.slow_after <= 300:
        raise _Fault(name, "slow_after", "more than 0 and at most 300 seconds are needed")


def _check_provider(entry: Provider, name: str) -> None:
    if entry.collection_deadline is not None and not 0 < entry.collection_deadline <= 3600:
        raise _Fault(name, "collection_deadline", "more than 0 and at most 3600 seconds are needed")
    if entry.calls_per_second is not None and not 0 < entry.calls_per_second <= 100_000:
        raise _Fault(name, "calls_per_second", "more than 0 and at most 100000 are needed")
    _check_windows(entry.transfer_windows, name)


def _check_windows(unordered: tuple[str, ...], name: str) -> None:
    windows = sorted(unordered)
    if len(windows) > 3 or not all(_WINDOW.fullmatch(window) for window in windows):
        raise _Fault(name, "transfer_windows", "at most three `hhmm:hhmm` in steps of 30 minutes are allowed")
    moments = [moment for window in windows for moment in window.split(":")]
    if any(earlier >= later for earlier, later in zip(moments[::2], moments[1::2], strict=True)):
        raise _Fault(name, "transfer_windows", "each must begin before it ends; one over midnight is two")
    if any(end > begin for end, begin in zip(moments[1::2], moments[2::2], strict=False)):
        raise _Fault(name, "transfer_windows", "two of them overlap")


def _secured(tls: Tls, base_url: str, name: str, folder: Path) -> Tls:
    """With whole paths, tried, and with when the files were written: an entry whose certificate was renewed in place is another entry."""
    if noted := [field for field in ("written", "ends_at") if getattr(tls, field)]:
        raise _Fault(name, f"tls.{noted[0]}", "is not a known field")
    if not base_url.startswith("https:"):
        raise _Fault(name, "tls", "base_url must be https")
    if tls.client_key is not None and tls.client_certificate is None:
        raise _Fault(name, "tls.client_certificate", "is needed beside client_key")
    if tls.peer_serial_number is not None and not tls.peer_serial_number.strip():
        raise _Fault(name, "tls.peer_serial_number", "is empty")

    def whole(path: str | None) -> str | None:
        return None if path is None else str((folder / path).absolute())

    found = msgspec.structs.replace(
        tls, ca_bundle=whole(tls.ca_bundle), client_certificate=whole(tls.client_certificate), client_key=whole(tls.client_key)
    )
    try:
        written = tuple(path.stat().st_mtime_ns for path in _named(found))
        context_of(found)
        ends_at = end_of(found)
    except TlsFault as fault:
        raise _Fault(name, fault.field, fault.message) from None
    except OSError as exc:
        raise _Fault(name, "tls", f"{exc.filename}: cannot be read ({type(exc).__name__})") from None
    return msgspec.structs.replace(found, written=written, ends_at=ends_at)


def _check_address(entry: Provider | CertificationAuthority, name: str) -> None:
    try:
        url = urlsplit(entry.base_url)
        host, _ = url.hostname, url.port
    except ValueError:
        raise _Fault(name, "base_url", "is not a URL") from None
    if url.scheme not in {"http", "https"} or not host:
        raise _Fault(name, "base_url", "https://host[:port][/path] is needed")
    if url.username is not None or url.query or url.fragment or entry.base_url.endswith(("/", "?", "#")):
        raise _Fault(name, "base_url", "user, query, fragment and trailing slash are not allowed")
    if entry.allow_private:
        return
    if url.scheme != "https":
        raise _Fault(name, "base_url", "https is needed (or allow_private = true)")
    if _is_private(host):
        raise _Fault(name, "base_url", "lies in a private network (allow_private = true would permit it)")


def _is_private(host: str) -> bool:
    """Whether the host is private as it is written; a name that only resolves to such an address is refused when it is called."""
    try:
        return not is_public(host)
    except ValueError:
        name = host.rstrip(".").lower()
        return name.endswith(_PRIVATE_NAMES) or "." not in name


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _moved(base_url: str, origin: str) -> str:
    new = urlsplit(origin)
    return urlunsplit((new.scheme, new.netloc, urlsplit(base_url).path, "", ""))
