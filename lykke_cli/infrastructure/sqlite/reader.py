"""One read transaction on a SQLite file, for short questions with small answers."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Self

from lykke_cli.application.errors import BadInput
from lykke_cli.application.messages import parse_wire_time
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import BUSY_TIMEOUT, display_url, sqlite_path
from lykke_cli.infrastructure.sqlite.connection import close, fetch_all, open_read_only


class SqliteReader:
    """What is fetched within one `async with` comes from one snapshot."""

    def __init__(self, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._path = sqlite_path(url)
        self._display = display_url(url)
        self._busy_timeout = busy_timeout
        self._connection: Any = None

    async def __aenter__(self) -> Self:
        with database_errors(self._display):
            self._connection = await open_read_only(self._path, busy_timeout=self._busy_timeout)
            try:
                await self._connection.execute("BEGIN")
            except BaseException:
                await self.__aexit__()
                raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        await close(connection)

    async def fetch(
        self, query: str, arguments: Mapping[str, object] | None = None
    ) -> list[tuple[Any, ...]]:
        with database_errors(self._display):
            return await fetch_all(self._connection, query, arguments)

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
