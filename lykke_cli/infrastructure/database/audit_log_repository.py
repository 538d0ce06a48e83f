"""Reading audit log entries as entities, by streaming, with SELECT rights alone."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
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
PAGE_ROWS = 50


@dataclass(frozen=True, slots=True)
class AuditLogPage:
    """Some of the entries that were searched for, and how many there are."""

    entries: list[AuditLogEntity]
    total: int
    """How many fit, on all pages together."""
    limit: int
    """How many there are on a page at most."""
    offset: int
    """How many that fit come before this page."""


class AuditLogRepository:
    """The entries of one database, or of one transaction.

    `database` is an engine, of which each call uses a connection of its own, or an open
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
        as `{"value": ...}`, and none as `{}`. Leave the loop early only inside
        `contextlib.aclosing`, which gives the connection back at once.

        Raises ServerUnavailable, LoginRefused, SchemaMismatch; BadInput for a row that is no
        entry; UsageMistake for a naive time or a negative limit.
        """
        _check_not_negative(limit=limit)
        async with self._table() as (connection, table):
            query = _narrowed(table, user_id, since, until, activity_types, entity_type, entity_id)
            rows = await connection.stream(
                _ordered(table, query, newest_first).limit(limit),
                execution_options={"yield_per": CHUNK_ROWS},
            )
            try:
                async for row in rows:
                    yield table.entity(row)
            finally:
                await rows.close()

    async def get(self, id: UUID) -> AuditLogEntity | None:
        """The entry with this id, or None. Raises as `find` does."""
        async with self._table() as (connection, table):
            row = (await connection.execute(table.select().where(table.is_id("id", id)))).first()
        return None if row is None else table.entity(row)

    async def search(
        self,
        user_id: UUID | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        activity_types: Sequence[str] = (),
        entity_type: str | None = None,
        entity_id: UUID | None = None,
        newest_first: bool = False,
        limit: int = PAGE_ROWS,
        offset: int = 0,
    ) -> AuditLogPage:
        """A page of what `find` finds: `limit` entries after the first `offset`, and the total.

        Both are of one moment. Raises as `find` does.
        """
        _check_not_negative(limit=limit, offset=offset)
        async with self._table() as (connection, table):
            query = _narrowed(table, user_id, since, until, activity_types, entity_type, entity_id)
            page = _ordered(table, query, newest_first).limit(limit).offset(offset).subquery()
            count = sa.select(sa.func.count().label("total")).select_from(query.subquery())
            total = count.subquery()
            # One statement sees one state; the join keeps the total where the page is empty.
            paged = sa.select(total.c.total, page).select_from(
                total.outerjoin(page, sa.literal(1) == 1)
            )
            order = _order(page.c, newest_first)
            rows = (await connection.execute(paged.order_by(*order))).all()
        entries = [table.entity(row[1:]) for row in rows if row.id is not None]
        return AuditLogPage(entries, rows[0].total, limit, offset)

    @asynccontextmanager
    async def _table(self) -> AsyncGenerator[tuple[AsyncConnection, AuditLogTable]]:
        with database_errors(self._display):
            try:
                async with AsyncExitStack() as stack:
                    connection = self._database
                    if isinstance(connection, AsyncEngine):
                        connection = await stack.enter_async_context(connection.connect())
                    yield connection, await audit_log_table(connection, self._display)
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
    activity_types: Sequence[str],
    entity_type: str | None,
    entity_id: UUID | None,
) -> sa.Select[Any]:
    columns = table.table.c
    types = (activity_types,) if isinstance(activity_types, str) else tuple(activity_types)
    query = table.select()
    if user_id is not None:
        query = query.where(table.is_id("user_id", user_id))
    if since is not None:
        query = query.where(columns.occurred_at >= table.moment(since))
    if until is not None:
        query = query.where(columns.occurred_at < table.moment(until))
    if types:
        query = query.where(columns.activity_type.in_(types))
    if entity_type is not None:
        query = query.where(columns.entity_type == entity_type)
    if entity_id is not None:
        query = query.where(table.is_id("entity_id", entity_id))
    return query


def _ordered(table: AuditLogTable, query: sa.Select[Any], newest_first: bool) -> sa.Select[Any]:
    return query.order_by(*_order(table.table.c, newest_first))


def _order(columns: Any, newest_first: bool) -> list[sa.UnaryExpression[Any]]:
    order = (columns.occurred_at, columns.id)
    return [column.desc() if newest_first else column.asc() for column in order]


def _check_not_negative(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 0:
            raise UsageMistake(f"The {name} must not be negative.")
