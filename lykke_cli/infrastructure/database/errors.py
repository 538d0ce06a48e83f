"""The drivers' errors, translated at the edge.

They are told apart by SQLSTATE and by built-in types, so that no driver is imported here:
https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from lykke_cli.application.errors import LoginRefused, SchemaMismatch, ServerUnavailable
from lykke_cli.domain.errors import LykkeError

_REMEDY = "Set DATABASE_URL or give --database-url."
_LOGIN = {"28000", "28P01"}
_NO_DATABASE = "3D000"
_NO_RIGHT = "42501"
_SCHEMA = {"42P01", "42703", "3F000"}  # no such table, column, schema
_AWAY_CLASSES = ("08", "53", "57", "58", "XX", "25")  # connection, resources, operator, system


@contextmanager
def database_errors(server: str) -> Iterator[None]:
    """Translate what drivers and SQLAlchemy raise; `server` is the URL as it may be shown."""
    try:
        yield
    except LykkeError:
        raise
    except Exception as error:
        translated = translate(error, server)
        if translated is None:
            raise
        raise translated from error


def translate(error: BaseException, server: str) -> ServerUnavailable | None:
    """The error a caller can act on; None for one that is not the database's."""
    for cause in _chain(error):
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            return _of_state(state, cause, server)
        if isinstance(cause, sqlite3.Error):
            return _of_sqlite(cause, server)
        if isinstance(cause, TimeoutError):
            return ServerUnavailable(
                f"The database at {server} did not answer in time. Is it overloaded or behind a "
                f"firewall? {_REMEDY}"
            )
        if isinstance(cause, OSError):
            reason = cause.strerror or str(cause)
            return ServerUnavailable(
                f"Cannot reach the database at {server} ({reason.lower()}). Is it running? "
                f"{_REMEDY}"
            )
        if type(cause).__module__.startswith("asyncpg.") and "onnection" in type(cause).__name__:
            return ServerUnavailable(f"The connection to the database at {server} was lost.")
        if type(cause).__module__.startswith("asyncpg."):
            return ServerUnavailable(f"The database at {server} cannot be used: {_text(cause)}.")
    return None


def _of_state(state: str, error: BaseException, server: str) -> ServerUnavailable | None:
    if state in _LOGIN:
        return LoginRefused(
            f"The database at {server} refused the login. Check the user and the password in "
            "DATABASE_URL."
        )
    if state == _NO_DATABASE:
        return ServerUnavailable(
            f"The database at {server} does not exist on that server. Check its name. {_REMEDY}"
        )
    if state == _NO_RIGHT:
        return LoginRefused(
            f"The database at {server} does not permit this ({_text(error)}). Reading needs: "
            "GRANT SELECT ON audit_logs TO the role."
        )
    if state in _SCHEMA:
        return SchemaMismatch(
            f"The database at {server} has no audit log as expected ({_text(error)}). "
            "Is it the application's database?"
        )
    if state.startswith(_AWAY_CLASSES):
        return ServerUnavailable(f"The database at {server} is away ({_text(error)}).")
    return None


def _of_sqlite(error: sqlite3.Error, server: str) -> ServerUnavailable:
    text = _text(error)
    if "no such table" in text or "no such column" in text or "has no column" in text:
        return SchemaMismatch(
            f"The database at {server} has no audit log as expected ({text}). "
            "Is it the application's database?"
        )
    return ServerUnavailable(f"Cannot use the database at {server} ({text}). {_REMEDY}")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what SQLAlchemy wraps in it, and its causes."""
    current: BaseException | None = error
    while current is not None:
        yield current
        original = getattr(current, "orig", None)
        current = original if isinstance(original, BaseException) else current.__cause__


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
