"""Opening a SQLite file, for reading only."""

import asyncio
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosqlite

from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.infrastructure.database.urls import BUSY_TIMEOUT, STATEMENT_TIMEOUT

COLUMN_NAMES = "SELECT name FROM pragma_table_info('audit_logs')"
# SQLite checks no text: bytes that are no UTF-8 are shown as escapes.
as_text = partial(str, encoding="utf-8", errors="backslashreplace")


def identify_file(path: Path) -> str:
    """What tells the file apart from others of its name; raises ServerUnavailable if it is none."""
    if not path.is_file():
        raise ServerUnavailable(
            f"There is no database file {path}.",
            remedy="Set DATABASE_URL or give --database-url.",
        )
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"


async def open_read_only(path: Path, *, busy_timeout: float = BUSY_TIMEOUT) -> aiosqlite.Connection:
    """A connection to the file; every statement is a transaction of its own until one begins.

    `busy_timeout` is how many seconds it waits for another process's lock. Raises ServerUnavailable
    when there is no file, and what the driver raises.
    """
    identify_file(path)
    # mode=ro: a wrong path is an error, never a new and empty database.
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = await aiosqlite.connect(uri, uri=True, isolation_level=None, timeout=busy_timeout)
    connection.text_factory = as_text
    return connection


async def close(connection: aiosqlite.Connection | None) -> None:
    """Close it, if it is one, at once: whatever runs in its thread is interrupted."""
    if connection is not None:
        await connection.interrupt()
        await connection.close()


def in_time() -> asyncio.Timeout:
    """What ends a statement, or one fetch of its rows, that takes too long."""
    return asyncio.timeout(STATEMENT_TIMEOUT)


async def fetch_all(
    connection: aiosqlite.Connection, query: str, arguments: Mapping[str, Any] | None = None
) -> list[Any]:
    """All rows of a statement, as tuples; raises what the driver raises, and TimeoutError."""
    async with in_time():
        return list(await connection.execute_fetchall(query, arguments))
