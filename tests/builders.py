"""Entries in one line."""

import asyncio
import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson

from lykke_cli.application.messages import encode, entity_message
from lykke_cli.domain.audit_log import AuditLogEntity


def entity(
    user_id: uuid.UUID | None = None,
    activity_type: str = "TASK_COMPLETED",
    occurred_at: datetime | None = None,
    meta: Mapping[str, Any] | None = None,
    **fields: Any,
) -> AuditLogEntity:
    return AuditLogEntity(
        user_id=user_id or uuid.uuid4(),
        activity_type=activity_type,
        occurred_at=occurred_at or datetime.now(UTC),
        meta=meta or {},
        **fields,
    )


def wire(entity: AuditLogEntity, **changes: Any) -> bytes:
    """The entity's live message."""
    return encode(entity_message(entity) | changes)


COLUMNS = ("id", "user_id", "activity_type", "occurred_at", "entity_id", "entity_type", "meta")
INSERT = f"""
    INSERT INTO audit_logs ({", ".join(COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""  # noqa: S608
INSERT_WITH_DATE = f"""
    INSERT INTO audit_logs ({", ".join(COLUMNS)}, date)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""  # noqa: S608


def row(entity: AuditLogEntity, *, with_zone: bool = False) -> tuple[Any, ...]:
    """The arguments of INSERT."""
    moment = entity.occurred_at
    return (
        entity.id,
        entity.user_id,
        entity.activity_type,
        moment if with_zone else moment.replace(tzinfo=None),
        entity.entity_id,
        entity.entity_type,
        orjson.dumps(dict(entity.meta)).decode() if entity.meta else None,
    )


async def insert(url: str, entities: Iterable[AuditLogEntity]) -> None:
    """Commit rows as the application would, without broadcasting."""
    rows = list(entities)
    if url.startswith("sqlite"):
        await asyncio.to_thread(_insert_sqlite, url.removeprefix("sqlite:///"), rows)
        return
    connection = await asyncpg.connect(url)
    try:
        columns = dict(
            await connection.fetch(
                "SELECT column_name, data_type FROM information_schema.columns "
                "WHERE table_name = 'audit_logs'"
            )
        )
        with_zone = columns["occurred_at"] == "timestamp with time zone"
        rows_to_insert = [row(e, with_zone=with_zone) for e in rows]
        if "date" in columns:
            dated = [(*r, r[3].date()) for r in rows_to_insert]
            await connection.executemany(INSERT_WITH_DATE, dated)
        else:
            await connection.executemany(INSERT, rows_to_insert)
    finally:
        await connection.close()


def add_users(url: str, *users: tuple[uuid.UUID, str]) -> None:
    """The application's table of users in a SQLite database: ids with e-mail addresses."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute("CREATE TABLE users (id TEXT, email TEXT)")
        rows = [(user.hex, email) for user, email in users]
        connection.executemany("INSERT INTO users VALUES (?, ?)", rows)
        connection.commit()


def _insert_sqlite(path: str, entities: list[AuditLogEntity]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name FROM pragma_table_info('audit_logs')")
        columns = [*COLUMNS, "date"] if ("date",) in found.fetchall() else [*COLUMNS]
        rows = []
        for e in entities:
            moment = e.occurred_at.replace(tzinfo=None).isoformat(" ", "microseconds")
            values = [value.hex if isinstance(value, uuid.UUID) else value for value in row(e)]
            values[COLUMNS.index("occurred_at")] = moment
            rows.append([*values, moment[:10]][: len(columns)])
        marks = ", ".join("?" * len(columns))
        names = ", ".join(columns)
        connection.executemany(f"INSERT INTO audit_logs ({names}) VALUES ({marks})", rows)  # noqa: S608
        connection.commit()
