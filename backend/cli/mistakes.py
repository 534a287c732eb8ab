"""Turns what a person can mend into one plain line.

In: an exception that reached the top. Out: its line, or None when it is our own fault and the traceback is what helps.
No line repeats the value of a setting: it may be a secret.
"""

from __future__ import annotations

import sys

from backend.errors import EngineUnavailable, MoaError, Refused

# asyncpg's names of what a wrong URL leads to; asyncpg itself is loaded only by commands that connect.
REFUSALS = {"InvalidPasswordError", "InvalidAuthorizationSpecificationError", "InvalidCatalogNameError", "ClientConfigurationError"}


def as_line(exc: BaseException) -> str | None:
    """The line for stderr, or None."""
    from typer.exceptions import TyperException  # noqa: PLC0415  # only commands know typer

    match exc:
        case TyperException():
            return f"moa: {exc.format_message().rstrip('.')}; `moa --help` lists what there is"
        case EngineUnavailable():
            return f"moa: {exc.engine} does not answer; is `moa up` running? `moa doctor` says more"
        case Refused():
            return f"moa: {exc.detail}"
        case MoaError():
            return f"moa: {exc}"
        case ConnectionError():
            return f"moa: cannot connect ({exc.strerror or type(exc).__name__}); is it running?"
        case OSError():
            what = exc.strerror or type(exc).__name__
            return f"moa: {what}" + (f": {exc.filename}" if exc.filename else "")
    return _refusal_line(exc) or _settings_line(exc)


def _refusal_line(exc: BaseException | None) -> str | None:
    """SQLAlchemy wraps what asyncpg raised; the name that tells is one of the causes."""
    while exc is not None:
        if type(exc).__name__ in REFUSALS:
            return f"moa: PostgreSQL refuses us ({type(exc).__name__}); check MOA_DATABASE_URL"
        exc = exc.__cause__
    return None


def _settings_line(exc: BaseException) -> str | None:
    """A setting that does not fit: its name and why. pydantic is asked only if it was loaded."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(exc, pydantic.ValidationError):
        return None
    faults = (f"MOA_{'_'.join(str(part) for part in error['loc']).upper()}: {error['msg']}" for error in exc.errors(include_input=False))
    return "moa: " + "; ".join(faults)
