"""What tells operators: the morning message, alerts, and what they read. Part of the composition root (`services.py`).

In: settings, engines and what the coordinator knows. Out: sweeps for whoever leads, a `Messenger` that runs beside them, and the endpoints'
tools. Everything connects on first use; `close` lets go of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from redis.asyncio import Redis

from backend.clock import Clock
from backend.identity import TokenVerifier
from backend.jobs.measuring import queues
from backend.jobs.sweeper import Sweep
from backend.metrics import Metric, Metrics
from backend.providers.certificates import ends
from backend.providers.circuits import Circuit
from backend.providers.directory import Directory
from backend.providers.outcomes import RspCode
from backend.reporting.alarms import AlertKind, Alerts
from backend.reporting.comparing import Comparing, UsersByHour
from backend.reporting.comparison import Options
from backend.reporting.endpoints import ReportEndpoints
from backend.reporting.grouping import AlertMessages
from backend.reporting.messenger import DEADLINE, Messenger, channels_of
from backend.reporting.morning import MorningSweep, at_of
from backend.reporting.morning_text import Language
from backend.reporting.reading import Traffic
from backend.reporting.watching import (
    ANSWERS,
    HOLD,
    LAST_ANSWER,
    LOOK,
    Answers,
    Holds,
    Noted,
    Stands,
    Watch,
    bad_nodes,
    certificates,
    circuits_that_refuse,
    late_queues,
)
from backend.reporting.weeks import Weeks
from backend.settings import Settings
from backend.storage.database import Database
from backend.webhooks.addresses import Reach
from backend.webhooks.posting import Poster

CONNECTIONS = 8  # to receivers, at once
AT_ONCE = timedelta(0)

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Reporters:
    """What the leading coordinator runs for operators."""

    alerts: Alerts
    morning: Sequence[Sweep]  # they go by the fleet's clock
    watches: Sequence[Sweep]
    messenger: Messenger
    poster: Poster

    def noted(self, sweep: Sweep) -> Sweep:
        """A sweep for lost work, of which operators hear when it finds some."""
        return Noted(sweep, self.alerts)

    async def close(self) -> None:
        """Lets go of connections to receivers."""
        await self.poster.aclose()


def operators_poster(reach: Reach, metrics: Metrics) -> Poster:
    """What calls operators' channels."""
    count = partial(metrics.count, Metric.WEBHOOK_ATTEMPTS, "operators")
    return Poster(reach=reach, deadline=DEADLINE, connections=CONNECTIONS, count=count)


def reporters(
    settings: Settings,
    *,
    database: Database,
    valkey: Redis,
    directory: Callable[[], Directory],
    clock: Clock,
    poster: Poster,
    standings: Callable[[], Awaitable[Sequence[Stands]]],
    figures: Callable[[], Awaitable[Mapping[Circuit, Holds]]],
) -> Reporters:
    """Builds it. A channel that cannot be called is said and left out: what decides circuits does not end over a chat."""
    channels, faults = channels_of(settings.notice_webhooks.get_secret_value() if settings.notice_webhooks else "", poster.reach)
    for fault in faults:
        log.error("notices.channel_left_out", why=fault)
    comparing = comparing_of(settings, database=database, directory=directory)
    language = Language(settings.notice_language)
    names = [channel.id for channel in channels]
    alerts = Alerts(database=database, clock=clock)
    telling = AlertMessages(
        database=database, channels=names, names=comparing.names, interval=timedelta(seconds=settings.alert_seconds), language=language
    )
    morning = MorningSweep(database=database, comparing=comparing, channels=names, at=at_of(settings.morning_at), language=language)
    return Reporters(
        alerts=alerts,
        morning=[UsersByHour(database=database), morning],
        watches=[
            *_watches(settings, alerts, database, valkey, directory),
            Watch(AlertKind.CIRCUIT, circuits_that_refuse(standings), alerts, every=AT_ONCE, hold=AT_ONCE),
            Watch(AlertKind.BAD_NODE, bad_nodes(figures), alerts, every=AT_ONCE, hold=HOLD),
            telling,
        ],
        messenger=Messenger(database=database, channels=channels, post=poster, clock=clock),
        poster=poster,
    )


def comparing_of(settings: Settings, *, database: Database, directory: Callable[[], Directory]) -> Comparing:
    """What compares days."""
    worth = Options(flame=settings.traffic_flame, drop=settings.traffic_drop, floor=settings.traffic_floor)
    return Comparing(database=database, traffic=Traffic(database=database), directory=directory, options=worth)


def report_endpoints(
    settings: Settings, *, verifier: TokenVerifier, database: Database, directory: Callable[[], Directory], clock: Clock
) -> ReportEndpoints:
    """What operators read over HTTP."""
    return ReportEndpoints(
        verifier=verifier,
        traffic=Traffic(database=database),
        comparing=comparing_of(settings, database=database, directory=directory),
        weeks=Weeks(database=database),
        alerts=Alerts(database=database, clock=clock),
        directory=directory,
        clock=clock,
        client_id=settings.client_id,
    )


def _watches(settings: Settings, alerts: Alerts, database: Database, valkey: Redis, directory: Callable[[], Directory]) -> list[Watch]:
    async def late() -> Mapping[str, float]:
        oldest = [sample for sample in await queues(valkey) if sample.metric is Metric.QUEUE_OLDEST]
        return {sample.labels[0]: sample.value for sample in oldest if isinstance(sample.value, int | float)}

    async def ending() -> Mapping[str, datetime]:
        return ends(directory())

    out_of_window = Answers(database, alerts, AlertKind.OUT_OF_WINDOW, RspCode.OUT_OF_WINDOW, "window")
    quota = Answers(database, alerts, AlertKind.QUOTA, RspCode.QUOTA, "quota")
    return [
        Watch(AlertKind.QUEUE_OLD, late_queues(late, settings.queue_seconds), alerts, every=LOOK, hold=AT_ONCE),
        Watch(AlertKind.OUT_OF_WINDOW, out_of_window.look, alerts, every=ANSWERS, hold=LAST_ANSWER),
        Watch(AlertKind.QUOTA, quota.look, alerts, every=ANSWERS, hold=LAST_ANSWER),
        Watch(AlertKind.CERTIFICATE, certificates(ending, settings.certificate_days), alerts, every=LOOK, hold=AT_ONCE),
    ]
