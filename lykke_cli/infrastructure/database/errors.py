"""The database drivers' errors, translated at the edge.

One table for raw asyncpg and sqlite3 errors, for the same wrapped by SQLAlchemy, and for what the
network raises. They are told apart by what they carry (an SQLSTATE, a SQLite result code) and by
the module of their class, so that no driver is imported for the sake of its errors.
https://www.postgresql.org/docs/current/errcodes-appendix.html
https://www.sqlite.org/rescode.html
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from socket import gaierror
from typing import NamedTuple

from lykke_cli.application.errors import (
    BadInput,
    BrokenOff,
    LoginRefused,
    ReferenceMissing,
    SchemaMismatch,
    ServerUnavailable,
    TimedOut,
)
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.tls import POSTGRES_OPTIONS, tls_reason, tls_remedy

MAX_SHOWN_REASON = 200  # characters
MAX_CHAIN = 8  # errors looked at behind the one that was raised


class Situation(NamedTuple):
    """What is raised: its text about {url} and {reason}, and the remedy."""

    kind: type[LykkeError]
    text: str
    remedy: str | None = None


_UNREACHABLE = Situation(
    ServerUnavailable,
    "Cannot reach the database at {url} ({reason}).",
    "Check that it is running and that DATABASE_URL or --database-url is right.",
)
_TOO_SLOW = Situation(
    TimedOut,
    "The database at {url} did not answer in time ({reason}).",
    "Is it overloaded or behind a firewall? Check DATABASE_URL or --database-url.",
)
_LOGIN = Situation(
    LoginRefused,
    "The database at {url} refused the login ({reason}).",
    "Check the user and the password in DATABASE_URL.",
)
_NOT_LET_IN = Situation(
    LoginRefused,
    "The database at {url} refused the login ({reason}).",
    "Check the user in DATABASE_URL, and its sslmode: where the server demands TLS it is require "
    "or verify-full.",
)
_RIGHT = Situation(
    LoginRefused,
    "The database at {url} does not permit this user to do that ({reason}).",
    "Reading needs GRANT SELECT ON audit_logs, recording GRANT INSERT as well; where a function is "
    "named, GRANT EXECUTE ON FUNCTION.",
)
_READ_ONLY = Situation(
    LoginRefused,
    "The database at {url} is read-only ({reason}).",
    "Recording needs one that can be written to: set DATABASE_URL to the primary server or a "
    "writable file.",
)
_SCHEMA = Situation(
    SchemaMismatch,
    "The database at {url} does not fit ({reason}).",
    "Check that DATABASE_URL names the application's database and that its migrations have run.",
)
_BUSY = Situation(
    ServerUnavailable,
    "The database at {url} is busy ({reason}).",
    "Try again, and look for a transaction that stays open.",
)
_BROKEN_OFF = Situation(
    BrokenOff,
    "The database at {url} broke the transaction off ({reason}).",
    "Try again. A standby does that to what reads rows which its primary has removed: there a "
    "longer max_standby_streaming_delay, or hot_standby_feedback = on, keeps it from it.",
)
_NO_FILE = Situation(
    ServerUnavailable,
    "Cannot open the database at {url} ({reason}).",
    "Check that the file exists and may be read, and that DATABASE_URL or --database-url is right.",
)
_CLOSED = Situation(
    ServerUnavailable,
    "Cannot reach the database at {url} ({reason}).",
    "Check that it is running and, where sslcert in DATABASE_URL names a client certificate, that "
    "the server trusts its authority.",
)
_DATA = Situation(BadInput, "The database at {url} refused the data ({reason}).")
_REFERENCE = Situation(
    ReferenceMissing,
    "The database at {url} refused the data ({reason}).",
    "Name a user, or an entity, that is in the database.",
)
_TWICE = Situation(BadInput, "The database at {url} holds an entry with this id ({reason}).")
_OTHER = Situation(ServerUnavailable, "The database at {url} failed ({reason}).")

# The longest prefix of the SQLSTATE decides.
_SQLSTATES: dict[str, Situation] = {
    "08": _UNREACHABLE,
    "08003": _CLOSED,  # also the end of a TLS 1.3 handshake that the server refuses
    "0P": _LOGIN,
    "22": _DATA,
    "23": _DATA,
    "23503": _REFERENCE,
    "23505": _TWICE,
    "25006": _READ_ONLY,
    "28": _LOGIN,
    "28000": _NOT_LET_IN,
    "3D": _UNREACHABLE,
    "3F": _SCHEMA,
    "40": _BUSY,
    "40001": _BROKEN_OFF,
    "42501": _RIGHT,
    "42703": _SCHEMA,  # undefined column
    "42704": _SCHEMA,
    "42804": _SCHEMA,
    "42883": _SCHEMA,  # undefined function or operator: a column of an unexpected type
    "428C9": _SCHEMA,  # a generated column
    "42P01": _SCHEMA,  # undefined table
    "53": _BUSY,
    "55P03": _BUSY,
    "57": _UNREACHABLE,  # shutting down, starting up
    "57014": _TOO_SLOW,  # statement time-out
}

# The longest prefix of the result code's name decides.
_SQLITE_CODES: dict[str, Situation] = {
    "SQLITE_AUTH": _RIGHT,
    "SQLITE_BUSY": _BUSY,
    "SQLITE_CANTOPEN": _NO_FILE,
    "SQLITE_CONSTRAINT": _DATA,
    "SQLITE_CONSTRAINT_FOREIGNKEY": _REFERENCE,
    "SQLITE_CONSTRAINT_PRIMARYKEY": _TWICE,
    "SQLITE_CONSTRAINT_UNIQUE": _TWICE,
    "SQLITE_CORRUPT": _SCHEMA,
    "SQLITE_ERROR": _SCHEMA,  # our statements are right: a table or a column is missing
    "SQLITE_LOCKED": _BUSY,
    "SQLITE_MISMATCH": _DATA,
    "SQLITE_NOTADB": _SCHEMA,
    "SQLITE_PERM": _NO_FILE,
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_SCHEMA": _SCHEMA,
    "SQLITE_TOOBIG": _DATA,
}

# The connection was lost, the server went down, or it does not know itself.
_UNANSWERED = ("08", "57P", "40003")

# After these, too, another attempt may get on, where a transaction had begun.
_LOST = ("08", "40001", "57P01", "57P02")
_LOST_CLASSES = {
    "asyncpg.InterfaceError",
    "asyncpg.InternalClientError",
    "builtins.ConnectionError",
}

# Errors without a code, by package and name of their class and its bases; the most derived decides.
_CLASSES: dict[str, Situation] = {
    "asyncpg.InterfaceError": _UNREACHABLE,  # such as: the connection is closed
    "asyncpg.InternalClientError": _UNREACHABLE,
    "sqlite3.OperationalError": _OTHER,
    "sqlite3.DatabaseError": _OTHER,
    "sqlalchemy.TimeoutError": _BUSY,  # no connection of the pool became free
    "sqlalchemy.DBAPIError": _OTHER,
    "builtins.TimeoutError": _TOO_SLOW,
    "builtins.OSError": _UNREACHABLE,
}


@contextmanager
def database_errors(url_for_display: str) -> Iterator[None]:
    """Translate what a database driver raises; `url_for_display` is shown as it is.

    Raises ServerUnavailable, LoginRefused, SchemaMismatch, ReferenceMissing or BadInput, chained to
    the driver's error. Anything that does not come from a driver or the network passes unchanged.
    """
    try:
        yield
    except LykkeError:
        raise
    except Exception as error:
        chain = list(_chain(error))
        found = _by_code(chain) or _by_class(chain)
        if found is None:
            raise
        situation, cause = found
        text = situation.text.format(url=url_for_display, reason=_reason(cause))
        raise situation.kind(text, remedy=_remedy(situation, cause)) from error


def is_unanswered(error: BaseException) -> bool:
    """True when the statement was sent and the server did not say what became of it."""
    for cause in reversed(list(_chain(error))):
        sqlstate = getattr(cause, "sqlstate", None)
        if isinstance(sqlstate, str):
            return sqlstate.startswith(_UNANSWERED)
        if isinstance(cause, OSError):
            return True
    return False


def broken_off(error: BaseException, url_for_display: str) -> BrokenOff | None:
    """What to raise for an error within a transaction that was lost, for now; else None.

    Where the server says farewell to a connection that is idle, asyncpg knows no more of it than
    that it does not work.
    """
    for cause in reversed(list(_chain(error))):
        sqlstate = getattr(cause, "sqlstate", None)
        classes = {_name(kind) for kind in type(cause).__mro__}
        lost = sqlstate.startswith(_LOST) if isinstance(sqlstate, str) else classes & _LOST_CLASSES
        if lost:
            text = _BROKEN_OFF.text.format(url=url_for_display, reason=_reason(cause))
            return BrokenOff(text, remedy=_BROKEN_OFF.remedy)
    return None


@contextmanager
def unreadable_rows(url_for_display: str) -> Iterator[None]:
    """Raises BadInput where a row has an id that is not a UUID, or no time at all."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(
            f"The database at {url_for_display} has a row in audit_logs that is no entry ({error})."
            " Leave it out with --since, --until or another filter."
        ) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those it wraps."""
    current: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if current is None:
            return
        yield current
        wrapped = getattr(current, "orig", None)
        current = wrapped if isinstance(wrapped, BaseException) else current.__cause__


def _by_code(chain: list[BaseException]) -> tuple[Situation, BaseException] | None:
    for error in reversed(chain):
        sqlstate = getattr(error, "sqlstate", None)
        if isinstance(sqlstate, str):
            return _longest_prefix(_SQLSTATES, sqlstate), error
        name = getattr(error, "sqlite_errorname", None)
        if isinstance(name, str):
            return _longest_prefix(_SQLITE_CODES, name), error
    return None


def _by_class(chain: list[BaseException]) -> tuple[Situation, BaseException] | None:
    for error in reversed(chain):
        for kind in type(error).__mro__:
            situation = _CLASSES.get(_name(kind))
            if situation is not None:
                return situation, error
    return None


def _name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _longest_prefix(table: dict[str, Situation], code: str) -> Situation:
    fitting = [prefix for prefix in table if code.startswith(prefix)]
    return table[max(fitting, key=len)] if fitting else _OTHER


def _remedy(situation: Situation, cause: BaseException) -> str | None:
    if isinstance(cause, ssl.SSLError):
        return tls_remedy(cause, POSTGRES_OPTIONS)
    if type(cause) is ConnectionError:  # asyncpg's, where the server declines to speak TLS
        return "Check that it is running, and speaks TLS where sslmode in DATABASE_URL asks for it."
    return situation.remedy


def _reason(error: BaseException) -> str:
    """The driver's own words on one line; no driver puts a password there."""
    if isinstance(error, ssl.SSLError):
        text = tls_reason(error)
    elif isinstance(error, gaierror):
        text = error.strerror or "the name is not known"
    elif isinstance(error, ConnectionRefusedError):
        text = "connection refused"
    elif isinstance(error, TimeoutError):
        text = "timed out"
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    else:
        text = str(error)
    line = text.strip().partition("\n")[0].rstrip(".")
    return line[:MAX_SHOWN_REASON] or type(error).__name__
