"""Logs: structlog for everything, JSON lines in production, readable in a terminal; the standard library's records join them.

What is logged are names, ids and figures. `redacted` stands last before the renderer, so that a field that should never have been given
is not written either.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from backend.settings import Settings

_SECRET_FIELDS = frozenset(
    {
        "authorization",
        "token",
        "access_token",
        "refresh_token",
        "password",
        "client_secret",
        "user_ci",
        "username",
        "account_num",
        "card_num",
    }
)
# JWTs, bearer tokens, a user_ci (88 characters of base64), runs of ten digits or more: none has a place in a log.
_SECRET_TEXT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*|(?i:bearer\s+\S+)|[A-Za-z0-9+/]{60,}={0,2}|(?<![\w:.-])\d[\d-]{8,}\d(?![\w:-]|\.\d)")
_HIDDEN = "…"
_DEEPEST = 5  # levels of lists and tables; what lies deeper is hidden unseen


def redacted(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hides secrets by the field's name and by the value's shape, in lists and tables too."""
    for name, value in event.items():
        event[name] = _HIDDEN if name in _SECRET_FIELDS else _redacted(value, _DEEPEST)
    return event


def _redacted(value: Any, levels: int) -> Any:
    match value:
        case str():
            return _SECRET_TEXT.sub(_HIDDEN, value)
        case bytes():
            return _redacted(value.decode("latin-1"), levels)
        case dict() | list() | tuple() if not levels:
            return _HIDDEN
        case dict():
            return {name: _HIDDEN if name in _SECRET_FIELDS else _redacted(inner, levels - 1) for name, inner in value.items()}
        case list() | tuple():
            return [_redacted(inner, levels - 1) for inner in value]
        case _:
            return value


def configure_logs(settings: Settings, *, process: str) -> None:
    """Sets up logging for this process; `process` names it on every line."""
    readable = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redacted,
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if readable else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_named(process), _bare, renderer]))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in ("httpx", "httpcore", "arq", "asyncio", "aiohttp", "alembic"):
        logging.getLogger(chatty).setLevel("WARNING")


def _named(process: str) -> structlog.types.Processor:
    def add(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    return add


def _bare(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, name, event)
