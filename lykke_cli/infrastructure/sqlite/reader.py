"""One read transaction on a SQLite file, for short questions with small answers."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Self
from urllib.parse import quote

from lykke_cli.application.errors import BadInput, ServerUnavailable
from lykke_cli.application.messages import parse_wire_time
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import (
    BUSY_TIMEOUT,
    STATEMENT_TIMEOUT,
    display_url,
    sqlite_path,
)

# SQLite checks no text: what is no UTF-8 is shown by its bytes.
as_text = partial(str, encoding="utf-8", errors="backslashreplace")


class SqliteReader:
    """What is fetched within one `async with` comes from one snapshot."""

    def __init__(self, url: str) -> None:
        self._path = sqlite_path(url)
        self._display = display_url(url)
        self._connection: Any = None

    async def __aenter__(self) -> Self:
        import aiosqlite

        if not self._path.is_file():
            raise ServerUnavailable(
                f"There is no database file {self._path}.",
                remedy="Set DATABASE_URL or give --database-url.",
            )
        with database_errors(self._display):
            # mode=ro: a wrong path is an error, never a new and empty database.
            uri = f"file:{quote(str(self._path))}?mode=ro"
            self._connection = await aiosqlite.connect(
                uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT
            )
            self._connection.text_factory = as_text
            try:
                await self._connection.execute("BEGIN")
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.interrupt()  # what runs in its thread when we are cancelled
            await connection.close()

    async def fetch(self, query: str, arguments: dict[str, object]) -> list[tuple[Any, ...]]:
        with database_errors(self._display):
            async with asyncio.timeout(STATEMENT_TIMEOUT):
                return list(await self._connection.execute_fetchall(query, arguments))

    async def define(self, name: str, function: Callable[[Any], Any]) -> None:
        """A function of one argument for statements to use."""
        with database_errors(self._display):
            await self._connection.create_function(name, 1, function, deterministic=True)

    def moment(self, stored: str) -> datetime:
        """The time in a stored text; raises BadInput when it is not a time."""
        try:
            return parse_wire_time(stored)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"The database at {self._display} has an entry with {str(stored)[:40]!r} for a "
                "time."
            ) from error
