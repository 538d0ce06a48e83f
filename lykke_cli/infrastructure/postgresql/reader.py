"""One read-only transaction on PostgreSQL, for short questions with small answers."""

from contextlib import suppress
from typing import Any, Self

from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import asyncpg_dsn, display_url
from lykke_cli.infrastructure.postgresql.connection import LOCAL_SETTINGS, connect
from lykke_cli.infrastructure.postgresql.engines import refuse_unfit

CLOSING = 5.0  # seconds
_BEGIN = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {LOCAL_SETTINGS}"


class PostgresReader:
    """What is fetched within one `async with` comes from one snapshot."""

    def __init__(self, url: str) -> None:
        self._dsn = asyncpg_dsn(url)
        self._display = display_url(url)
        self._connection: Any = None

    async def __aenter__(self) -> Self:
        with database_errors(self._display):
            self._connection = await connect(self._dsn)
            try:
                await self._connection.execute(_BEGIN)
                await refuse_unfit(self._connection, self._display)
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it is aborted then
                # Not terminated: a statement that was cancelled would run on in the server.
                await connection.close(timeout=CLOSING)

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        with database_errors(self._display):
            return list(await self._connection.fetch(query, *arguments))
