"""History on SQLite, in commit order.

SQLite has one writer at a time: `seq`, an AUTOINCREMENT key that is never reused, is taken while
the writer holds the lock, so its order is the commit order. (A bare rowid will not do: VACUUM may
renumber it, and the last one is reused after a DELETE.) A read sees every row up to the greatest
`seq`, so all that it returns is settled.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from sqlite3 import Row
from typing import Any, Self
from urllib.parse import quote
from uuid import UUID

import aiosqlite
import msgspec
import orjson

from lykke_cli.application.errors import SchemaMismatch, ServerUnavailable
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryRow,
    Selection,
)
from lykke_cli.application.messages import (
    Entry,
    canonical_id,
    format_time,
    on_one_line,
    parse_wire_time,
    to_lines,
)
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.chunk_size import ChunkSize
from lykke_cli.infrastructure.database.errors import database_errors, unreadable_rows
from lykke_cli.infrastructure.database.regions import Place, Region
from lykke_cli.infrastructure.database.sqlite_reader import as_text
from lykke_cli.infrastructure.database.urls import (
    BUSY_TIMEOUT,
    STATEMENT_TIMEOUT,
    display_url,
    sqlite_path,
)

CHUNK_ROWS = 1_000
_json = msgspec.json.Decoder(msgspec.Raw).decode

# Ids are stored with or without dashes, times as text without a zone: both sorted as text.
_ENTRY = "seq, id, user_id, activity_type, occurred_at, entity_id, entity_type, meta"
_SELECTED = """
    (:user IS NULL OR user_id IN (:user, :user_hex))
    AND (:types IS NULL OR activity_type IN (SELECT value FROM json_each(:types)))
    AND (:likes IS NULL OR EXISTS (
        SELECT 1 FROM json_each(:likes) WHERE activity_type LIKE value ESCAPE '\\'))
    AND (:entity_type IS NULL OR entity_type = :entity_type)
    AND (:entity IS NULL OR entity_id IN (:entity, :entity_hex))
    AND (:since IS NULL OR occurred_at >= :since)
    AND (:until IS NULL OR occurred_at < :until)
"""
_OLDEST_FIRST = f"""
    SELECT {_ENTRY} FROM audit_logs WHERE {_SELECTED} AND seq >= :base
    ORDER BY occurred_at, replace(id, '-', '') LIMIT :limit
"""  # noqa: S608
_NEWEST_FIRST = f"""
    SELECT {_ENTRY} FROM audit_logs WHERE {_SELECTED} AND seq >= :base
    ORDER BY occurred_at DESC, replace(id, '-', '') DESC LIMIT :limit
"""  # noqa: S608
_COUNT = f"SELECT count(*) FROM audit_logs WHERE {_SELECTED}"  # noqa: S608
_VERIFY = f"""
    SELECT {_ENTRY} FROM audit_logs
    WHERE {_SELECTED} AND replace(id, '-', '') IN (SELECT value FROM json_each(:ids))
"""  # noqa: S608


class SqliteHistory:
    """HistoryProtocol on SQLite; `url` is sqlite:///path."""

    def __init__(self, url: str, *, chunk_rows: int = CHUNK_ROWS) -> None:
        self._path = sqlite_path(url)
        self._display = display_url(url)
        self._chunk_rows = chunk_rows
        self._connection: aiosqlite.Connection | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.interrupt()  # what runs in its thread when we are cancelled
            await connection.close()

    async def identify(self) -> str:
        return f"sqlite:{self._path.resolve()}"

    async def begin(
        self, selection: Selection, *, since: datetime | None = None, last: int | None = None
    ) -> AsyncGenerator[HistoryChunk]:
        async with self._snapshot() as (connection, end):
            start: Place | None = None if since is None else regions.just_before(since)
            if last is not None and last > 0:
                newest = await self._nth_newest(connection, selection, last)
                start = newest if start is None else max(start, newest)
            if start is not None:
                covered: tuple[Region, ...] = (Region(end, high=start),)
                # A place to go on from, before the first row is printed.
                yield HistoryChunk(rows=(), cursor=_cursor(covered))
                async for rows in self._uncovered(connection, selection, covered, since):
                    covered = regions.add(covered, _up_to(end, rows))
                    yield HistoryChunk(rows=rows, cursor=_cursor(covered))
            yield HistoryChunk(rows=(), cursor=_cursor((Region(end),)), last=True)

    async def changes(
        self, selection: Selection, cursor: Cursor, *, recent_only: bool = False
    ) -> AsyncGenerator[HistoryChunk]:
        # The sequence is indexed: a full read costs no more than a recent one.
        async with self._snapshot() as (connection, end):
            covered, notice = _understand(cursor, end)
            async for rows in self._uncovered(connection, selection, covered):
                covered = regions.add(covered, _up_to(end, rows))
                yield HistoryChunk(rows=rows, cursor=_cursor(covered), notice=notice)
            yield HistoryChunk(rows=(), cursor=_cursor((Region(end),)), last=True, notice=notice)

    async def verify(
        self, selection: Selection, cursor: Cursor, ids: Sequence[str]
    ) -> tuple[list[HistoryRow], set[str]]:
        async with self._snapshot() as (connection, end):
            covered, _ = _understand(cursor, end)
            wanted = orjson.dumps([id.replace("-", "") for id in ids]).decode()
            arguments = _arguments(selection) | {"ids": wanted}
            with unreadable_rows(self._display):
                found = [_row(r) for r in await _all(connection, _VERIFY, arguments)]
            return (
                [
                    HistoryRow(entry, True)
                    for seq, entry in found
                    if not _covers(covered, seq, entry)
                ],
                set(ids) - {entry.id for _, entry in found},
            )

    async def stream(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> AsyncGenerator[Sequence[Entry]]:
        query = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
        arguments = _arguments(selection, since, until, limit)
        async with self._snapshot() as (connection, _):
            async for rows in self._fetch(connection, query, arguments):
                yield [entry for _, entry in rows]

    async def lines(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[bytes]:
        async with aclosing(self.stream(selection, since=since, until=until)) as parts:
            async for entries in parts:
                yield to_lines(entries)

    async def count(
        self, selection: Selection, *, since: datetime | None = None, until: datetime | None = None
    ) -> int:
        async with self._snapshot() as (connection, _):
            arguments = _arguments(selection, since, until)
            [(total,)] = await _all(connection, _COUNT, arguments)
            return int(total)

    async def _nth_newest(
        self, connection: aiosqlite.Connection, selection: Selection, nth: int
    ) -> Place:
        """The last place before the nth newest entry."""
        arguments = _arguments(selection, limit=nth)
        newest = [
            entry
            async for rows in self._fetch(connection, _NEWEST_FIRST, arguments)
            for _, entry in rows
        ]
        if len(newest) < nth:
            return (regions.START_OF_TIME, "")
        oldest = newest[-1]
        number = UUID(oldest.id).int
        if number == 0:
            return regions.just_before(oldest.moment)
        return (oldest.moment, str(UUID(int=number - 1)))

    async def _uncovered(
        self,
        connection: aiosqlite.Connection,
        selection: Selection,
        covered: tuple[Region, ...],
        since: datetime | None = None,
    ) -> AsyncGenerator[list[HistoryRow]]:
        base = regions.horizon(covered) or 0
        arguments = _arguments(selection, since, base=base)
        known = covered
        async for found in self._fetch(connection, _OLDEST_FIRST, arguments):
            rows = [HistoryRow(e, True) for seq, e in found if not _covers(known, seq, e)]
            if rows:
                yield rows

    async def _fetch(
        self, connection: aiosqlite.Connection, query: str, arguments: dict[str, object]
    ) -> AsyncGenerator[list[tuple[int, Entry]]]:
        async with asyncio.timeout(STATEMENT_TIMEOUT):
            cursor = await connection.execute(query, arguments)
        try:
            size = ChunkSize(self._chunk_rows)
            while rows := await self._next(cursor, size.rows):
                size.came([row[7] for row in rows])
                with unreadable_rows(self._display):
                    found = [_row(row) for row in rows]
                yield found
        finally:
            await cursor.close()

    async def _next(self, cursor: aiosqlite.Cursor, rows: int) -> list[Row]:
        async with asyncio.timeout(STATEMENT_TIMEOUT):
            return list(await cursor.fetchmany(rows))

    @asynccontextmanager
    async def _snapshot(self) -> AsyncGenerator[tuple[aiosqlite.Connection, int]]:
        """A read transaction, and the sequence after the last row it sees."""
        async with self._lock:
            with database_errors(self._display):
                try:
                    connection = await self._connect()
                    await connection.execute("BEGIN")
                    end = await self._end(connection)
                    yield connection, end
                    await connection.rollback()
                except BaseException:
                    await self.__aexit__()
                    raise

    async def _connect(self) -> aiosqlite.Connection:
        if self._connection is None:
            if not self._path.is_file():
                raise ServerUnavailable(
                    f"There is no database file {self._path}: set DATABASE_URL or give "
                    "--database-url."
                )
            # mode=ro: a wrong path is an error, never a new and empty database.
            uri = f"file:{quote(str(self._path))}?mode=ro"
            self._connection = await aiosqlite.connect(
                uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT
            )
            self._connection.text_factory = as_text
        return self._connection

    async def _end(self, connection: aiosqlite.Connection) -> int:
        columns = await connection.execute_fetchall(
            "SELECT name FROM pragma_table_info('audit_logs')"
        )
        names = {str(name) for (name,) in columns}
        if names and "seq" not in names:
            raise SchemaMismatch(
                f"The table audit_logs at {self._display} has no column seq (INTEGER PRIMARY KEY "
                "AUTOINCREMENT), without which commit order is unknown: add it, or use PostgreSQL."
            )
        [(last,)] = await _all(connection, "SELECT max(seq) FROM audit_logs", {})
        return (last or 0) + 1


async def _all(
    connection: aiosqlite.Connection, query: str, arguments: dict[str, object]
) -> list[Row]:
    async with asyncio.timeout(STATEMENT_TIMEOUT):
        return list(await connection.execute_fetchall(query, arguments))


def _row(row: Row | tuple[Any, ...]) -> tuple[int, Entry]:
    seq, id, user_id, activity_type, occurred_at, entity_id, entity_type, meta = row
    return seq, Entry(
        id=canonical_id(id),
        user_id=canonical_id(user_id),
        activity_type=_text(activity_type),
        occurred_at=format_time(parse_wire_time(occurred_at)),
        entity_id=None if entity_id is None else canonical_id(entity_id),
        entity_type=None if entity_type is None else _text(entity_type),
        meta=_meta(meta),
    )


def _arguments(
    selection: Selection,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    base: int = 0,
) -> dict[str, object]:
    user, entity, types = selection.user_id, selection.entity_id, selection.activity_types
    return {
        "user": None if user is None else str(user),
        "user_hex": None if user is None else user.hex,
        "types": orjson.dumps(list(types)).decode() if types else None,
        "likes": orjson.dumps(list(selection.activity_likes)).decode()
        if selection.activity_likes
        else None,
        "entity_type": selection.entity_type,
        "entity": None if entity is None else str(entity),
        "entity_hex": None if entity is None else entity.hex,
        "since": _stored(since),
        "until": _stored(until),
        "limit": -1 if limit is None else limit,
        "base": base,
    }


def _stored(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def _covers(covered: tuple[Region, ...], seq: int, entry: Entry) -> bool:
    return any(region.covers(seq, (entry.moment, entry.id)) for region in covered)


def _up_to(end: int, rows: list[HistoryRow]) -> Region:
    last = rows[-1].entry
    return Region(end, high=(last.moment, last.id))


def _cursor(covered: tuple[Region, ...]) -> Cursor:
    return Cursor({"kind": "sqlite", "regions": regions.dump(covered)})


def _understand(cursor: Cursor, end: int) -> tuple[tuple[Region, ...], str | None]:
    try:
        if cursor.data["kind"] == "sqlite":
            covered = regions.load(cursor.data["regions"])
            if all(region.before <= end for region in covered):
                return covered, None
    except (KeyError, TypeError, ValueError):
        pass
    return (), (
        "the stored place does not fit this database: reading all of it again; "
        "entries may be printed a second time"
    )


def _meta(stored: Any) -> msgspec.Raw:
    """A JSON value on one line; SQLite stores anything there, and what is none becomes a string."""
    if stored is None:
        return msgspec.Raw(b"null")
    text = _text(stored)
    try:
        return msgspec.Raw(on_one_line(bytes(_json(text))))
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(orjson.dumps(text))


def _text(stored: Any) -> str:
    return as_text(stored) if isinstance(stored, bytes) else str(stored)
