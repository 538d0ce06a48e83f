"""History on SQLite, in commit order.

SQLite has one writer at a time: `seq`, an AUTOINCREMENT key that is never reused, is taken while
the writer holds the lock, so its order is the commit order. (A bare rowid will not do: VACUUM may
renumber it, and the last one is reused after a DELETE.) A read sees every row up to the greatest
`seq`, so all that it returns is settled.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from sqlite3 import Row
from typing import Any, NamedTuple, Self
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
    EMPTY_META,
    Entry,
    UnreadableEntry,
    canonical_id,
    format_time,
    on_one_line,
    parse_wire_time,
    unreadable_entry,
)
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.chunk_size import LARGE_META, LEFT_OUT, ChunkSize, in_parts
from lykke_cli.infrastructure.database.errors import database_errors, unreadable_rows
from lykke_cli.infrastructure.database.handover import Handover, handed_over, in_transactions
from lykke_cli.infrastructure.database.regions import Place, Region, just_before_place
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.urls import (
    BUSY_TIMEOUT,
    STATEMENT_TIMEOUT,
    display_url,
    sqlite_path,
)
from lykke_cli.infrastructure.database.witnesses import TWICE, Witness, proven, thin
from lykke_cli.infrastructure.sqlite.reader import as_text
from lykke_cli.infrastructure.sqlite.selection import IN_RANGE, in_range, stored_time

CHUNK_ROWS = 1_000
_json = msgspec.json.Decoder(msgspec.Raw).decode

# Ids are stored with or without dashes, times as text without a zone: both sorted as text. So is
# what is no time; `since`, `until` and the newest go by that order.
_ENTRY = f"""
    seq, id, user_id, activity_type, occurred_at, entity_id, entity_type,
    CASE WHEN length(CAST(meta AS BLOB)) > {LARGE_META}
        THEN '{LEFT_OUT}' || length(CAST(meta AS BLOB)) ELSE meta END
"""
_METAS = "SELECT seq, meta FROM audit_logs WHERE seq IN (SELECT value FROM json_each(:seqs))"
_OLDEST_FIRST = f"""
    SELECT {_ENTRY} FROM audit_logs WHERE {IN_RANGE} AND seq >= :base
        AND (:after IS NULL OR (occurred_at, replace(id, '-', '')) > (:after, :after_id))
    ORDER BY occurred_at, replace(id, '-', '') LIMIT :limit
"""  # noqa: S608
_NEWEST_FIRST = f"""
    SELECT {_ENTRY} FROM audit_logs WHERE {IN_RANGE} AND seq >= :base
        AND (:after IS NULL OR (occurred_at, replace(id, '-', '')) < (:after, :after_id))
    ORDER BY occurred_at DESC, replace(id, '-', '') DESC LIMIT :limit
"""  # noqa: S608
_LAST = f"SELECT seq, id FROM audit_logs WHERE {IN_RANGE} ORDER BY seq DESC LIMIT 1"  # noqa: S608
_FOUND = "SELECT seq, id FROM audit_logs WHERE seq IN (SELECT value FROM json_each(:seqs))"
_HAS_SEQUENCE = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
_LAST_GIVEN = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'audit_logs'"
_LAST_THERE = "SELECT max(seq) FROM audit_logs"
_COUNT = f"SELECT count(*) FROM audit_logs WHERE {IN_RANGE}"  # noqa: S608
_VERIFY = f"""
    SELECT {_ENTRY} FROM audit_logs
    WHERE {IN_RANGE} AND replace(id, '-', '') IN (SELECT value FROM json_each(:ids))
"""  # noqa: S608


Key = tuple[str, str]
"""`occurred_at` as it is stored, and the id without dashes: what rows are in the order of."""


class Found(NamedTuple):
    """A row that was read."""

    seq: int
    row: HistoryRow
    key: Key


class Unreadables(msgspec.Struct, frozen=True):
    """What of the rows without a time is covered: they have no place in a region."""

    region: Region = Region(0)
    """By their sequence alone."""
    since: Key | None = None
    """Those from here on are not covered, unless they are in `region.visible`."""

    def covers(self, found: Found) -> bool:
        is_old = found.seq < self.region.before and (self.since is None or found.key < self.since)
        return is_old or found.seq in self.region.visible

    def came(self, seqs: Iterable[int]) -> "Unreadables":
        """With those of these rows covered too."""
        visible = self.region.visible | Runs.of(seqs)
        return Unreadables(Region(self.region.before, visible=visible), self.since)


class Understood(msgspec.Struct, frozen=True):
    """What a cursor covers in the file as it is now."""

    covered: tuple[Region, ...]
    witnesses: tuple[Witness, ...]
    unreadable: Unreadables = Unreadables()
    notice: str | None = None

    def covers(self, found: Found) -> bool:
        row = found.row
        if isinstance(row, UnreadableEntry):
            return self.unreadable.covers(found)
        return any(region.covers(found.seq, (row.moment, row.id)) for region in self.covered)


class SqliteHistory:
    """HistoryProtocol on SQLite; `url` is sqlite:///path."""

    def __init__(self, url: str, *, chunk_rows: int = CHUNK_ROWS) -> None:
        self._path = sqlite_path(url)
        self._display = display_url(url)
        self._chunk_rows = chunk_rows
        self._connection: aiosqlite.Connection | None = None
        self._opened = ""
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
        async def read(handover: Handover[HistoryChunk]) -> None:
            async with self._snapshot() as (connection, end):
                start: Place | None = None
                key: Key | None = None
                if since is not None:
                    start, key = regions.just_before(since), (stored_time(since), "")
                if last is not None and last > 0:
                    place, nth = await self._nth_newest(connection, selection, last)
                    start, key = max(start or place, place), max(key or nth, nth)
                witnesses = await self._newest(connection, selection)
                begun = Region(end, high=start or regions.END)
                cursor = self._cursor([begun], witnesses, Unreadables(Region(end), key))
            # A place to go on from, before the first row is printed.
            await handover.give(HistoryChunk(rows=(), cursor=cursor, last=start is None))
            if start is not None:
                await self._read_changes(handover, selection, cursor)

        async with aclosing(handed_over(read)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def changes(
        self, selection: Selection, cursor: Cursor, *, recent_only: bool = False
    ) -> AsyncGenerator[HistoryChunk]:
        # The sequence is indexed: a full read costs no more than a recent one.
        async def read(handover: Handover[HistoryChunk]) -> None:
            await self._read_changes(handover, selection, cursor)

        async with aclosing(handed_over(read)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _read_changes(
        self, handover: Handover[HistoryChunk], selection: Selection, cursor: Cursor
    ) -> None:
        notice: str | None = None

        async def read() -> bool:
            nonlocal cursor, notice
            async with self._snapshot() as (connection, end):
                place = await self._understand(connection, selection, cursor, end)
                notice = notice or place.notice
                covered, witnesses = place.covered, place.witnesses
                unreadable = place.unreadable
                arguments = _arguments(selection, base=regions.horizon(covered) or 0)
                async with aclosing(self._fetch(connection, _OLDEST_FIRST, arguments)) as parts:
                    async for found in parts:
                        rows = [one.row for one in found if not place.covers(one)]
                        if not rows:
                            continue
                        witnesses = thin([*witnesses, *((one.seq, one.row.id) for one in found)])
                        if readable := [row for row in rows if isinstance(row, Entry)]:
                            high = (readable[-1].moment, readable[-1].id)
                            covered = regions.add(covered, Region(end, high=high))
                        odd = [one.seq for one in found if isinstance(one.row, UnreadableEntry)]
                        unreadable = unreadable.came(odd) if odd else unreadable
                        cursor = self._cursor(covered, witnesses, unreadable)
                        chunk = HistoryChunk(rows=rows, cursor=cursor, notice=notice)
                        if not await handover.give(chunk):
                            return False
            cursor = self._cursor([Region(end)], witnesses, Unreadables(Region(end)))
            await handover.give(HistoryChunk(rows=(), cursor=cursor, last=True, notice=notice))
            return True

        await in_transactions(handover, read)

    async def verify(self, selection: Selection, cursor: Cursor, ids: Sequence[str]) -> set[str]:
        async with self._snapshot() as (connection, end):
            place = await self._understand(connection, selection, cursor, end)
            wanted = orjson.dumps([id.replace("-", "") for id in ids]).decode()
            arguments = in_range(selection) | {"ids": wanted}
            with unreadable_rows(self._display):
                found = [_row(r) for r in await _all(connection, _VERIFY, arguments)]
            return set(ids) - {one.row.id for one in found if place.covers(one)}

    async def stream(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> AsyncGenerator[Sequence[HistoryRow]]:
        query = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
        arguments = _arguments(selection, since, until, limit)

        async def read(handover: Handover[Sequence[HistoryRow]]) -> None:
            async def read_on() -> bool:
                async with self._snapshot() as (connection, _):
                    async with aclosing(self._fetch(connection, query, arguments)) as parts:
                        async for found in parts:
                            if limit is not None:
                                arguments["limit"] -= len(found)
                            if not await handover.give([one.row for one in found]):
                                return False
                return True

            await in_transactions(handover, read_on)

        async with aclosing(handed_over(read)) as parts:
            async for part in parts:
                yield part

    async def lines(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[bytes]:
        async with aclosing(self.stream(selection, since=since, until=until)) as parts:
            async for rows in parts:
                yield b"".join([row.to_json() + b"\n" for row in rows])

    async def count(
        self, selection: Selection, *, since: datetime | None = None, until: datetime | None = None
    ) -> int:
        async with self._snapshot() as (connection, _):
            arguments = in_range(selection, since, until)
            [(total,)] = await _all(connection, _COUNT, arguments)
            return int(total)

    async def _nth_newest(
        self, connection: aiosqlite.Connection, selection: Selection, nth: int
    ) -> tuple[Place, Key]:
        """The last place before the nth newest row, and where those without a time begin."""
        key: Key = ("", "")
        rows = self._fetch(connection, _NEWEST_FIRST, _arguments(selection))
        async with aclosing(rows):
            async for found in rows:
                for one in found:
                    nth -= 1
                    if nth == 0:
                        key = one.key
                    if nth <= 0 and isinstance(one.row, Entry):
                        place = (one.row.moment, one.row.id)
                        return (place if nth else just_before_place(place)), key
        return regions.BEFORE_ALL, key

    async def _newest(
        self, connection: aiosqlite.Connection, selection: Selection
    ) -> tuple[Witness, ...]:
        return thin(_witnesses(await _all(connection, _LAST, in_range(selection))))

    async def _understand(
        self, connection: aiosqlite.Connection, selection: Selection, cursor: Cursor, end: int
    ) -> Understood:
        """The cursor's regions, or where the file is not what it was, what of them still holds."""
        try:
            if cursor.data["kind"] != "sqlite":
                raise ValueError("it belongs to another database")
            covered = regions.load(cursor.data["regions"])
            witnesses = thin((int(seq), str(UUID(id))) for seq, id in cursor.data["witnesses"])
            [region] = regions.load([cursor.data["unreadable"]])
            unreadable = Unreadables(region, _key(cursor.data.get("unreadable_since")))
            moved = cursor.data["file"] != self._opened
        except (KeyError, TypeError, ValueError):
            notice = "the stored place does not fit this database: reading all of it again"
            newest = await self._newest(connection, selection)
            return Understood((), newest, notice=f"{notice}; {TWICE}")
        wanted = orjson.dumps([seq for seq, _ in witnesses]).decode()
        found = set(_witnesses(await _all(connection, _FOUND, {"seqs": wanted})))
        ahead = any(region.before > end for region in covered)
        if not moved and not ahead and found <= set(witnesses):
            return Understood(covered, witnesses, unreadable)
        happened = "the database file was replaced" if moved else "the database was restored"
        last = proven(witnesses, found)
        if last is None:
            newest = await self._newest(connection, selection)
            notice = f"{happened}: reading all of it again; {TWICE}"
            return Understood((), newest, notice=notice)
        if not witnesses or last == witnesses[0][0]:
            notice = f"{happened}: all that was read before is still there"
        else:
            notice = f"{happened}: going on after the last entry that it still has; {TWICE}"
        left = tuple(witness for witness in witnesses if witness[0] <= last)
        covered = tuple(region.up_to(last) for region in covered)
        unreadable = Unreadables(unreadable.region.up_to(last), unreadable.since)
        return Understood(covered, left, unreadable, notice)

    def _cursor(
        self, covered: Iterable[Region], witnesses: Iterable[Witness], unreadable: Unreadables
    ) -> Cursor:
        return Cursor(
            {
                "kind": "sqlite",
                "file": self._opened,
                "regions": regions.dump(covered),
                "unreadable": regions.dump([unreadable.region])[0],
                "unreadable_since": unreadable.since,
                "witnesses": [list(witness) for witness in witnesses],
            }
        )

    async def _fetch(
        self, connection: aiosqlite.Connection, query: str, arguments: dict[str, Any]
    ) -> AsyncGenerator[list[Found]]:
        async with asyncio.timeout(STATEMENT_TIMEOUT):
            cursor = await connection.execute(query, arguments)

        async def whole(seqs: list[int]) -> dict[int, Any]:
            wanted: dict[str, object] = {"seqs": orjson.dumps(seqs).decode()}
            return {row[0]: row[1] for row in await _all(connection, _METAS, wanted)}

        try:
            size = ChunkSize(self._chunk_rows)
            while rows := await self._next(cursor, size.rows):
                size.came()
                async with aclosing(in_parts(rows, 7, whole)) as parts:
                    async for part in parts:
                        with unreadable_rows(self._display):
                            found = [_row(row) for row in part]
                        # Where a read that has to end goes on.
                        last = part[-1]
                        arguments |= {"after": last[4], "after_id": last[1].replace("-", "")}
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
        if not self._path.is_file():
            raise ServerUnavailable(
                f"There is no database file {self._path}: set DATABASE_URL or give --database-url."
            )
        status = self._path.stat()
        file = f"{status.st_dev}:{status.st_ino}"
        if self._connection is not None and file != self._opened:
            await self.__aexit__()  # another file has this name now
        if self._connection is None:
            self._opened = file
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
        # What was once given out counts, though the row was deleted since.
        kept = await _all(connection, _HAS_SEQUENCE, {})
        [(last,)] = await _all(connection, _LAST_GIVEN if kept else _LAST_THERE, {})
        return int(last or 0) + 1


async def _all(
    connection: aiosqlite.Connection, query: str, arguments: dict[str, object]
) -> list[Row]:
    async with asyncio.timeout(STATEMENT_TIMEOUT):
        return list(await connection.execute_fetchall(query, arguments))


def _witnesses(rows: Iterable[Row]) -> Iterator[Witness]:
    for seq, id in rows:
        with suppress(ValueError, TypeError, AttributeError):  # what is no id is told of elsewhere
            yield seq, canonical_id(id)


def _key(stored: Any) -> Key | None:
    """What a cursor says; raises ValueError where it is none."""
    if stored is None:
        return None
    text, id = stored
    return str(text), str(id)


def _row(row: Row | tuple[Any, ...]) -> Found:
    seq, id, user_id, activity_type, occurred_at, entity_id, entity_type, meta = row
    fields = {
        "id": canonical_id(id),
        "user_id": canonical_id(user_id),
        "activity_type": _text(activity_type),
        "occurred_at": occurred_at,
        "entity_id": None if entity_id is None else canonical_id(entity_id),
        "entity_type": None if entity_type is None else _text(entity_type),
        "meta": _meta(meta),
    }
    if occurred_at is None:
        raise ValueError("occurred_at is NULL")
    # SQLite stores numbers there too, such as milliseconds, and sorts them before every text.
    key = ("" if isinstance(occurred_at, int | float) else _text(occurred_at), id.replace("-", ""))
    try:
        fields["occurred_at"] = format_time(parse_wire_time(_text(occurred_at)))
    except (ValueError, OverflowError):
        told = fields | {"occurred_at": _text(occurred_at)}
        return Found(seq, unreadable_entry(told), key)
    return Found(seq, Entry(**fields), key)


def _arguments(
    selection: Selection,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
    base: int = 0,
) -> dict[str, Any]:
    """The parameters of `_OLDEST_FIRST` and `_NEWEST_FIRST`."""
    page = {"limit": -1 if limit is None else limit, "base": base, "after": None, "after_id": None}
    return in_range(selection, since, until) | page


def _meta(stored: Any) -> msgspec.Raw:
    """A JSON value on one line; SQLite stores anything there, and what is none becomes a string."""
    if stored is None:
        return EMPTY_META
    text = _text(stored)
    try:
        value = on_one_line(bytes(_json(text)))
        return EMPTY_META if value == b"null" else msgspec.Raw(value)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(orjson.dumps(text))


def _text(stored: Any) -> str:
    return as_text(stored) if isinstance(stored, bytes) else str(stored)
