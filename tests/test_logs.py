"""What is logged hides what should never have been given; by the field's name, and by the value's shape."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
import structlog
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

import backend.logs
from backend.logs import configure_logs, log_everything, redacted
from backend.settings import Settings

JWT = jwt.encode({"sub": "anna"}, "a secret for tests that is long enough", algorithm="HS256")
USER_CI = base64.b64encode(bytes(64)).decode()


def hidden(**event: Any) -> dict[str, Any]:
    return dict(redacted(None, "info", event))


@pytest.mark.parametrize(
    "name",
    [
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
    ],
)
def test_a_secret_field_is_hidden_whatever_is_in_it(name: str) -> None:
    for value in ("x", 7, b"x", ["x"], {"x": "x"}):
        assert hidden(**{name: value}) == {name: "…"}


@pytest.mark.parametrize("name", ["user_CI", "x-user-ci", "refreshToken", "Set-Cookie", "MOA_JWT_SECRET", "account_number", "계좌번호"])
def test_a_secret_field_is_hidden_however_its_name_is_spelled(name: str) -> None:
    assert hidden(**{name: "x"}) == {name: "…"}
    as_servers_keep_them = [(name.encode(), b"x"), (name, "x"), ("accept", "*/*")]
    assert hidden(headers=as_servers_keep_them)["headers"] == [[name, "…"], [name, "…"], ["accept", "*/*"]]


@pytest.mark.parametrize(
    "text",
    [
        "no login at postgresql://moa:a-whole/word@db.example:5432/moa",
        "redis://:whole@valkey:6379",
        "authorization: Token whole",
        "Authorization: Digest username=moa, response=whole",
        "cookie: session=1; other=whole",
        "{'real_name': 'Gil whole', 'b': 1}",
        '{"username": "O\'Brien whole"}',
        '{\\"access_token\\": \\"a whole\\"}',
        "계좌번호: whole",
    ],
)
def test_all_of_a_secret_is_hidden_and_not_its_first_word_alone(text: str) -> None:
    assert "whole" not in hidden(event=text)["event"]


@pytest.mark.parametrize(
    "secret",
    [JWT, f"Bearer {JWT}", "bearer abc", USER_CI, "110-1234-567890", "1234567890", "5105105105105100", "1234-5678-9012-3456"],
)
@pytest.mark.parametrize("around", ["{}", "it was {}.", "'{}'", "got {}, and more", "a={}&b", "({})"])
def test_a_secret_in_a_text_is_hidden(secret: str, around: str) -> None:
    assert secret.removeprefix("Bearer ").removeprefix("bearer ") not in hidden(event=around.format(secret))["event"]


@pytest.mark.parametrize(
    "name",
    [
        "reg_01M8195PRMGPPGQ90DNY0FQRF8",
        "collect:reg_01M8195PRMGPPGQ90DNY0FQRF8:A1MOABK001:1",
        "req_5d247d37ea8541068facbc6b1ffa6fd7",
        "2026-11-22T09:25:09.251882Z",
        "A1MOABK001",
        "0.1234567890123",
        "x7Q2:16",
        "http://127.0.0.1:8000",
        "2026-11-22",
        "2026-11-22 09:25:09",
        "123e4567-e89b-12d3-a456-426614174000",
        "ZVMOA00000M00000000000001",
    ],
)
def test_names_and_figures_stay(name: str) -> None:
    assert hidden(event=f"at {name} there", registration_id=name) == {"event": f"at {name} there", "registration_id": name}


def test_secrets_inside_of_lists_and_tables_are_hidden() -> None:
    event = hidden(
        headers={"authorization": "Bearer x", "accept": "*/*"},
        tokens=[JWT, "x"],
        pair=(USER_CI,),
        deep={"a": [{"b": JWT}]},
        raw=JWT.encode(),
    )
    assert JWT not in str(event)
    assert USER_CI not in str(event)
    assert event["headers"] == {"authorization": "…", "accept": "*/*"}
    assert event["tokens"] == ["…", "x"]


# --- the whole road --------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the process writes."""
    root, before = logging.getLogger(), (logging.getLogger().handlers[:], logging.getLogger().level)
    structlog_before = structlog.get_config()
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_logs(Settings(_env_file=None, log_format="json"), process="worker-interactive")  # type: ignore[call-arg]
    yield written
    root.handlers[:], root.level = before
    structlog.configure(**structlog_before)


def read(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_our_lines_and_those_of_libraries_look_alike(lines: io.StringIO) -> None:
    structlog.get_logger().info("collect.failed", org_code="A1MOABK001", token=JWT)
    logging.getLogger("a.library").warning("refused %s", JWT)
    ours, theirs = read(lines)
    del ours["timestamp"]
    named = {"level": "info", "process": "worker-interactive"}
    assert ours == {"event": "collect.failed", "org_code": "A1MOABK001", "token": "…", **named}
    assert (theirs["event"], theirs["level"], theirs["process"]) == ("refused …", "warning", "worker-interactive")


def test_a_traceback_is_written_without_the_secret_that_its_error_repeats(lines: io.StringIO) -> None:
    try:
        raise LookupError(f"no such token: {JWT}")
    except LookupError:
        structlog.get_logger().exception("request.failed")
        logging.getLogger("asyncio").exception("never retrieved")
    assert JWT not in lines.getvalue()
    for line in read(lines):
        assert "LookupError: no such token: …" in line["exception"]


def test_chatty_libraries_are_quiet_and_debug_is_off(lines: io.StringIO) -> None:
    logging.getLogger("httpx").info("GET https://bank/accounts?org_code=1")
    structlog.get_logger().debug("nothing")
    assert lines.getvalue() == ""


def test_a_request_id_is_on_every_line_of_its_context(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.get_logger().info("one")
        logging.getLogger("elsewhere").info("two")
    assert [line["request_id"] for line in read(lines)] == ["req_1", "req_1"]


# --- nothing passes --------------------------------------------------------------------------------------------------

JWTS = st.builds(lambda sub: jwt.encode({"sub": sub}, "a secret for tests that is long enough", algorithm="HS256"), st.text(max_size=20))
USER_CIS = st.binary(min_size=64, max_size=64).map(lambda raw: base64.b64encode(raw).decode())
SIGNATURES = st.binary(min_size=100, max_size=300).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
ACCOUNTS = st.from_regex(r"[1-9][0-9]{2,5}-[0-9]{2,6}-[0-9]{6,8}|[1-9][0-9]{9,19}|[0-9]{4}( [0-9]{4}){3}", fullmatch=True)
SECRETS = JWTS | USER_CIS | SIGNATURES | ACCOUNTS
# What may stand beside a secret. Letters and digits would be a part of it.
EDGES = st.text(alphabet=" \n\t'\"=:,;()[]{}<>/?&계좌번호는", max_size=5)
NAMED = st.tuples(
    st.sampled_from(["access_token", "password", "Authorization", "user_ci", "account_num", "X-User-CI", "accountNumber"]),
    st.from_regex(r"[a-z]{4,12}", fullmatch=True),
)


class Telling:
    """An object whose words are not for everybody."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return f"Telling({self._secret})"


def nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Lists, tables, bytes, objects and errors around them."""
    leaves = values | values.map(str.encode) | values.map(Telling) | values.map(LookupError)
    keys = st.sampled_from(["a", "body", "headers", 7]) | values
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3) | st.tuples(inner), max_leaves=6
    )


def logged(log_format: str, write: Callable[[], object], *, log_level: str = "info") -> str:
    """What `write` makes this process write."""
    root, structlog_before = logging.getLogger(), structlog.get_config()
    before, stderr, written = (root.handlers[:], root.level), sys.stderr, io.StringIO()
    sys.stderr = written
    try:
        configure_logs(Settings(_env_file=None, log_format=log_format, log_level=log_level), process="api")  # type: ignore[call-arg,arg-type]
        write()
    finally:
        sys.stderr = stderr
        root.handlers[:], root.level = before
        structlog.configure(**structlog_before)
    assert written.getvalue()
    return written.getvalue()


def fails(words: object) -> None:
    """Logs an error and its cause as we do, and as libraries do."""
    try:
        try:
            raise LookupError(words)
        except LookupError as exc:
            raise RuntimeError(f"around {words}") from exc
    except RuntimeError:
        structlog.get_logger().exception("request.failed", why=words)
        logging.getLogger("sqlalchemy.pool").exception("lost %s", words)


@pytest.mark.parametrize("log_format", ["json", "console"])
@hypothesis(max_examples=40)
@given(data=st.data())
def test_no_secret_is_in_any_line_however_deep_it_was(log_format: str, data: st.DataObject) -> None:
    secret, before, after = data.draw(SECRETS), data.draw(EDGES), data.draw(EDGES)
    value = data.draw(nested(st.just(f"{before}{secret}{after}")))

    def write() -> None:
        structlog.get_logger().info("event", value=value, other=value)
        structlog.get_logger().info(f"event {before}{secret}{after}")
        for library in ("uvicorn.error", "sqlalchemy.engine", "httpx", "asyncio", "aiohttp.client"):
            logging.getLogger(library).warning("given %s", value)
        fails(value)

    written = logged(log_format, write)
    assert secret not in written
    assert secret not in written.replace("\\", "")


@given(
    named=NAMED,
    around=st.sampled_from(["{n}={v}", "{{'{n}': '{v}'}}", '{{"{n}":"{v}"}}', "{n}: {v}", "?a=1&{n}={v}&b=2", "{n}: Basic {v}"]),
)
def test_a_secret_that_only_its_name_tells_is_hidden_in_texts_and_tables(named: tuple[str, str], around: str) -> None:
    name, value = named
    for given_value in (around.format(n=name, v=value), {"a": [{name: value}]}, around.format(n=name, v=value).encode()):
        assert value not in logged("json", lambda given_value=given_value: fails(given_value)).replace("event", "")


@hypothesis(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
def test_whatever_is_given_is_one_line_of_json(value: Any) -> None:
    line, nothing = logged("json", lambda: structlog.get_logger().info("event", value=value)).split("\n")
    assert nothing == ""
    assert json.loads(line)["event"] == "event"


def test_a_record_that_cannot_be_written_shows_none_of_its_arguments(lines: io.StringIO) -> None:
    record = logging.LogRecord("library", logging.ERROR, "", 1, "%s and %s", ("one secret word",), None)
    for handler in logging.getLogger().handlers[:1]:
        handler.handle(record)
    assert read(lines) == [{"event": "log.failed", "logger": "library", "error": "TypeError"}]


def test_an_object_that_fails_to_speak_does_not_stop_the_line(lines: io.StringIO) -> None:
    class Mute:
        def __str__(self) -> str:
            raise ValueError

    structlog.get_logger().info("event", value=Mute())
    assert read(lines)[0]["value"] == "Mute without words (ValueError)"


@pytest.mark.parametrize(
    ("log_format", "log_level", "shown"),
    [("json", "info", ["ok", "timeout"]), ("console", "info", ["timeout"]), ("console", "debug", ["ok", "timeout"])],
)
def test_a_terminal_is_spared_the_calls_that_went_well_unless_it_wants_them(log_format: str, log_level: str, shown: list[str]) -> None:
    def write() -> None:
        for outcome in ("ok", "timeout"):
            structlog.get_logger().info("provider.call", org_code="A1MOABK001", outcome=outcome)

    lines = logged(log_format, write, log_level=log_level).splitlines()
    assert ["timeout" if "timeout" in line else "ok" for line in lines] == shown


class Gone(io.StringIO):
    """A terminal that was closed."""

    def write(self, _: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_stream_that_is_gone_and_a_step_that_fails_are_nobodys_trouble(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(Gone())
    structlog.get_logger().info("nobody hears this")
    handler.setStream(lines)

    def fails(*_: object) -> str:
        raise LookupError(JWT)

    monkeypatch.setattr("backend.logs._line", lambda event, line=backend.logs._line: line(event) if len(event) == 2 else fails())
    structlog.get_logger().info("event")
    assert read(lines) == [{"event": "log.failed", "error": "LookupError"}]


def test_what_is_remembered_as_harmless_has_a_bound_and_holds_no_secret(lines: io.StringIO) -> None:
    for number in range(5000):
        structlog.get_logger().info("event", name=f"name of {number} things", value=f"given {JWT} and {number}")
    assert len(backend.logs._harmless) <= 4096
    assert not any(JWT in text for text in backend.logs._harmless)
    assert JWT not in lines.getvalue()


def test_long_texts_and_lists_are_cut(lines: io.StringIO) -> None:
    structlog.get_logger().info("event", text="a b " * 100_000, members=list(range(1000)))
    assert len(lines.getvalue()) < 20_000


def test_what_python_would_write_by_itself_becomes_lines(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    log_everything()
    try:
        raise LookupError(f"no token {JWT}")
    except LookupError as exc:
        sys.excepthook(type(exc), exc, exc.__traceback__)
    thread = threading.Thread(target=lambda: fails_by(JWT))
    thread.start()
    thread.join()
    logging.captureWarnings(False)
    assert [(line["event"], line["level"]) for line in read(lines)] == [("uncaught", "critical")] * 2
    assert JWT not in lines.getvalue()


def fails_by(words: str) -> None:
    raise LookupError(words)
