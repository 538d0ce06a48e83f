"""History on SQLite, in commit order.

SQLite has one writer at a time. It takes `seq`, an AUTOINCREMENT key that is never reused, while it
holds the lock. So the order of `seq` is the order of commits. (A bare rowid will not do: VACUUM may
renumber it, and the last one is reused after a DELETE.) A read sees every row up to the greatest
`seq`: no row below it will come later.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from sqlite3 import Row
from typing import Any, NamedTuple, Self

import aiosqlite
import msgspec

from lykke_cli.application.errors import SchemaMismatch
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryRow,
    Place,
    Selection,
    Wanted,
)
from lykke_cli.application.messages import Entry, UnreadableEntry, canonical_id
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.chunk_size import CHUNK_ROWS, ChunkSize, in_parts
from lykke_cli.infrastructure.database.errors import database_errors, unreadable_rows
from lykke_cli.infrastructure.database.handover import Handover, handed_over, in_transactions
from lykke_cli.infrastructure.database.regions import Region, SortKey
from lykke_cli.infrastructure.database.urls import display_url, sqlite_path
from lykke_cli.infrastructure.database.witnesses import Witness, Witnesses
from lykke_cli.infrastructure.sqlite.connection import (
    COLUMN_NAMES,
    close,
    fetch_all,
    identify_file,
    in_time,
    open_read_only,
)
from lykke_cli.infrastructure.sqlite.cursor import (
    Understood,
    Unreadables,
    make_cursor,
    parse,
    understand,
    vouched,
)
from lykke_cli.infrastructure.sqlite.rows import COLUMNS, META, Found, StoredKey, read_row
from lykke_cli.infrastructure.sqlite.selection import IN_RANGE, as_list, in_range, stored_time

_PLACE = """
    SELECT occurred_at, replace(id, '-', '') FROM audit_logs WHERE id IN (:dashed, :hex)
"""
_METAS = "SELECT seq, meta FROM audit_logs WHERE seq IN (SELECT value FROM json_each(:seqs))"
# What is no time is sorted as the text that it is: `since`, `until` and the newest go by that.
_OLDEST_FIRST = f"""
    SELECT {COLUMNS} FROM audit_logs WHERE {IN_RANGE} AND seq >= :base
        AND (:after IS NULL OR (occurred_at, replace(id, '-', '')) > (:after, :after_id))
    ORDER BY occurred_at, replace(id, '-', '') LIMIT :limit
"""  # noqa: S608
_NEWEST_FIRST = f"""
    SELECT {COLUMNS} FROM audit_logs WHERE {IN_RANGE} AND seq >= :base
        AND (:after IS NULL OR (occurred_at, replace(id, '-', '')) < (:after, :after_id))
    ORDER BY occurred_at DESC, replace(id, '-', '') DESC LIMIT :limit
"""  # noqa: S608
_LAST = f"SELECT seq, id FROM audit_logs WHERE {IN_RANGE} ORDER BY seq DESC LIMIT 1"  # noqa: S608
_FOUND = "SELECT seq, id FROM audit_logs WHERE seq IN (SELECT value FROM json_each(:seqs))"
_HAS_SEQUENCE = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"
_LAST_GIVEN = "SELECT max(seq) FROM sqlite_sequence WHERE name = 'audit_logs'"
_LAST_THERE = "SELECT max(seq) FROM audit_logs"
_COUNT = f"SELECT count(*) FROM audit_logs WHERE {IN_RANGE}"  # noqa: S608
# No digit is after f: the index gives what begins with the digits.
_WITH_PREFIX = f"""
    SELECT {COLUMNS} FROM audit_logs
    WHERE id >= :hex AND id < :hex || 'g' OR id >= :dashed AND id < :dashed || 'g'
    ORDER BY replace(id, '-', '') LIMIT :limit
"""  # noqa: S608
_VERIFY = f"""
    SELECT {COLUMNS} FROM audit_logs
    WHERE {IN_RANGE} AND replace(id, '-', '') IN (SELECT value FROM json_each(:ids))
"""  # noqa: S608


class _Newest(NamedTuple):
    """Where the newest rows begin."""

    oldest: Found
    """The first of them."""
    before: Found | None
    """The row before it."""
    readable_before: Entry | None
    """The last row before it that has a time."""

    def start(self, since: datetime | None) -> SortKey:
        """The last key before them, or before `since`, from which on they were looked for."""
        row = self.readable_before
        before = regions.BEFORE_ALL if row is None else (row.moment, row.id)
        return before if since is None else max(before, regions.just_before(since))


class SqliteHistory:
    """HistoryProtocol on SQLite; `url` is sqlite:///path. The bounds are of a chunk."""

    def __init__(
        self, url: str, *, chunk_rows: int = CHUNK_ROWS, chunk_bytes: int | None = None
    ) -> None:
        self._path = sqlite_path(url)
        self._display = display_url(url)
        self._chunk_rows, self._chunk_bytes = chunk_rows, chunk_bytes
        self._connection: aiosqlite.Connection | None = None
        self._opened = ""
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        await close(connection)

    async def identify(self) -> str:
        return f"sqlite:{self._path.resolve()}"

    def begin(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        last: int | None = None,
        wanted: Wanted | None = None,
    ) -> AsyncGenerator[HistoryChunk]:
        async def read(handover: Handover[HistoryChunk]) -> None:
            async with self._snapshot() as (connection, end):
                start: SortKey | None = None
                stored: StoredKey | None = None
                if last is not None:
                    arguments = _arguments(selection, since)
                    newest = await self._newest_rows(connection, arguments, last, wanted)
                    if newest is not None:
                        start, stored = newest.start(since), newest.oldest.key
                elif since is not None:
                    start, stored = regions.just_before(since), (stored_time(since), "")
                witnesses = await self._newest(connection, selection)
                begun = Region(end, high=start or regions.END)
                unreadable = Unreadables(Region(end), stored)
                cursor = make_cursor(self._opened, [begun], witnesses, unreadable)
            # A cursor to go on from, before the first row is printed.
            await handover.give(HistoryChunk(rows=(), cursor=cursor, last=start is None))
            if start is not None:
                await self._read_changes(handover, selection, cursor)

        return handed_over(read)

    def changes(
        self,
        selection: Selection,
        cursor: Cursor,
        *,
        recent_only: bool = False,
        portion: bool = False,
    ) -> AsyncGenerator[HistoryChunk]:
        # The sequence is indexed: a full read costs no more than a recent one, or a portion.
        return handed_over(lambda handover: self._read_changes(handover, selection, cursor))

    async def _read_changes(
        self, handover: Handover[HistoryChunk], selection: Selection, cursor: Cursor
    ) -> None:
        notice: str | None = None
        exact = True

        async def read() -> bool:
            nonlocal cursor, notice, exact
            async with self._snapshot() as (connection, end):
                known = await self._understand(connection, selection, cursor, end)
                notice = notice or known.notice
                exact = exact and known.exact
                covered, witnesses = known.covered, known.witnesses
                unreadable = known.unreadable
                arguments = _arguments(selection, base=regions.horizon(covered) or 0)
                async with aclosing(self._fetch(connection, _OLDEST_FIRST, arguments)) as parts:
                    async for found in parts:
                        rows = [one.row for one in found if not known.covers(one)]
                        if not rows:
                            continue
                        witnesses = witnesses.joined_by((one.seq, one.row.id) for one in found)
                        if readable := [row for row in rows if isinstance(row, Entry)]:
                            high = (readable[-1].moment, readable[-1].id)
                            covered = regions.add(covered, Region(end, high=high))
                        odd = [one.seq for one in found if isinstance(one.row, UnreadableEntry)]
                        unreadable = unreadable.came(odd) if odd else unreadable
                        cursor = make_cursor(self._opened, covered, witnesses, unreadable)
                        chunk = HistoryChunk(rows=rows, cursor=cursor, exact=exact, notice=notice)
                        if not await handover.give(chunk):
                            return False
            cursor = make_cursor(self._opened, [Region(end)], witnesses, Unreadables(Region(end)))
            await handover.give(
                HistoryChunk(rows=(), cursor=cursor, last=True, exact=exact, notice=notice)
            )
            return True

        await in_transactions(handover, read)

    def vouched(self, cursor: Cursor, by: Cursor) -> Cursor:
        return vouched(cursor, by)

    async def verify(self, selection: Selection, cursor: Cursor, ids: Sequence[str]) -> set[str]:
        async with self._snapshot() as (connection, end):
            known = await self._understand(connection, selection, cursor, end)
            wanted = as_list(id.replace("-", "") for id in ids)
            arguments = in_range(selection) | {"ids": wanted}
            with unreadable_rows(self._display):
                found = [read_row(r) for r in await fetch_all(connection, _VERIFY, arguments)]
            return set(ids) - {one.row.id for one in found if known.covers(one)}

    def stream(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        last: int | None = None,
        wanted: Wanted | None = None,
        newest_first: bool = False,
        after: Place | None = None,
    ) -> AsyncGenerator[Sequence[HistoryRow]]:
        arguments = _arguments(selection, since, until, limit)
        query = _NEWEST_FIRST if newest_first else _OLDEST_FIRST

        async def read_on(handover: Handover[Sequence[HistoryRow]]) -> bool:
            nonlocal last, after
            async with self._snapshot() as (connection, _):
                if after is not None:
                    arguments["after"], arguments["after_id"] = await _stored(connection, after)
                    after = None
                if last is not None:
                    in_reverse = _arguments(selection, since, until)
                    newest = await self._newest_rows(connection, in_reverse, last, wanted)
                    if newest is None:
                        return True
                    last = None
                    if newest.before is not None:
                        arguments["after"], arguments["after_id"] = newest.before.place
                async with aclosing(self._fetch(connection, query, arguments)) as parts:
                    async for found in parts:
                        if limit is not None:
                            arguments["limit"] -= len(found)
                        if not await handover.give([one.row for one in found]):
                            return False
            return True

        return handed_over(lambda handover: in_transactions(handover, partial(read_on, handover)))

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

    async def find(self, prefix: str, limit: int) -> Sequence[HistoryRow]:
        parts = (prefix[:8], prefix[8:12], prefix[12:16], prefix[16:20], prefix[20:])
        arguments = {"hex": prefix, "dashed": "-".join(filter(None, parts)), "limit": limit}
        async with self._snapshot() as (connection, _):
            async with aclosing(self._fetch(connection, _WITH_PREFIX, arguments)) as found:
                return [one.row async for part in found for one in part]

    async def count(
        self, selection: Selection, *, since: datetime | None = None, until: datetime | None = None
    ) -> int:
        async with self._snapshot() as (connection, _):
            arguments = in_range(selection, since, until)
            [(total,)] = await fetch_all(connection, _COUNT, arguments)
            return int(total)

    async def _newest_rows(
        self,
        connection: aiosqlite.Connection,
        arguments: dict[str, Any],
        number: int,
        wanted: Wanted | None,
    ) -> _Newest | None:
        """Where the newest `number` rows that count begin; None where none does."""
        oldest: Found | None = None
        before: Found | None = None
        readable: Entry | None = None
        async with aclosing(self._fetch(connection, _NEWEST_FIRST, arguments)) as parts:
            async for found in parts:
                rows = [one.row for one in found]
                counts = [True] * len(rows) if wanted is None else wanted(rows)
                for one, is_counted in zip(found, counts, strict=True):
                    if is_counted and number > 0:
                        number -= 1
                        oldest, before, readable = one, None, None
                        continue
                    before = before or one
                    if readable is None and isinstance(one.row, Entry):
                        readable = one.row
                if number == 0 and readable is not None:
                    break
        return None if oldest is None else _Newest(oldest, before, readable)

    async def _newest(self, connection: aiosqlite.Connection, selection: Selection) -> Witnesses:
        found = await fetch_all(connection, _LAST, in_range(selection))
        return Witnesses.at_start(_witnesses(found))

    async def _understand(
        self, connection: aiosqlite.Connection, selection: Selection, cursor: Cursor, end: int
    ) -> Understood:
        stored = parse(cursor)
        witnesses = () if stored is None else stored.witnesses.rows
        wanted = {"seqs": as_list(seq for seq, _ in witnesses)}
        found = set(_witnesses(await fetch_all(connection, _FOUND, wanted)))
        known = understand(stored, self._opened, end, found)
        if not known.covered:
            newest = await self._newest(connection, selection)
            known = msgspec.structs.replace(known, witnesses=newest)
        return known

    async def _fetch(
        self, connection: aiosqlite.Connection, query: str, arguments: dict[str, Any]
    ) -> AsyncGenerator[list[Found]]:
        async with in_time():
            cursor = await connection.execute(query, arguments)

        async def whole(seqs: list[int]) -> dict[int, Any]:
            return dict(await fetch_all(connection, _METAS, {"seqs": as_list(seqs)}))

        try:
            size = ChunkSize(self._chunk_rows)
            while rows := await self._next(cursor, size.rows):
                size.came()
                async with aclosing(in_parts(rows, META, whole, self._chunk_bytes)) as parts:
                    async for part in parts:
                        with unreadable_rows(self._display):
                            found = [read_row(row) for row in part]
                        # Where a read that has to end goes on.
                        arguments["after"], arguments["after_id"] = found[-1].place
                        yield found
        finally:
            await cursor.close()

    async def _next(self, cursor: aiosqlite.Cursor, rows: int) -> list[Row]:
        async with in_time():
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
        file = identify_file(self._path)
        if file != self._opened:
            await self.__aexit__()  # another file has this name now
        if self._connection is None:
            self._opened = file
            self._connection = await open_read_only(self._path)
        return self._connection

    async def _end(self, connection: aiosqlite.Connection) -> int:
        names = {str(name) for (name,) in await fetch_all(connection, COLUMN_NAMES)}
        if names and "seq" not in names:
            raise SchemaMismatch(
                f"The table audit_logs at {self._display} has no column seq (INTEGER PRIMARY KEY "
                "AUTOINCREMENT), without which commit order is unknown: add it, or use PostgreSQL."
            )
        # What was once given out counts, though the row was deleted since.
        kept = await fetch_all(connection, _HAS_SEQUENCE)
        [(last,)] = await fetch_all(connection, _LAST_GIVEN if kept else _LAST_THERE)
        return int(last or 0) + 1


async def _stored(connection: aiosqlite.Connection, place: Place) -> tuple[Any, str]:
    """The place of an entry as it is stored: one time may be written as several texts."""
    moment, id = place
    wanted = {"dashed": id, "hex": id.replace("-", "")}
    found = await fetch_all(connection, _PLACE, wanted)
    return found[0] if found else (stored_time(moment), wanted["hex"])


def _witnesses(rows: Iterable[Row]) -> Iterator[Witness]:
    for seq, id in rows:
        with suppress(ValueError, TypeError, AttributeError):  # what is no id is told of elsewhere
            yield seq, canonical_id(id)


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
