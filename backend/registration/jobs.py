"""The jobs of registrations and links by name and id. RULE: pure.

The id says what a job works on, and nothing of how often: a job that waits or runs refuses its double, so the sweeper may ask
for everything that is open, again and again.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from backend.jobs.queue import JSON, Job

SIGN = "sign"
COLLECT = "collect"
REFRESH = "refresh"
REVOKE = "revoke"


def sign_job(user_id: str, registration_id: str, run: int, *, request_id: str) -> Job:
    """Brings this run's signature to its end."""
    kwargs: dict[str, JSON] = {"user_id": user_id, "registration_id": registration_id, "run": run, "request_id": request_id}
    return Job(SIGN, kwargs, f"{SIGN}:{registration_id}:{run}")


def collect_job(user_id: str, registration_id: str, org_code: str, run: int, *, request_id: str, run_at: datetime | None = None) -> Job:
    """Collects one provider. `run_at` None: at once."""
    kwargs: dict[str, JSON] = {
        "user_id": user_id,
        "registration_id": registration_id,
        "org_code": org_code,
        "run": run,
        "request_id": request_id,
    }
    return Job(COLLECT, kwargs, f"{COLLECT}:{registration_id}:{org_code}:{run}", run_at)


def refresh_job(user_id: str, refresh_id: str, org_code: str, *, request_id: str) -> Job:
    """Reads one linked provider again."""
    kwargs: dict[str, JSON] = {"user_id": user_id, "refresh_id": refresh_id, "org_code": org_code, "request_id": request_id}
    return Job(REFRESH, kwargs, f"{REFRESH}:{refresh_id}:{org_code}")


def revoke_job(user_id: str, org_code: str) -> Job:
    """Tells a provider that a link has ended. A `sub` may be an address, so the id holds a digest of it."""
    digest = hashlib.sha256(f"{org_code}\0{user_id}".encode()).hexdigest()[:32]
    return Job(REVOKE, {"user_id": user_id, "org_code": org_code}, f"{REVOKE}:{digest}")
