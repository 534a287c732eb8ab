"""What a sandbox is made of: one frozen value, taken from the settings or written by a test.

In: settings, the built-in directory. Out: `SandboxOptions`. The environment is not read here, and nothing is started.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from backend.providers.directory import BUILT_IN, Directory, load_directory
from backend.settings import Settings

DAY = 86_400


@dataclass(frozen=True)
class SandboxOptions:
    """Durations in seconds unless the name says `_ms`."""

    public_url: str | None = None  # None: as each request names the host
    seed: str = "moa"  # people, keys and tokens follow from it: the same after a restart
    directory: Directory = field(default_factory=lambda: load_directory(BUILT_IN))
    operator_org_code: str = "ZVMOA00000"
    client_id: str = "moa-sandbox-client"
    client_secret: str = field(default="moa-sandbox-secret", repr=False)
    pending_code: str = "10001"
    denied_code: str = "10002"
    approve_after_ms: float | None = 300  # None: a person decides at the signing page
    access_token_ttl: int = 30 * DAY  # the standard allows 90 days
    refresh_token_ttl: int = 365 * DAY
    without_latency: bool = False  # benchmarks and tests: every answer at once
    call_log_size: int = 500_000  # some 120 bytes to 300 bytes each
    largest_body: int = 1024 * 1024  # bytes that a request may have

    @classmethod
    def of(cls, settings: Settings) -> SandboxOptions:
        """The sandbox that belongs to these settings."""
        return cls(
            operator_org_code=settings.operator_org_code,
            client_id=settings.client_id,
            client_secret=settings.client_secret.get_secret_value(),
            pending_code=settings.ca_pending_code,
            denied_code=settings.ca_denied_code,
        )
