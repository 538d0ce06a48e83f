"""Reading audit log entries as entities, by streaming, with SELECT rights alone."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from lykke_cli.application.errors import UsageMistake
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.database.audit_log_table import AuditLogTable, audit_log_table
from lykke_cli.infrastructure.database.engine import display_engine
from lykke_cli.infrastructure.database.errors import database_errors

CHUNK_ROWS = 500  # rows held in memory at a time


class AuditLogRepository:
    """The entries of one database, or of one transaction.

    `database` is an engine, of which each `find` uses a connection of its own, or an open
    connection, whose uncommitted rows it sees. `display` names the database in errors, in place of
    the engine's URL without its password. `on_error` is called when a read fails, which on
    PostgreSQL leaves the connection's transaction without a future.
    """

    def __init__(
        self,
        database: AsyncEngine | AsyncConnection,
        *,
        display: str | None = None,
        on_error: Callable[[], None] | None = None,
    ) -> None:
        self._database = database
        engine = database if isinstance(database, AsyncEngine) else database.engine
        self._display = display or display_engine(engine)
        self._on_error = on_error

    async def find(
        self,
        user_id: UUID | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        activity_types: Sequence[str] = (),
        entity_type: str | None = None,
        entity_id: UUID | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[AuditLogEntity]:
        """The entries that fit, in the order of (occurred_at, id), streamed.

        `user_id` None finds every user's; `since` is inclusive, `until` exclusive, both aware;
        `activity_types` are alternatives, exactly as stored. Meta that is not a JSON object comes
        as `{"value": ...}`. Leave the loop early only inside `contextlib.aclosing`, which gives the
        connection back at once.

        Raises ServerUnavailable, LoginRefused, SchemaMismatch; BadInput for a row that is no
        entry; UsageMistake for a naive time or a negative limit.
        """
        if limit is not None and limit < 0:
            raise UsageMistake("The limit must not be negative.")
        types = (activity_types,) if isinstance(activity_types, str) else tuple(activity_types)
        async with self._connection() as connection:
            table = await audit_log_table(connection, self._display)
            query = _narrowed(table, user_id, since, until, types, entity_type, entity_id)
            rows = await connection.stream(
                _ordered(table, query, newest_first).limit(limit),
                execution_options={"yield_per": CHUNK_ROWS},
            )
            try:
                async for row in rows:
                    yield table.entity(row)
            finally:
                await rows.close()

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[AsyncConnection]:
        with database_errors(self._display):
            try:
                if isinstance(self._database, AsyncConnection):
                    yield self._database
                else:
                    async with self._database.connect() as connection:
                        yield connection
            except GeneratorExit:
                raise  # the reader had enough: nothing is wrong
            except BaseException:
                if self._on_error is not None:
                    self._on_error()
                raise


def _narrowed(
    table: AuditLogTable,
    user_id: UUID | None,
    since: datetime | None,
    until: datetime | None,
    activity_types: tuple[str, ...],
    entity_type: str | None,
    entity_id: UUID | None,
) -> sa.Select[Any]:
    columns = table.table.c
    query = table.select()
    if user_id is not None:
        query = query.where(table.is_id("user_id", user_id))
    if since is not None:
        query = query.where(columns.occurred_at >= table.moment(since))
    if until is not None:
        query = query.where(columns.occurred_at < table.moment(until))
    if activity_types:
        query = query.where(columns.activity_type.in_(activity_types))
    if entity_type is not None:
        query = query.where(columns.entity_type == entity_type)
    if entity_id is not None:
        query = query.where(table.is_id("entity_id", entity_id))
    return query


def _ordered(table: AuditLogTable, query: sa.Select[Any], newest_first: bool) -> sa.Select[Any]:
    order = [table.table.c.occurred_at, table.table.c.id]
    return query.order_by(*(column.desc() if newest_first else column.asc() for column in order))
