"""What is logged hides what should never have been given; by the field's name, and by the value's shape."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import structlog

from backend.logs import configure_logs, redacted
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
    logging.getLogger("uvicorn.error").warning("refused %s", JWT)
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
