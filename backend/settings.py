"""The only reader of the environment.

Values come from, first wins: `MOA_*` variables, `.env` in the working folder, what `moa up` wrote into its data folder
(`secrets.env`, `running.env`), the defaults below. `moa settings` lists them all. Secrets are `SecretStr`: they print as stars.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from backend import failpoints
from backend.clock import Clock

SECRETS_FILE = "secrets.env"  # made once per data folder, mode 0600
RUNNING_FILE = "running.env"  # where the running system listens; removed when it stops
TARGETS_FILE = "metrics.json"  # where each of its processes shows its metrics, as Prometheus' file discovery reads it; removed, too
LOOKED_AT_EVERY = 1.0  # seconds, for changed vault keys


class Settings(BaseSettings):
    """Everything that can be set from outside; durations are seconds unless the name says `_ms`."""

    model_config = SettingsConfigDict(env_prefix="MOA_", extra="ignore", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    data: Path = Field(default=Path(".moa"), description="folder of everything that `moa up` makes")
    environment: Literal["development", "production"] = Field(
        default="development", description="production refuses development conveniences (derived user_ci, HS256 default)"
    )

    # Engines
    database_url: SecretStr | None = Field(default=None, description="PostgreSQL (postgresql://…); unset: embedded by `moa up`")
    valkey_url: SecretStr | None = Field(default=None, description="Valkey or Redis (redis://… or unix://…); unset: embedded by `moa up`")
    database_pool: int = Field(default=10, ge=1, le=200, description="PostgreSQL connections per process")
    valkey_pool: int = Field(default=50, ge=5, le=1000, description="Valkey connections per process")
    valkey_timeout: float = Field(default=5.0, gt=0, le=60, description="a command that Valkey has not answered by then has failed")

    # HTTP
    host: str = Field(default="127.0.0.1", min_length=1, description="address that the API listens on")
    port: int = Field(default=8000, ge=0, le=65535, description="port that the API listens on")
    api_url: str = Field(default="http://127.0.0.1:8000", min_length=1, description="where commands such as `moa register` find the API")
    allowed_origins: str = Field(default="", description="comma-separated origins that browsers may call from, beside the API's own")
    max_body_bytes: int = Field(default=64 * 1024, ge=1024, le=16 * 1024 * 1024, description="largest request body")
    drain_seconds: float = Field(default=25.0, gt=0, le=30, description="time that SIGTERM leaves for finishing")
    rate_limit_per_minute: int = Field(default=600, ge=0, description="requests per user and minute; 0: no limit (`moa up` sets 0)")
    sockets_per_user: int = Field(default=20, ge=0, description="open sockets per user; 0: no limit (`moa up` sets 0)")

    # Who may call
    jwt_secret: SecretStr | None = Field(default=None, description="HS256 secret, at least 32 bytes (development)")
    jwks_url: str | None = Field(default=None, min_length=1, description="JWKS for RS256/ES256 (production)")
    jwt_audience: str | None = Field(default=None, min_length=1, description="`aud` that a token must name; unset: any, and none")
    jwt_issuer: str | None = Field(default=None, min_length=1, description="`iss` that a token must have; unset: any, and none")
    ops_token: SecretStr | None = Field(
        default=None, description="your token of scope `ops` for `moa breakers` and the like, where there is no secret to sign one with"
    )

    # Secrets at rest
    vault_keys: SecretStr | None = Field(default=None, description="`id:base64,id:base64`: AES-256 keys, the first encrypts, all decrypt")
    asset_id_secret: SecretStr | None = Field(default=None, description="derives asset ids from account numbers; never change it")

    # MyData
    providers_file: Path | None = Field(default=None, description="provider directory (TOML); unset: the built-in sandbox directory")
    operator_org_code: str = Field(default="ZVMOA00000", pattern=r"^[A-Za-z0-9]{10}$", description="our own organisation code")
    client_id: str = Field(default="moa-sandbox-client", min_length=1, description="client id registered at the portal")
    client_secret: SecretStr = Field(
        default=SecretStr("moa-sandbox-secret"), min_length=1, description="client secret registered at the portal"
    )
    service_id: str = Field(default="moa", min_length=1, description="service id sent with a token request (auth 002)")
    app_scheme_url: str = Field(default="moa://signature", description="where the CA's app sends the person back after signing")
    user_ci: Literal["claim", "derived"] = Field(
        default="derived", description="`claim`: the JWT must carry user_ci; `derived`: invented from `sub` when absent (sandbox)"
    )
    ca_pending_code: str = Field(
        default="10001", min_length=1, description="rsp_code of a sign_result that is not signed yet (the standard names none)"
    )
    ca_denied_code: str = Field(
        default="10002", min_length=1, description="rsp_code of a sign_result that the person refused (the standard names none)"
    )
    ca_poll_ms: int = Field(
        default=200, ge=20, le=60_000, description="wait between two sign_result calls in the first ten seconds; four times it later"
    )
    signature_ttl: float = Field(default=300.0, gt=0, le=86_400, description="time in which the person must sign")
    call_deadline: float = Field(default=20.0, gt=0, le=300, description="total time of one provider call")
    slow_after: float = Field(default=3.0, gt=0, le=300, description="a call that is answered later counts as slow to its circuit")
    defer_seconds: float = Field(
        default=15.0, gt=0, le=86_400, description="a resting provider that names no time is tried again after this"
    )
    provider_deadline: float = Field(default=60.0, gt=0, le=3_600, description="total time of one provider's collection")

    # Circuits (what each means at its boundary: `backend/coordinator/options.py`; every process of a fleet needs the same)
    circuit_window: Literal["count", "time"] = Field(
        default="count", description="what a circuit's sample holds: the last calls of the fleet, or those of the last seconds"
    )
    circuit_size: int = Field(default=100, description="calls, or seconds, of the sample")
    circuit_minimum_calls: int = Field(default=100, description="calls below which no rate is known")
    circuit_failure_rate: float = Field(default=50.0, description="percent of failures that opens a circuit")
    circuit_slow_rate: float = Field(default=100.0, description="percent of slow answers that opens a circuit")
    circuit_in_a_row: int = Field(default=10, description="failures in a row that open a circuit while no rate is known; 0: never")
    circuit_horizon_ms: int = Field(default=600_000, description="time within which they must lie")
    circuit_acts: bool = Field(default=True, description="false: only measured; circuits obey operators alone")
    circuit_quorum: int = Field(default=2, description="nodes that must have met it, or all that are alive, if they are fewer")
    circuit_alone_after_ms: int = Field(
        default=10_000, description="fewer nodes than the quorum are believed when nobody else had a good answer for so long"
    )
    circuit_alive_ms: int = Field(default=30_000, description="a node is alive so long after its last report")
    circuit_node_calls: int = Field(default=10, description="calls of one node, and of all others, before they are compared")
    circuit_others_failing: float = Field(
        default=10.0, description="percent of the others' calls up to which a node whose calls mostly fail is the one that is bad"
    )
    circuit_bad_at: int = Field(default=2, description="institutions at which a node is bad before nothing that it says counts")
    circuit_warm_up_ms: int = Field(default=2_000, description="time that a new leader listens before it opens anything")
    circuit_wait_ms: int = Field(default=5_000, description="time from opening to the first probe")
    circuit_wait_growth: float = Field(default=2.0, description="by which the wait grows each time that a probe fails")
    circuit_longest_wait_ms: int = Field(default=20_000, description="longest wait")
    circuit_jitter: float = Field(default=0.2, description="part of a wait that is drawn away")
    circuit_maintenance_ms: int = Field(default=15_000, description="rest of an institution that announces maintenance without an end")
    circuit_longest_maintenance_ms: int = Field(default=3_600_000, description="then a probe looks, whatever was announced")
    circuit_expires_ms: int = Field(
        default=30_000, description="time past its wait after which a node that heard nothing more believes an open circuit no longer"
    )
    circuit_automatic: bool = Field(default=True, description="false: probed only for somebody who waits")
    circuit_permitted_calls: int = Field(default=2, description="calls of a probe that close a circuit")
    circuit_longest_half_open_ms: int = Field(default=30_000, description="time after which a probe without an end has failed")
    circuit_probe_lease_ms: int = Field(default=3_000, description="a probe that is not heard of for so long is lost")
    circuit_others_first_ms: int = Field(default=500, description="time that a node whose probe came to nothing leaves to others")
    circuit_ramp_ms: int = Field(default=5_000, description="time over which a growing share of calls passes a circuit that has closed")

    # Workers
    interactive_jobs: int = Field(default=500, ge=1, description="jobs that one interactive worker runs at once")
    batch_jobs: int = Field(default=50, ge=1, description="jobs that one batch worker runs at once")
    job_lease: float = Field(default=5.0, gt=0.5, le=3_600, description="a job whose worker is silent for so long goes to another")
    sweep_seconds: float = Field(default=1.0, gt=0, le=3_600, description="interval in which lost work is looked for")

    # The weekly batch
    batch_automatic: bool = Field(default=True, description="false: links are refreshed only when an operator says so (`moa batch run`)")
    batch_calls_per_second: float = Field(
        default=500.0, gt=0, le=1_000_000, description="calls that a provider takes of the whole fleet where the directory names no number"
    )
    batch_skips_refreshed: bool = Field(default=True, description="a link that its person refreshed this week is left alone")
    batch_min_age_days: int = Field(default=0, ge=0, le=6, description="a link that was read so lately is passed over; 0: none is")
    batch_max_age_days: int = Field(
        default=0, ge=0, le=7, description="a link is due so many days after it was read, if its week ends later; 0: the week alone"
    )
    batch_attempts: int = Field(default=3, ge=1, le=100, description="attempts of one link in one week while they fail")
    batch_unknown: Literal["repeat", "leave"] = Field(
        default="repeat", description="an attempt whose worker died: once more, or not before next week"
    )
    batch_in_flight: int = Field(default=500, ge=1, le=10_000, description="links that one batch worker reads at once")
    batch_lease: float = Field(
        default=1.5, gt=0.5, le=3_600, description="a command whose worker is silent for so long goes to another: a minute is short"
    )
    batch_niceness: int = Field(default=10, ge=0, le=19, description="by how much batch workers leave the CPU to others")
    batch_days_said: str = Field(
        default="", description="what days are, comma-separated, whatever the calendar knows: `2026-06-03=holiday`, `no_trading`, `working`"
    )

    # Webhooks
    webhook_deadline: float = Field(default=15.0, gt=0, le=60, description="total time of one attempt to deliver to a webhook")
    webhook_addresses: Literal["auto", "public", "loopback", "any"] = Field(
        default="auto", description="where webhooks may lie; auto: public only in production, on this machine too in development"
    )

    # Sandbox
    sandbox_port: int = Field(default=8900, ge=0, le=65535, description="port that the sandbox listens on")
    sandbox_url: str = Field(default="http://127.0.0.1:8900", min_length=1, description="where tests and tools steer the sandbox")

    # Telling
    metrics_host: str = Field(default="127.0.0.1", min_length=1, description="address on which workers and coordinators show their metrics")
    metrics_port: int | None = Field(
        default=None, ge=0, le=65535, description="their port; unset: none (`moa up` finds a free one for each and writes down where)"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: readable in a terminal, without calls that went well unless `debug`; else JSON with every line"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="least severe level that is logged")

    # Being told: the morning message and alerts
    notice_webhooks: SecretStr | None = Field(
        default=None, description="comma-separated Slack-compatible webhooks for the morning message and alerts; unset: the log"
    )
    notice_language: Literal["ko", "en"] = Field(default="ko", description="of the morning message and of alerts")
    morning_at: str = Field(
        default="09:00", pattern=r"^(0[1-9]|1\d|2[0-3]):[0-5]\d$", description="of the morning message, in Korea; from 01:00 on"
    )
    traffic_flame: Decimal = Field(default=Decimal("1.5"), gt=1, description="times the calls of a week before from which traffic burns")
    traffic_drop: Decimal = Field(default=Decimal("0.5"), ge=0, lt=1, description="and below which it has dropped")
    traffic_floor: int = Field(default=100, ge=0, description="calls below which neither is said")
    alert_seconds: float = Field(default=300.0, ge=0, le=604_800, description="between two messages about the same kind of trouble")
    queue_seconds: float = Field(default=60.0, gt=0, le=86_400, description="that the oldest job may be late before it is an alert")
    certificate_days: int = Field(default=30, ge=1, le=3_650, description="before a certificate's end from which it is an alert")

    # Rehearsing
    failpoints: str = Field(
        default="", description="where this process kills or freezes itself (`backend/failpoints.py` names the places); not in production"
    )

    @field_validator("failpoints")
    @classmethod
    def _rehearsals_only(cls, text: str, info: ValidationInfo) -> str:
        if failpoints.parse(text) and info.data.get("environment") != "development":
            raise ValueError("only development has failpoints")
        return text


def load_settings(data: Path | None = None, **overrides: object) -> Settings:
    """Reads the settings as the module's docstring orders them.

    Raises `pydantic.ValidationError` for a value that does not fit (its message never repeats the value).
    """
    folder = data or Path(os.environ.get("MOA_DATA", ".moa"))
    files = (folder / RUNNING_FILE, folder / SECRETS_FILE, Path(".env"))  # the later file wins
    return Settings(_env_file=files, data=folder, **overrides)  # type: ignore[arg-type,call-arg]


class VaultKeys:
    """The vault's keys as they are now: follows the data folder's file, so that a rotation needs no restart.

    Looks at the file at most once a second, and reads it only when it has changed. What cannot be read changes nothing.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._data = settings.data
        self._keys = settings.vault_keys.get_secret_value() if settings.vault_keys else ""
        self._clock = clock
        self._seen = self._file()
        self._looked_at = clock.monotonic()

    def __call__(self, *, fresh: bool = False) -> str:
        now = self._clock.monotonic()
        if fresh or now - self._looked_at >= LOOKED_AT_EVERY:
            self._looked_at = now
            found = self._file()
            if found != self._seen:
                self._seen = found
                self._keys = self._read() or self._keys
        return self._keys

    def _file(self) -> tuple[int, int] | None:
        try:
            found = (self._data / SECRETS_FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _read(self) -> str | None:
        try:
            keys = load_settings(self._data).vault_keys
        except (OSError, ValueError):
            return None
        return keys.get_secret_value() if keys else None
