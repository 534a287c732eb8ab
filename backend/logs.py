"""Logs: structlog for everything, JSON lines in production, readable in a terminal; the standard library's records join them.

A terminal is for a person: of the calls to institutions it shows those that failed, at the level `debug` all. JSON has them all.
What is logged are names, ids and figures. Every record, whoever wrote it, passes `redacted` right before it becomes text: what should never
have been given is hidden by the field's name and by the value's shape, in lists, tables, bytes, exceptions and tracebacks, too.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from types import TracebackType
from typing import Any, TextIO

import orjson
import structlog
from structlog.stdlib import ProcessorFormatter

from backend.settings import Settings

# Names of what is nobody's business, as they are compared: in small letters, without hyphens and underscores. A name that ends with one of
# them is one, too: `X-User-CI`, `refreshToken`, `MOA_JWT_SECRET`.
_SECRET_NAMES = (
    *("authorization", "cookie", "token", "password", "secret", "api_key", "vault_keys", "user_ci", "username", "real_name"),
    *("phone_num", "phone_number", "phone_no", "account_num", "account_number", "account_no", "card_num", "card_number", "card_no"),
    *("signed_consent", "연계정보", "주민등록번호", "주민번호", "계좌번호", "카드번호", "전화번호"),
)
_SECRET_ENDS = tuple(name.replace("_", "") for name in _SECRET_NAMES)
_ESCAPED = r"(?<= \\[abfnrtv0]) | (?<= \\x[0-9a-f]{2}) | (?<= \\u[0-9a-f]{4})"  # what repr makes of a line's end, of Korean in bytes
_TEXT = re.compile(
    r"""
      (?P<kept> (?<![0-9A-Za-z]) [0-9a-f]{8} (?:-[0-9a-f]{4}){3} - [0-9a-f]{12} (?![0-9A-Za-z])           # a UUID
              | (?<!\d) \d{4}-\d\d-\d\d (?: [T\ ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)? | (?![\d-]) ) )      # a moment, a day
    | (?P<name> (?: (?<![A-Za-z0-9]) | (?<=[a-z]) (?=[A-Z]) | ESCAPED )                                   # a secret field …
        (?: (?P<line> (?i:authorization|cookie)) | (?i:NAMES) ) \\?["']? \s* [:=] \s* b? (?P<in> \\?["'])? )
      (?(in) (?: (?! (?P=in) ) [^\n] )+ | (?(line) [^\n"'\\]+
        | (?: (?i:bearer|basic) \s+ )? [^\s"'\\,;&)}\]]+ ) )                                              # … and what is in it
    | eyJ [\w-]+ \. [\w-]+ \. [\w-]*                                                                      # a JWT, a JWS
    | (?i: (?<![A-Za-z]) (?:bearer|basic) \s+ ) [^\s"']+
    | (?<= ://) [^\s/@"']{0,100} : [^\s@"']{1,300} (?=@)                                                  # who logs in, in a URL
    | [A-Za-z0-9+/]{60,} ={0,2}                                                                           # a user_ci has 88
    | [A-Za-z0-9_-]{80,} ={0,2}                                                                           # a signature
    | (?: (?<![A-Za-z0-9_]) (?<!\d\.) | ESCAPED ) \d (?:[\ -]?\d){9,} (?![A-Za-z0-9_] | \.\d)             # accounts, cards, telephones
    """.replace("ESCAPED", _ESCAPED).replace(
        "NAMES", "|".join(name.replace("_", "[-_]?") for name in sorted(_SECRET_NAMES, key=len)[::-1])
    ),
    re.VERBOSE | re.ASCII,
)
_HIDDEN = "…"
_FIRST = ("timestamp", "level", "process", "event")
_DEEPEST = 5  # levels of lists and tables; what lies deeper is hidden unseen
_SHORTEST = 10  # characters; a shorter word can be no secret by its shape
_LONGEST = 16 * 1024  # characters of one text; a traceback has a few thousand
_MOST = 100  # members of one list or table
_REMEMBERED = 4096  # texts without a secret
_WORTH_REMEMBERING = 100  # characters of one
_CALL = "provider.call"


def redacted(_: object, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The event with plain JSON values, and nothing secret in it."""
    return _table(event, _DEEPEST)


_harmless: set[str] = set()  # what was looked at and found to hold nothing secret: the same names and ids come on many lines


def hidden(text: str) -> str:
    """The text without what looks like a secret."""
    if text in _harmless or (len(text) < _SHORTEST and text.isalnum()):
        return text
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}{_HIDDEN}"
    found = _TEXT.sub(_replacement, cut)
    if found == text and len(text) <= _WORTH_REMEMBERING:
        if len(_harmless) >= _REMEMBERED:
            _harmless.clear()
        _harmless.add(text)
    return found


def _replacement(found: re.Match[str]) -> str:
    return found["kept"] or f"{found['name'] or ''}{_HIDDEN}"


def _table(table: Mapping[Any, Any], levels: int) -> dict[str, Any]:
    members = ((_word(name), value) for name, value in islice(table.items(), _MOST))
    return {name: _HIDDEN if _tells_a_secret(name) else _plain(value, levels) for name, value in members}


@lru_cache(maxsize=1024)
def _tells_a_secret(name: str) -> bool:
    return name.lower().replace("-", "").replace("_", "").endswith(_SECRET_ENDS)


def _word(name: object) -> str:
    """The name of a field: one of ours, or whatever somebody used as a key."""
    text = name if isinstance(name, str) else _words(name)
    return text if len(text) < 40 and text.isidentifier() else hidden(text)


def _plain(value: Any, levels: int) -> Any:
    match value:
        case None | bool() | float():
            return value
        case str():
            return hidden(value)
        case int():
            return value if -1_000_000_000 < value < 1_000_000_000 else hidden(str(value))
        case bytes() | bytearray() | memoryview():
            return hidden(bytes(value[:_LONGEST]).decode(errors="backslashreplace"))
        case dict() | list() | tuple() | set() | frozenset() if not levels:
            return _HIDDEN
        case dict():
            return _table(value, levels - 1)
        case [str() | bytes() as name, _] if _tells_a_secret(_words(name.decode(errors="replace") if isinstance(name, bytes) else name)):
            return [_plain(name, levels - 1), _HIDDEN]  # a header, as servers and clients keep them
        case list() | tuple() | set() | frozenset():
            return [_plain(inner, levels - 1) for inner in islice(value, _MOST)]
        case _:
            return hidden(_words(value))


def _words(value: object) -> str:
    """What an object says of itself; enums and their like by their value's text."""
    try:
        return str(value)
    except Exception as exc:  # a log line is no place to fail
        return f"{type(value).__name__} without words ({type(exc).__name__})"


def configure_logs(settings: Settings, *, process: str) -> None:
    """Sets up logging for this process; `process` names it on every line."""
    readable = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
    ]
    last: list[structlog.types.Processor] = [
        redacted,  # whatever comes after it is ours
        _named(process),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _console() if readable else _json,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(foreign_pre_chain=shared, processors=[ProcessorFormatter.remove_processors_meta, *last]))
    # Our own lines do without the standard library's records, which cost as much as everything else together.
    structlog.configure(
        processors=[*([_without_routine] if readable and settings.log_level != "debug" else []), *shared, _rendered(last)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=lambda *_: _Lines(handler),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in ("httpx", "httpcore", "arq", "asyncio", "aiohttp", "alembic"):
        logging.getLogger(chatty).setLevel("WARNING")


def log_everything() -> None:
    """Whatever else Python writes to stderr by itself becomes log lines: warnings, and exceptions that nobody caught. Once per process."""
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a stream that cannot be written to must not make logging print the record somewhere else
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda found: _uncaught(found.exc_type, found.exc_value, found.exc_traceback)
    threading.excepthook = lambda found: _uncaught(found.exc_type, found.exc_value, found.exc_traceback)


def _uncaught(kind: type[BaseException], exc: BaseException | None, traceback: TracebackType | None) -> None:
    logging.getLogger("uncaught").critical("uncaught", exc_info=(kind, exc or kind(), traceback))


def _without_routine(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event["event"] == _CALL and event.get("outcome") == "ok":
        raise structlog.DropEvent
    return event


def _rendered(last: Sequence[structlog.types.Processor]) -> structlog.types.Processor:
    """All of the last steps as one, which never fails: a log line is no reason to."""

    def render(logger: object, method: str, event: MutableMapping[str, Any]) -> Any:
        rendered: Any = event
        try:
            for step in last:
                rendered = step(logger, method, rendered)
        except Exception as exc:  # whatever it was, its words may be the ones that must not be told
            return _line({"event": "log.failed", "error": type(exc).__name__})
        return rendered

    return render


class _Lines:
    """Where our own lines go: to the stream of the handler that libraries' records go to, in turn with them."""

    def __init__(self, handler: logging.StreamHandler[TextIO]) -> None:
        self._handler = handler

    def write(self, line: str) -> None:
        """One line. A stream that is gone cannot be told about."""
        self._handler.acquire()
        try:
            with suppress(OSError, ValueError):
                self._handler.stream.write(f"{line}\n")
                self._handler.stream.flush()
        finally:
            self._handler.release()

    debug = info = warning = error = critical = write


class _Formatter(ProcessorFormatter):
    """A record that cannot be written is told without its arguments; logging itself would print them as they are."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception as exc:  # wrong arguments of a library's call, mostly
            return _line({"event": "log.failed", "logger": record.name, "error": type(exc).__name__})


def _json(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """First what a reader looks for, then the rest."""
    first = {name: event[name] for name in _FIRST if name in event}
    return _line({**first, **event})


def _line(event: Mapping[str, Any]) -> str:
    """JSON of plain values."""
    try:
        return orjson.dumps(event).decode()
    except orjson.JSONEncodeError:  # half a surrogate pair is no UTF-8
        return json.dumps(event)


def _console() -> structlog.types.Processor:
    """Tracebacks stay as they were formatted: the renderer's own would show local variables."""
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _named(process: str) -> structlog.types.Processor:
    def add(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    return add
