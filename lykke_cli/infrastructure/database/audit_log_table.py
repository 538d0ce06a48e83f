"""The application's table as SQLAlchemy sees it, in the variants found in the wild.

What is there is asked of the database, once for each engine; nothing is ever altered.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Date,
    DateTime,
    MetaData,
    String,
    Table,
    Uuid,
    inspect,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection
from sqlalchemy.exc import NoSuchTableError
from sqlalchemy.ext.asyncio import AsyncConnection

from lykke_cli.application.errors import SchemaMismatch
from lykke_cli.domain.audit_log import AuditLogEntity

NAME = "audit_logs"
_JSON = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_NEEDED = ("id", "user_id", "activity_type", "occurred_at", "entity_id", "entity_type", "meta")


@dataclass(frozen=True, slots=True)
class AuditLogTable:
    """One database's table."""

    table: Table
    has_date: bool
    keeps_zone: bool
    """`occurred_at` is timestamptz; otherwise it holds UTC without a zone."""

    def row(self, entity: AuditLogEntity) -> dict[str, Any]:
        """The values to insert."""
        moment = entity.occurred_at
        values: dict[str, Any] = {
            "id": entity.id,
            "user_id": entity.user_id,
            "activity_type": entity.activity_type,
            "occurred_at": moment if self.keeps_zone else self.stored(moment),
            "entity_id": entity.entity_id,
            "entity_type": entity.entity_type,
            "meta": None if entity.meta is None else dict(entity.meta),
        }
        if self.has_date:
            values["date"] = moment.date()
        return values

    def entity(self, row: Any) -> AuditLogEntity:
        """The entity in a row of this table.

        A `meta` that is not an object stands under the key `value`: an entity's is a mapping.
        """
        moment, meta = row.occurred_at, row.meta
        return AuditLogEntity(
            id=row.id,
            user_id=row.user_id,
            activity_type=row.activity_type,
            occurred_at=moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment,
            entity_id=row.entity_id,
            entity_type=row.entity_type,
            meta=meta if meta is None or isinstance(meta, dict) else {"value": meta},
        )

    def stored(self, moment: datetime) -> datetime:
        """`moment` as the column compares it."""
        moment = moment.astimezone(UTC)
        return moment if self.keeps_zone else moment.replace(tzinfo=None)


async def find_table(connection: AsyncConnection) -> AuditLogTable:
    """Look at the table; raises SchemaMismatch when it or a column is missing."""
    return await connection.run_sync(_inspect)


def _inspect(connection: Connection) -> AuditLogTable:
    try:
        columns = {column["name"]: column for column in inspect(connection).get_columns(NAME)}
    except NoSuchTableError:
        raise SchemaMismatch(
            f"The database has no table {NAME}: is it the application's database?"
        ) from None
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise SchemaMismatch(
            f"The table {NAME} has no column {', '.join(missing)}: is it the application's "
            "database?"
        )
    keeps_zone = bool(getattr(columns["occurred_at"]["type"], "timezone", False))
    has_date = "date" in columns
    extra = [Column("date", Date, nullable=False)] if has_date else []
    table = Table(
        NAME,
        MetaData(),
        Column("id", Uuid, primary_key=True),
        Column("user_id", Uuid, nullable=False),
        Column("activity_type", String, nullable=False),
        Column("occurred_at", DateTime(timezone=keeps_zone), nullable=False),
        Column("entity_id", Uuid),
        Column("entity_type", String),
        Column("meta", _JSON),
        *extra,
    )
    return AuditLogTable(table, has_date, keeps_zone)
