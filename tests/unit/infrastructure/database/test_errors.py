"""The whole table by which drivers' errors become ours."""

import asyncio
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import aiosqlite
import asyncpg
import pytest
import sqlalchemy.exc

from lykke_cli.application.errors import (
    BadInput,
    BrokenOff,
    LoginRefused,
    ReferenceMissing,
    SchemaMismatch,
    ServerUnavailable,
    TimedOut,
    UsageMistake,
)
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.database.errors import broken_off, database_errors

URL = "postgresql://ann@db:5432/app"
REMEDY = "DATABASE_URL"

SQLSTATES = [
    ("08003", ServerUnavailable, "sslcert"),
    ("08006", ServerUnavailable, "Cannot reach"),
    ("0P000", LoginRefused, "refused the login"),
    ("22001", BadInput, "refused the data"),
    ("22P05", BadInput, "refused the data"),
    ("23502", BadInput, "refused the data"),
    ("23503", ReferenceMissing, "refused the data"),
    ("23505", BadInput, "holds an entry with this id"),
    ("25006", LoginRefused, "read-only"),
    ("28000", LoginRefused, "refused the login"),
    ("28P01", LoginRefused, "refused the login"),
    ("3D000", ServerUnavailable, "Cannot reach"),
    ("3F000", SchemaMismatch, "does not fit"),
    ("40001", BrokenOff, "broke the transaction off"),
    ("40P01", ServerUnavailable, "busy"),
    ("42501", LoginRefused, "GRANT SELECT"),
    ("42601", ServerUnavailable, "failed"),
    ("42703", SchemaMismatch, "migrations"),
    ("42704", SchemaMismatch, "migrations"),
    ("42804", SchemaMismatch, "migrations"),
    ("42883", SchemaMismatch, "migrations"),
    ("428C9", SchemaMismatch, "migrations"),
    ("42P01", SchemaMismatch, "migrations"),
    ("53300", ServerUnavailable, "busy"),
    ("55P03", ServerUnavailable, "busy"),
    ("57014", TimedOut, "in time"),
    ("57P01", ServerUnavailable, "Cannot reach"),
    ("57P03", ServerUnavailable, "Cannot reach"),
    ("XX000", ServerUnavailable, "failed"),
]
SQLITE_NAMES = [
    ("SQLITE_AUTH", LoginRefused, "does not permit"),
    ("SQLITE_BUSY", ServerUnavailable, "busy"),
    ("SQLITE_BUSY_SNAPSHOT", ServerUnavailable, "busy"),
    ("SQLITE_CANTOPEN", ServerUnavailable, "Check that the file exists"),
    ("SQLITE_CONSTRAINT_FOREIGNKEY", ReferenceMissing, "refused the data"),
    ("SQLITE_CONSTRAINT_NOTNULL", BadInput, "refused the data"),
    ("SQLITE_CONSTRAINT_PRIMARYKEY", BadInput, "this id"),
    ("SQLITE_CONSTRAINT_UNIQUE", BadInput, "this id"),
    ("SQLITE_CORRUPT", SchemaMismatch, "does not fit"),
    ("SQLITE_ERROR", SchemaMismatch, "migrations"),
    ("SQLITE_FULL", ServerUnavailable, "failed"),
    ("SQLITE_IOERR_READ", ServerUnavailable, "failed"),
    ("SQLITE_LOCKED", ServerUnavailable, "busy"),
    ("SQLITE_MISMATCH", BadInput, "refused the data"),
    ("SQLITE_NOTADB", SchemaMismatch, "does not fit"),
    ("SQLITE_PERM", ServerUnavailable, "Check that the file"),
    ("SQLITE_READONLY", LoginRefused, "read-only"),
    ("SQLITE_SCHEMA", SchemaMismatch, "does not fit"),
    ("SQLITE_TOOBIG", BadInput, "refused the data"),
]
OTHERS: list[tuple[Exception, type[LykkeError], str]] = [
    (ConnectionRefusedError(111, "Connection refused"), ServerUnavailable, "connection refused"),
    (ConnectionResetError(), ServerUnavailable, "(ConnectionResetError)"),
    (FileNotFoundError(2, "No such file or directory"), ServerUnavailable, "No such file"),
    (socket.gaierror(-2, "Name or service not known"), ServerUnavailable, "Name or service"),
    (TimeoutError(), TimedOut, "in time (timed out)"),
    (asyncpg.InterfaceError("connection is closed"), ServerUnavailable, "connection is closed"),
    (asyncpg.InternalClientError("odd"), ServerUnavailable, "Cannot reach"),
    (sqlite3.OperationalError("Connection closed"), ServerUnavailable, "failed"),
    (sqlalchemy.exc.TimeoutError("QueuePool limit"), ServerUnavailable, "busy"),
]


def _postgres(sqlstate: str) -> Exception:
    error: Exception = asyncpg.PostgresError.new({"C": sqlstate, "M": "the reason\nmore"})
    return error


def _sqlite(name: str) -> Exception:
    error = sqlite3.OperationalError("the reason")
    error.sqlite_errorname = name
    return error


def _wrapped(error: BaseException) -> Exception:
    return sqlalchemy.exc.DBAPIError("SELECT secret", {"p": "secret"}, error)


def _raised(error: BaseException) -> LykkeError:
    with pytest.raises(LykkeError) as caught, database_errors(URL):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize("wrap", [lambda error: error, _wrapped], ids=["raw", "wrapped"])
@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [(_postgres(code), kind, text) for code, kind, text in SQLSTATES]
    + [(_sqlite(name), kind, text) for name, kind, text in SQLITE_NAMES]
    + OTHERS,
    ids=[case[0] for case in SQLSTATES + SQLITE_NAMES] + [repr(case[0]) for case in OTHERS],
)
def test_each_error_becomes_a_situation_with_a_remedy(
    error: BaseException,
    kind: type[LykkeError],
    text: str,
    wrap: Callable[[BaseException], BaseException],
) -> None:
    ours = _raised(wrap(error))
    assert type(ours) is kind
    assert text in str(ours)
    assert URL in str(ours)
    assert "secret" not in str(ours)
    assert "\n" not in str(ours)


@pytest.mark.parametrize(
    ("error", "may_get_on"),
    [
        (_postgres("40001"), True),
        (_postgres("57P01"), True),
        (_postgres("08006"), True),
        (asyncpg.InternalClientError("cannot switch to state 12"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (ConnectionResetError(), True),
        (_postgres("57014"), False),
        (_postgres("42P01"), False),
        (TimeoutError(), False),
        (KeyError("x"), False),
    ],
    ids=repr,
)
def test_a_transaction_that_was_lost_is_told_from_one_that_cannot_be_done(
    error: BaseException, may_get_on: bool
) -> None:
    found = broken_off(error, URL)
    assert (found is not None) is may_get_on
    assert found is None or (URL in str(found) and "Try again" in str(found))


def test_every_known_code_is_in_the_tables_above() -> None:
    from lykke_cli.infrastructure.database import errors

    covered = [code for code, *_ in SQLSTATES]
    for prefix in errors._SQLSTATES:
        assert any(code.startswith(prefix) for code in covered), prefix
    names = [name for name, *_ in SQLITE_NAMES]
    for prefix in errors._SQLITE_CODES:
        assert any(name.startswith(prefix) for name in names), prefix


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), UsageMistake("mine"), asyncio.CancelledError(), ValueError("a bug")],
    ids=repr,
)
def test_anything_else_passes_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, database_errors(URL):
        raise error
    assert caught.value is error


def test_a_long_reason_is_cut() -> None:
    assert len(str(_raised(OSError(5, "x" * 10_000)))) < 500


def test_a_missing_sqlite_file(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="Cannot open"), database_errors("sqlite:///x"):
        sqlite3.connect(f"file:{tmp_path}/gone?mode=ro", uri=True)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear Ann, " * 200)
    async with aiosqlite.connect(path) as connection:
        with pytest.raises(SchemaMismatch, match="not a database"), database_errors("sqlite:///x"):
            await connection.execute("SELECT * FROM audit_logs")


async def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(ServerUnavailable, match="Cannot reach"), database_errors(URL):
        await asyncpg.connect("postgresql://ann@nobody.invalid/app", timeout=5)


async def test_a_port_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ServerUnavailable, match="refused"), database_errors(URL):
            await asyncpg.connect(f"postgresql://ann@127.0.0.1:{port}/app", timeout=5)
