"""One read transaction on a SQLite file, for short questions with small answers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self
from urllib.parse import quote

import orjson

from lykke_cli.application.errors import BadInput, ServerUnavailable
from lykke_cli.application.gateways.statistics_protocol import Scope
from lykke_cli.application.messages import parse_wire_time
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.urls import (
    BUSY_TIMEOUT,
    STATEMENT_TIMEOUT,
    display_url,
    sqlite_path,
)

# Ids are stored with or without dashes, times as text without a zone: both sorted as text.
IN_SCOPE = """
    (:user IS NULL OR user_id IN (:user, :user_hex))
    AND (:types IS NULL OR activity_type IN (SELECT value FROM json_each(:types)))
    AND (:entity_type IS NULL OR entity_type = :entity_type)
    AND (:entity IS NULL OR entity_id IN (:entity, :entity_hex))
    AND (:since IS NULL OR occurred_at >= :since)
    AND (:until IS NULL OR occurred_at < :until)
"""
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


def in_scope(scope: Scope) -> dict[str, object]:
    selection = scope.selection
    user, entity, types = selection.user_id, selection.entity_id, selection.activity_types
    return {
        "user": None if user is None else str(user),
        "user_hex": None if user is None else user.hex,
        "types": orjson.dumps(list(types)).decode() if types else None,
        "entity_type": selection.entity_type,
        "entity": None if entity is None else str(entity),
        "entity_hex": None if entity is None else entity.hex,
        "since": _stored(scope.since),
        "until": _stored(scope.until),
    }


def _stored(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
