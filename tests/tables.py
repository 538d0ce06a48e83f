"""The audit log as the application has it, to be written to by hand."""

import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg

from tests.builders import INSERT, entity, row

LONG_AGO = timedelta(days=30)


@asynccontextmanager
async def empty_table(url: str) -> AsyncIterator["Table"]:
    """In the database of that URL."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("TRUNCATE audit_logs")  # no room is left of what was deleted
        yield Table(url, connection)
    finally:
        await connection.close()


class Table:
    """As its owner sees it; few rows lie on a page."""

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self._url = url
        self.execute = connection.execute
        self.fetch = connection.fetch
        self._connection = connection

    async def write(
        self, *, age: timedelta = timedelta(0), into: asyncpg.Connection | None = None
    ) -> str:
        meta = {"text": secrets.token_hex(900)}
        new = entity(uuid.uuid4(), occurred_at=datetime.now(UTC) - age, meta=meta)
        await (into or self._connection).execute(INSERT, *row(new))
        return str(new.id)

    async def fill(self, number: int = 40) -> list[str]:
        return [await self.write() for _ in range(number)]

    async def write_at_the_beginning(self) -> str:
        """Into the room that deleted rows have left, and as of long ago."""
        await self.execute("DELETE FROM audit_logs WHERE ctid < '(1,0)'")
        await self.execute("VACUUM audit_logs")
        id = await self.write(age=LONG_AGO)
        place = await self._connection.fetchval(
            "SELECT ctid::text FROM audit_logs WHERE id = $1", uuid.UUID(id)
        )
        assert place.startswith("(0,")
        return id

    async def pages(self) -> int:
        size = "SELECT pg_relation_size('audit_logs') / current_setting('block_size')::int"
        return int(await self._connection.fetchval(size))

    async def begin(self) -> asyncpg.Connection:
        """Another session, in a transaction."""
        other = await asyncpg.connect(self._url)
        await other.execute("BEGIN")
        return other
