"""When the certificates end that we show to institutions.

In: the directory. Out: moments by institution. Certificates only, never a key; a file that cannot be read is the directory's own trouble.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from cryptography import x509

from backend.metrics import Metric, Sample, Samples
from backend.providers.contract import CertificationAuthority, Provider
from backend.providers.directory import Directory


def ends(directory: Directory) -> Mapping[str, datetime]:
    """By org_code, of each institution to which we show one; the earliest of its chain. Reads files."""
    known: dict[str, datetime | None] = {}
    found = {}
    entries: tuple[Provider | CertificationAuthority, ...] = (*directory.providers, directory.ca)
    for entry in entries:
        path = entry.tls.client_certificate if entry.tls else None
        if path is None:
            continue
        end = known[path] if path in known else known.setdefault(path, _end_of(path))
        if end is not None:
            found[entry.org_code] = end
    return found


def _end_of(path: str) -> datetime | None:
    try:
        chain = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError):
        return None
    return min((each.not_valid_after_utc for each in chain), default=None)


async def certificate_ends(directory: Callable[[], Directory]) -> Samples:
    """For metrics."""
    found = await asyncio.to_thread(ends, directory())
    return [Sample(Metric.CERTIFICATE_END, (org_code,), end.timestamp()) for org_code, end in found.items()]
