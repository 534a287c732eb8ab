"""When the certificates end that we show to institutions.

In: the directory that is in force. Out: moments by institution. No file is read here: a new certificate counts from when it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from backend.metrics import Metric, Sample, Samples
from backend.providers.contract import CertificationAuthority, Provider
from backend.providers.directory import Directory


def ends(directory: Directory) -> Mapping[str, datetime]:
    """By org_code, of each institution to which we show one; the earliest of its chain."""
    entries: tuple[Provider | CertificationAuthority, ...] = (*directory.providers, directory.ca)
    return {entry.org_code: entry.tls.ends_at for entry in entries if entry.tls is not None and entry.tls.ends_at is not None}


def certificate_ends(directory: Callable[[], Directory]) -> Samples:
    """For metrics."""
    return [Sample(Metric.CERTIFICATE_END, (org_code,), end.timestamp()) for org_code, end in ends(directory()).items()]
