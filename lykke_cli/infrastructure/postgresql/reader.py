"""One read-only transaction on PostgreSQL, for short questions with small answers.

As in `history.py`, SELECT rights and PgBouncer in transaction mode are enough: no named
statement, no setting that outlives the transaction.
"""

from typing import Any, Self

from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import (
    CONNECT_TIMEOUT,
    STATEMENT_TIMEOUT,
    asyncpg_dsn,
    display_url,
)


class PostgresReader:
    """What is fetched within one `async with` comes from one snapshot."""

    def __init__(self, url: str) -> None:
        self._dsn = asyncpg_dsn(url)
        self._display = display_url(url)
        self._connection: Any = None

    async def __aenter__(self) -> Self:
        import asyncpg

        with database_errors(self._display):
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT,
                command_timeout=STATEMENT_TIMEOUT,
                statement_cache_size=0,
                server_settings={"application_name": "lykke"},
            )
            try:
                await self._connection.execute(
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"
                    f"SET LOCAL statement_timeout = {int(STATEMENT_TIMEOUT * 1000)};"
                    "SET LOCAL TimeZone = 'UTC'"
                )
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()  # nothing to be committed

    async def fetch(self, query: str, *arguments: object) -> list[Any]:
        with database_errors(self._display):
            return list(await self._connection.fetch(query, *arguments))
