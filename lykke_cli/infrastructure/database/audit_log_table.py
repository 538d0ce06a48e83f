"""The application's table `audit_logs`, in the variants found in the wild.

It is never created or altered here, only looked at: once per engine, on the first connection.
PostgreSQL holds `occurred_at` with or without a time zone (then UTC), and may have the column
`date`. SQLite holds ids as 32 hexadecimal digits or with dashes, and times as text.
"""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from lykke_cli.application.errors import BadInput, SchemaMismatch, UsageMistake
from lykke_cli.application.messages import encode, parse_wire_time
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.domain.errors import DomainError

TABLE = "audit_logs"
REQUIRED = ("id", "user_id", "activity_type", "occurred_at", "entity_id", "entity_type", "meta")

_known: "WeakKeyDictionary[sa.Engine, AuditLogTable]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class AuditLogTable:
    """The table as one database has it: what to send there, and how to read what comes back."""

    table: sa.Table
    zoned: bool
    """`occurred_at` has a time zone; without one it holds UTC."""
    dated: bool
    """There is a column `date`, to be filled with the UTC date."""
    sqlite: bool

    def insert(self) -> sa.Insert:
        """The statement that stores the `row` of an entity, or those of many."""
        meta = sa.cast(sa.bindparam("meta_text", type_=sa.Text), self.table.c.meta.type)
        return self.table.insert().values(meta=meta)

    def row(self, entity: AuditLogEntity) -> dict[str, Any]:
        """What `insert` stores for `entity`; raises BadInput when its meta is not JSON."""
        values: dict[str, Any] = {
            "id": self._stored_id(entity.id),
            "user_id": self._stored_id(entity.user_id),
            "activity_type": entity.activity_type,
            "occurred_at": self.moment(entity.occurred_at),
            "entity_id": None if entity.entity_id is None else self._stored_id(entity.entity_id),
            "entity_type": entity.entity_type,
            # The very text that is broadcast: what cannot be sent is not stored either.
            "meta_text": encode(entity.meta).decode(),
        }
        if self.dated:
            values["date"] = entity.occurred_at.date()
        return values

    def select(self) -> sa.Select[Any]:
        """The statement that reads entries, for `entity`."""
        columns = self.table.c
        # The text of meta is decoded here: no value of it can fail inside the driver.
        meta = sa.cast(columns.meta, sa.Text).label("meta")
        return sa.select(*(columns[name] for name in REQUIRED if name != "meta"), meta)

    def entity(self, row: Sequence[Any]) -> AuditLogEntity:
        """The entry in a row of `select`; raises BadInput when the row is not one.

        Meta that is JSON but not an object becomes `{"value": ...}`, so that it is shown.
        """
        id, user_id, activity_type, occurred_at, entity_id, entity_type, meta = row
        try:
            return AuditLogEntity(
                id=_uuid(id),
                user_id=_uuid(user_id),
                activity_type=activity_type,
                occurred_at=_aware(occurred_at),
                entity_id=None if entity_id is None else _uuid(entity_id),
                entity_type=entity_type,
                meta=_meta(meta),
            )
        except (ValueError, TypeError, RecursionError, DomainError) as error:
            raise BadInput(f"The row {id} of {TABLE} is not an entry: {error}.") from error

    def moment(self, moment: datetime) -> datetime | str:
        """An aware time as the column holds it; raises UsageMistake for a naive one."""
        if moment.tzinfo is None:
            raise UsageMistake("A time needs a time zone, such as datetime.now(UTC).")
        utc = moment.astimezone(UTC)
        if self.sqlite:
            return utc.replace(tzinfo=None).isoformat(" ", "microseconds")
        return utc if self.zoned else utc.replace(tzinfo=None)

    def is_id(self, column: str, wanted: uuid.UUID) -> sa.ColumnElement[bool]:
        """The condition that the id in `column` is `wanted`."""
        stored = self.table.c[column]
        if self.sqlite:
            return stored.in_((wanted.hex, str(wanted)))
        return stored == wanted

    def _stored_id(self, id: uuid.UUID) -> uuid.UUID | str:
        return id.hex if self.sqlite else id


async def audit_log_table(connection: AsyncConnection, display: str) -> AuditLogTable:
    """The table of the connection's database, which `display` names.

    Raises SchemaMismatch when it, or a column of it, is missing. What the driver raises passes.
    """
    engine = connection.engine.sync_engine
    known = _known.get(engine)
    if known is None:
        columns = await connection.run_sync(_columns, display)
        known = _known[engine] = _understand(columns, engine.dialect.name == "sqlite", display)
    return known


def forget(connection: AsyncConnection) -> None:
    """Look at the table again next time: it may have been migrated."""
    _known.pop(connection.engine.sync_engine, None)


def _columns(connection: sa.Connection, display: str) -> dict[str, Any]:
    try:
        return {str(c["name"]): c for c in sa.inspect(connection).get_columns(TABLE)}
    except sa.exc.NoSuchTableError as error:
        raise SchemaMismatch(
            f"The database at {display} has no table {TABLE}. Check that DATABASE_URL names the "
            "application's database and that its migrations have run."
        ) from error


def _understand(columns: dict[str, Any], sqlite: bool, display: str) -> AuditLogTable:
    for name in REQUIRED:
        if name not in columns:
            raise SchemaMismatch(
                f"The table {TABLE} of the database at {display} has no column {name}. Check that "
                "the application's migrations have run."
            )
    occurred_at = columns["occurred_at"]["type"]
    if not sqlite and not isinstance(occurred_at, sa.DateTime):
        raise SchemaMismatch(
            f"The column {TABLE}.occurred_at of the database at {display} is of type "
            f"{occurred_at}, not timestamp. Check that the application's migrations have run."
        )
    zoned = not sqlite and bool(occurred_at.timezone)
    dated = "date" in columns and "computed" not in columns["date"]
    return AuditLogTable(_table(columns, zoned, dated, sqlite), zoned, dated, sqlite)


def _table(columns: dict[str, Any], zoned: bool, dated: bool, sqlite: bool) -> sa.Table:
    id_type: Any = sa.String if sqlite else sa.Uuid
    moment_type: Any = sa.String if sqlite else sa.DateTime(timezone=zoned)
    return sa.Table(
        TABLE,
        sa.MetaData(),
        sa.Column("id", id_type, primary_key=True),
        sa.Column("user_id", id_type, nullable=False),
        sa.Column("activity_type", sa.String, nullable=False),
        sa.Column("occurred_at", moment_type, nullable=False),
        sa.Column("entity_id", id_type),
        sa.Column("entity_type", sa.String),
        sa.Column("meta", sa.Text if sqlite else columns["meta"]["type"]),
        *([sa.Column("date", sa.Date, nullable=False)] if dated else ()),
    )


def _uuid(stored: Any) -> uuid.UUID:
    return stored if isinstance(stored, uuid.UUID) else uuid.UUID(str(stored))


def _aware(stored: Any) -> datetime:
    if not isinstance(stored, datetime):
        return parse_wire_time(str(stored))
    return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


def _meta(stored: Any) -> dict[str, Any]:
    value = None if stored is None else json.loads(stored)
    if value is None:
        return {}
    return value if isinstance(value, dict) else {"value": value}
