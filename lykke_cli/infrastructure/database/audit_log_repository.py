"""Reading audit logs as entities, by streaming."""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.database.audit_log_table import AuditLogTable, find_table
from lykke_cli.infrastructure.database.errors import database_errors

ROWS_AT_ONCE = 500


class AuditLogRepository:
    """Reads through a connection of the caller's, in its transaction; SELECT rights are enough."""

    def __init__(self, connection: AsyncConnection, table: AuditLogTable | None = None) -> None:
        self._connection = connection
        self._table = table
        self._server = connection.engine.url.render_as_string(hide_password=True)

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
    ) -> AsyncGenerator[AuditLogEntity, None]:
        """The entries that match all that is given, by (occurred_at, id).

        `since` is inclusive, `until` exclusive, both time-zone aware. Memory is flat in the number
        of rows. Raises ServerUnavailable, LoginRefused or SchemaMismatch.
        """
        with database_errors(self._server):
            if self._table is None:
                self._table = await find_table(self._connection)
            table = self._table
            query = _select(table, newest_first=newest_first).limit(limit)
            columns = table.table.c
            if user_id is not None:
                query = query.where(columns.user_id == user_id)
            if since is not None:
                query = query.where(columns.occurred_at >= table.stored(since))
            if until is not None:
                query = query.where(columns.occurred_at < table.stored(until))
            if activity_types:
                query = query.where(columns.activity_type.in_(activity_types))
            if entity_type is not None:
                query = query.where(columns.entity_type == entity_type)
            if entity_id is not None:
                query = query.where(columns.entity_id == entity_id)
            options = {"yield_per": ROWS_AT_ONCE}
            async with self._connection.stream(query, execution_options=options) as rows:
                async for row in rows:
                    yield table.entity(row)


def _select(table: AuditLogTable, *, newest_first: bool) -> Select[tuple[object, ...]]:
    columns = table.table.c
    order = (columns.occurred_at, columns.id)
    return select(table.table).order_by(*(c.desc() if newest_first else c.asc() for c in order))
