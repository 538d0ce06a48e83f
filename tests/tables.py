"""The audit log as its owner writes it, and as somebody reads it who follows everybody."""

import secrets
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, Selection
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.builders import INSERT, entity, row

EVERYBODY = Selection(user_ids=None)
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
        self,
        *,
        age: timedelta = timedelta(0),
        by: asyncpg.Connection | None = None,
        into: str = "audit_logs",
    ) -> str:
        meta = {"text": secrets.token_hex(900)}
        new = entity(uuid.uuid4(), occurred_at=datetime.now(UTC) - age, meta=meta)
        insert = INSERT.replace("audit_logs", into)
        await (by or self._connection).execute(insert, *row(new))
        return str(new.id)

    async def fill(self, number: int = 40) -> list[str]:
        return [await self.write() for _ in range(number)]

    async def write_at_the_beginning(self) -> str:
        """Into the room that deleted rows have left, and as of long ago."""
        await self.leave_room_at_the_beginning()
        return await self.write_into_the_room()

    async def leave_room_at_the_beginning(self) -> list[str]:
        """Which nobody may be reading: a snapshot keeps it. Returns the ids of what is gone."""
        delete = "DELETE FROM audit_logs WHERE ctid < '(1,0)' RETURNING id::text"
        gone = [id for (id,) in await self.fetch(delete)]
        await self.execute("VACUUM audit_logs")
        return gone

    async def write_into_the_room(self) -> str:
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


class Reader:
    """Follows everybody; `found` counts what came."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.cursor: Cursor
        self.found = Counter[str]()
        self.goes_on = False

    async def begin(self, since: datetime | None = None) -> None:
        async with PostgresHistory(self._url, chunk_rows=3) as history:
            await self._take([chunk async for chunk in history.begin(EVERYBODY, since=since)])

    async def near(self) -> HistoryChunk:
        return await self._read(recent_only=True, portion=True)

    async def portion(self) -> HistoryChunk:
        return await self._read(portion=True)

    async def everything(self) -> int:
        """Portion by portion; returns how many it took."""
        portions, goes_on = 0, True
        while goes_on:
            goes_on = (await self.portion()).goes_on
            portions += 1
        return portions

    async def _read(self, **how: bool) -> HistoryChunk:
        """By a connection of its own, as after a restart."""
        async with PostgresHistory(self._url, chunk_rows=3) as history:
            return await self._take(
                [chunk async for chunk in history.changes(EVERYBODY, self.cursor, **how)]
            )

    async def _take(self, chunks: list[HistoryChunk]) -> HistoryChunk:
        for chunk in chunks:
            self.found.update(row.id for row in chunk.rows)
            data = orjson.loads(orjson.dumps(chunk.cursor.data))
            self.cursor = Cursor(data)  # as one that was stored
        assert [chunk.last for chunk in chunks].count(True) == 1 and chunks[-1].last
        return chunks[-1]
