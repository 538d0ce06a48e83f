"""History on PostgreSQL, in commit order.

Why not by occurred_at or id: transactions commit out of order, stay open for minutes, and
occurred_at may be back-dated by days. What orders commits is the snapshot: whatever a snapshot
shows was committed before it was taken. A row's `xmin` names the (sub)transaction that wrote it,
and every transaction below the snapshot's own xmin had ended when it was taken:

* `xmin` below it: the row is visible now, or never.
* `xmin` at or after it: `pg_visible_in_snapshot` would decide wrongly, because a row written under
  a SAVEPOINT bears its subtransaction's id, which the snapshot does not list even while the
  transaction is open. (On a standby it lists none at all.) But a transaction's rows become visible
  together. So a cursor keeps the ids of those whose rows were visible, and covers them too.

`xmin` has 32 bits, a snapshot 64. They are compared by `age()`, which counts back from now on the
32-bit circle: exact for the 2^31 transactions before now. An age below zero belongs to a row older
than that; it is covered by any cursor that fits.
https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
https://www.postgresql.org/docs/current/subxacts.html

Transaction ids are given out again where commits were lost; see `witnesses.py`.

Everything runs in read-only transactions, one connection, without named prepared statements or
session settings, so that SELECT rights and PgBouncer in transaction mode are enough.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Self
from uuid import UUID

import msgspec

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
    format_time,
    on_one_line,
    unreadable_entry,
)
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.chunk_size import ChunkSize
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.handover import (
    Handover,
    Stalled,
    handed_over,
    in_transactions,
)
from lykke_cli.infrastructure.database.regions import Place, Region, just_before_place
from lykke_cli.infrastructure.database.urls import (
    CONNECT_TIMEOUT,
    STATEMENT_TIMEOUT,
    asyncpg_dsn,
    display_url,
)
from lykke_cli.infrastructure.database.witnesses import Witness, thin
from lykke_cli.infrastructure.postgresql.cursor import (
    CIRCLE,
    Origin,
    Snapshot,
    Understood,
    is_doubtful,
    make_cursor,
    parse,
    understand,
)
from lykke_cli.infrastructure.postgresql.lines import LinePlace, LineReader

LOOK_BACK = timedelta(hours=1)
"""How far back a periodic read looks; a full one has no bound."""
CHUNK_ROWS = 1_000
WITNESSES = 8
"""How many rows bear witness for a cursor that has read none yet."""
LAST_PAGES = 8
_SNAPSHOT_ID = re.compile(r"[0-9A-F-]+")
_TRANSACTION: Final = {"isolation": "repeatable_read", "readonly": True}
_LOCAL_SETTINGS = (
    f"SET LOCAL statement_timeout = {int(STATEMENT_TIMEOUT * 1000)}; SET LOCAL TimeZone = 'UTC'"
)

# The texts below are constants: whatever comes from outside is a parameter.
_COLUMNS = """
    id::text, user_id::text, activity_type::text, {time}, entity_id::text, entity_type::text,
    meta::text, xmin::text
"""
_ENTRY = _COLUMNS.format(time="occurred_at::timestamptz")
_OUTSIDE_ENTRY = _COLUMNS.format(time="occurred_at::text")
# PostgreSQL also knows times before Christ, after the year 9999 and at infinity.
_WITHIN_CALENDAR = "occurred_at >= '0001-01-01' AND occurred_at < '10000-01-01'"
_OUTSIDE_CALENDAR = "(occurred_at < '0001-01-01' OR occurred_at >= '10000-01-01')"
# By the columns themselves, which an index is in the order of, not by their texts above.
_IN_ORDER = "ORDER BY audit_logs.occurred_at, audit_logs.id"
_IN_REVERSE = "ORDER BY audit_logs.occurred_at DESC, audit_logs.id DESC"
_SELECTED = """
    ($1::uuid IS NULL OR user_id = $1)
    AND ($2::text[] IS NULL OR activity_type = ANY($2::text[]))
    AND ($3::text IS NULL OR entity_type = $3)
    AND ($4::uuid IS NULL OR entity_id = $4)
    AND ($5::text[] IS NULL OR activity_type LIKE ANY($5::text[]))
"""
_AGE = "CASE WHEN age(xmin) < 0 THEN 2147483647 ELSE age(xmin) END"
_BETWEEN = f"""
    FROM audit_logs
    WHERE {_SELECTED}
        AND ($6::timestamptz IS NULL OR occurred_at >= $6)
        AND ($7::timestamptz IS NULL OR occurred_at < $7)
"""
_OLDEST_FIRST = f"""
    SELECT {_ENTRY} {_BETWEEN} AND {_WITHIN_CALENDAR}
        AND ($8::timestamptz IS NULL OR (occurred_at, id) > ($8, $9::uuid))
    {_IN_ORDER} LIMIT $10
"""
_NEWEST_FIRST = f"""
    SELECT {_ENTRY} {_BETWEEN} AND {_WITHIN_CALENDAR}
        AND ($8::timestamptz IS NULL OR (occurred_at, id) < ($8, $9::uuid))
    {_IN_REVERSE} LIMIT $10
"""
_OUTSIDE = f"SELECT {_OUTSIDE_ENTRY} {_BETWEEN} AND {_OUTSIDE_CALENDAR} {_IN_ORDER}"
_COUNT = f"SELECT count(*) {_BETWEEN}"
_NTH_NEWEST = f"""
    SELECT occurred_at::timestamptz, id::text FROM audit_logs
    WHERE {_SELECTED} AND {_WITHIN_CALENDAR} {_IN_REVERSE} OFFSET $6 LIMIT 1
"""  # noqa: S608
_VISIBLE = f"""
    SELECT DISTINCT xmin::text FROM audit_logs
    WHERE {_SELECTED} AND {_AGE} <= (SELECT age($6::text::xid))
        AND ($7::timestamptz IS NULL OR (occurred_at, id) <= ($7, $8::uuid)
            OR {_OUTSIDE_CALENDAR})
"""  # noqa: S608
_NEWEST = f"SELECT xmin::text, id::text FROM audit_logs WHERE {_SELECTED} {_IN_REVERSE} LIMIT $6"  # noqa: S608
# What was written last is at the end of a table that is only added to, whenever it occurred.
_PAGES = """
    SELECT pg_relation_size('audit_logs') / current_setting('block_size')::int
    WHERE current_setting('server_version_num')::int >= 140000  -- before, it would read all of it
"""
_WRITTEN_LAST = "SELECT xmin::text, id::text FROM audit_logs WHERE ctid >= $1::text::tid"
_FOUND = "SELECT xmin::text, id::text FROM audit_logs WHERE id = ANY($1::text[]::uuid[])"
# The log's position is asked for after the snapshot is taken: all that this shows is before it.
_SNAPSHOT = """
    SELECT pg_current_snapshot()::text, clock_timestamp(), pg_is_in_recovery() AS replica,
        (SELECT oid::text FROM pg_database WHERE datname = current_database()),
        has_function_privilege('pg_control_system()', 'execute')
            AND has_function_privilege('pg_control_checkpoint()', 'execute')
            AND has_function_privilege('pg_control_recovery()', 'execute'),
        (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
            ELSE pg_current_wal_insert_lsn() END - '0/0')::text,
        CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
        pg_postmaster_start_time()::text || coalesce(
            (SELECT stats_reset::text FROM pg_stat_bgwriter), '')  -- a crash resets statistics
"""
_REPLICA_TIMELINE = """
    SELECT greatest(min_recovery_end_timeline, timeline_id)
    FROM pg_control_recovery(), pg_control_checkpoint()
"""


class PostgresHistory:
    """HistoryProtocol on PostgreSQL 13 or newer; `url` as in DATABASE_URL.

    `look_back` is how far a periodic read looks back. Connects on first use, and again after an
    error.
    """

    def __init__(
        self, url: str, *, look_back: timedelta = LOOK_BACK, chunk_rows: int = CHUNK_ROWS
    ) -> None:
        self._dsn = asyncpg_dsn(url)
        self._display = display_url(url)
        self._look_back = look_back
        self._chunk_rows = chunk_rows
        self._connection: Any = None
        self._system = ""
        self._identity: str | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def identify(self) -> str:
        if self._identity is None:
            async with self._snapshot() as (_, snapshot):
                return self._named(snapshot.origin.database)
        return self._identity

    async def begin(
        self, selection: Selection, *, since: datetime | None = None, last: int | None = None
    ) -> AsyncGenerator[HistoryChunk]:
        async def read(handover: Handover[HistoryChunk]) -> None:
            async with self._snapshot() as (connection, snapshot):
                start = await self._start(connection, selection, since, last)
                begun = Region(
                    snapshot.xmin,
                    high=start or regions.END,
                    visible=await self._visible(connection, selection, snapshot, start),
                )
                witnesses = await self._newest(connection, selection, snapshot)
            cursor = make_cursor(snapshot, [begun], snapshot.at - self._look_back, witnesses)
            # A place to go on from, before the first row is printed.
            first = HistoryChunk(
                rows=(),
                cursor=cursor,
                last=start is None,
                complete=not snapshot.origin.in_recovery,
            )
            await handover.give(first)
            if start is not None:
                await self._read_changes(handover, selection, cursor, recent_only=False)

        async with aclosing(handed_over(read)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def changes(
        self, selection: Selection, cursor: Cursor, *, recent_only: bool = False
    ) -> AsyncGenerator[HistoryChunk]:
        async def read(handover: Handover[HistoryChunk]) -> None:
            await self._read_changes(handover, selection, cursor, recent_only)

        async with aclosing(handed_over(read)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _read_changes(
        self,
        handover: Handover[HistoryChunk],
        selection: Selection,
        cursor: Cursor,
        recent_only: bool,
    ) -> None:
        """One read, in as many transactions as its reader makes it take."""
        notice: str | None = None

        async def read() -> bool:
            nonlocal cursor, notice, recent_only
            async with self._snapshot() as (connection, snapshot):
                place = await self._understand(connection, selection, cursor, snapshot)
                notice = notice or place.notice
                recent_only = recent_only and not place.rereads
                low = place.recent_from if recent_only else None
                witnesses = place.witnesses
                reading = regions.Reading(
                    place.covered, snapshot.xmin, low or regions.START_OF_TIME
                )
                rows = self._uncovered(connection, selection, snapshot, place.covered, low)
                async with aclosing(rows):
                    async for reached, part in rows:
                        written = [(xid, row.id) for row, xid in part if xid is not None]
                        witnesses = thin([*witnesses, *written])
                        covered = reading.reached(reached, (xid for xid, _ in written))
                        cursor = make_cursor(
                            snapshot, covered, place.recent_from, witnesses, place.origin
                        )
                        entries = [row for row, _ in part]
                        chunk = HistoryChunk(rows=entries, cursor=cursor, notice=notice)
                        if not await handover.give(chunk):
                            return False
            covered = reading.reached(regions.END, ())
            next_low = place.recent_from if recent_only else snapshot.at - self._look_back
            last = HistoryChunk(
                rows=(),
                cursor=make_cursor(snapshot, covered, next_low, witnesses, place.origin),
                last=True,
                complete=not snapshot.origin.in_recovery,
                covered_from=None if low is None else format_time(low),
                notice=notice,
            )
            await handover.give(last)
            return True

        await in_transactions(handover, read)

    async def verify(self, selection: Selection, cursor: Cursor, ids: Sequence[str]) -> set[str]:
        async with self._snapshot() as (connection, snapshot):
            place = await self._understand(connection, selection, cursor, snapshot)
            uncovered, arguments = _uncovered(place.covered, 7)
            query = f"SELECT id::text FROM audit_logs WHERE {_SELECTED} AND id = ANY($6::uuid[])"  # noqa: S608
            query += f" AND NOT ({uncovered})"
            records = await connection.fetch(query, *_selected(selection), list(ids), *arguments)
            return set(ids) - {id for (id,) in records}

    async def stream(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> AsyncGenerator[Sequence[HistoryRow]]:
        async def read(handover: Handover[Sequence[HistoryRow]]) -> None:
            if not newest_first:
                outside = await self._outside(selection, since, until)
                if outside:
                    await handover.give(outside[:limit])
            await self._read_range(
                handover,
                _NEWEST_FIRST if newest_first else _OLDEST_FIRST,
                (*_selected(selection), since, until),
                limit,
            )

        async with aclosing(handed_over(read)) as parts:
            async for part in parts:
                yield part

    async def _read_range(
        self,
        handover: Handover[Sequence[HistoryRow]],
        query: str,
        arguments: tuple[object, ...],
        limit: int | None,
    ) -> None:
        place: tuple[datetime | None, str | None] = (None, None)

        async def read() -> bool:
            nonlocal place, limit
            async with self._snapshot() as (connection, _):
                rows = self._fetch(connection, query, (*arguments, *place, limit))
                async with aclosing(rows):
                    async for found in rows:
                        entries = [_entry(record) for record in found]
                        place = (entries[-1].moment, entries[-1].id)
                        limit = None if limit is None else limit - len(entries)
                        if not await handover.give(entries):
                            return False
            return True

        await in_transactions(handover, read)

    async def lines(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[bytes]:
        async def read(handover: Handover[bytes]) -> None:
            outside = await self._outside(selection, since, until)
            if outside:
                await handover.give(b"".join(row.to_json() + b"\n" for row in outside))
            place = LinePlace(since, until)

            async def read_on() -> bool:
                async with self._snapshot() as (connection, _):
                    exported = await connection.fetchval("SELECT pg_export_snapshot()")
                    share = partial(self._share, exported)
                    reader = LineReader(connection, share, selection, place)
                    async with aclosing(reader.blocks()) as blocks:
                        async for block in blocks:
                            if not await handover.give(block):
                                raise Stalled  # in the middle of a COPY
                return True

            await in_transactions(handover, read_on)

        async with aclosing(handed_over(read)) as blocks:
            async for block in blocks:
                yield block

    async def count(
        self, selection: Selection, *, since: datetime | None = None, until: datetime | None = None
    ) -> int:
        async with self._snapshot() as (connection, _):
            total = await connection.fetchval(_COUNT, *_selected(selection), since, until)
            return int(total)

    async def _start(
        self, connection: Any, selection: Selection, since: datetime | None, last: int | None
    ) -> Place | None:
        """The place after which `begin` prints; None prints nothing."""
        if last is not None and last > 0:
            nth = await connection.fetchrow(_NTH_NEWEST, *_selected(selection), last - 1)
            start = (
                (regions.START_OF_TIME, "") if nth is None else just_before_place((nth[0], nth[1]))
            )
            return start if since is None else max(start, regions.just_before(since))
        if since is not None and last is None:
            return regions.just_before(since)
        return None

    async def _visible(
        self, connection: Any, selection: Selection, snapshot: Snapshot, start: Place | None
    ) -> frozenset[int]:
        """The transactions at or after the snapshot's xmin whose rows it shows, up to `start`."""
        if snapshot.xmin == snapshot.xmax:
            return frozenset()  # nothing is under way
        moment, id = (None, None) if start is None else (start[0], start[1] or str(UUID(int=0)))
        bound = str(snapshot.xmin % CIRCLE)
        records = await connection.fetch(_VISIBLE, *_selected(selection), bound, moment, id)
        positions = (snapshot.position(xmin) for (xmin,) in records)
        return frozenset(xid for xid in positions if xid is not None and xid >= snapshot.xmin)

    async def _newest(
        self, connection: Any, selection: Selection, snapshot: Snapshot
    ) -> tuple[Witness, ...]:
        """Rows to bear witness for a cursor that has read none.

        No row that is there already may be beyond them: after a restart it would count as new.
        """
        records = await connection.fetch(_NEWEST, *_selected(selection), WITNESSES)
        if pages := await connection.fetchval(_PAGES):
            start = f"({max(0, pages - LAST_PAGES)},0)"
            records += await connection.fetch(_WRITTEN_LAST, start)
        return thin(_witnesses(records, snapshot))

    async def _understand(
        self, connection: Any, selection: Selection, cursor: Cursor, snapshot: Snapshot
    ) -> Understood:
        stored = parse(cursor)
        found: set[Witness] | None = None
        if stored is not None and is_doubtful(stored, snapshot):
            ids = [id for _, id in stored.witnesses]
            found = set(_witnesses(await connection.fetch(_FOUND, ids), snapshot))
        place = understand(stored, snapshot, found)
        if place.rereads and not place.witnesses:
            witnesses = await self._newest(connection, selection, snapshot)
            place = msgspec.structs.replace(place, witnesses=witnesses)
        return place

    async def _outside(
        self, selection: Selection, since: datetime | None, until: datetime | None
    ) -> list[UnreadableEntry]:
        """What of a range occurred outside of the calendar."""
        async with self._snapshot() as (connection, _):
            arguments = (*_selected(selection), since, until)
            return [_unreadable(record) for record in await connection.fetch(_OUTSIDE, *arguments)]

    async def _uncovered(
        self,
        connection: Any,
        selection: Selection,
        snapshot: Snapshot,
        covered: tuple[Region, ...],
        low: datetime | None,
    ) -> AsyncGenerator[tuple[Place, list[tuple[HistoryRow, int | None]]]]:
        """Rows from `low` on that are not covered, and the place up to which they are all of them.

        Those outside of the calendar come before every other.
        """
        selected = _selected(selection)
        if low is None:
            uncovered, arguments = _uncovered(covered, 6, within_calendar=False)
            query = f"SELECT {_OUTSIDE_ENTRY} FROM audit_logs WHERE {_SELECTED} AND {uncovered}"  # noqa: S608
            query += f" AND {_OUTSIDE_CALENDAR} {_IN_ORDER}"
            if records := await connection.fetch(query, *selected, *arguments):
                rows: list[tuple[HistoryRow, int | None]] = [
                    (_unreadable(record), snapshot.position(record[7])) for record in records
                ]
                yield (regions.START_OF_TIME, ""), rows
        uncovered, arguments = _uncovered(covered, 7)
        query = f"SELECT {_ENTRY} FROM audit_logs WHERE {_SELECTED} AND {uncovered}"  # noqa: S608
        query += f" AND ($6::timestamptz IS NULL OR occurred_at >= $6) AND {_WITHIN_CALENDAR}"
        query += _IN_ORDER
        async for records in self._fetch(connection, query, (*selected, low, *arguments)):
            entries = [_entry(record) for record in records]
            positions = [snapshot.position(record[7]) for record in records]
            last = entries[-1]
            yield (last.moment, last.id), list(zip(entries, positions, strict=True))

    async def _fetch(
        self, connection: Any, query: str, arguments: Sequence[object]
    ) -> AsyncGenerator[list[Any]]:
        # Nameless: behind PgBouncer another client may have left a statement of any name.
        statement = await connection.prepare(query, name="")
        cursor = await statement.cursor(*arguments)
        size = ChunkSize(self._chunk_rows)
        while records := await cursor.fetch(size.rows):
            size.came([record[6] for record in records])
            yield records

    @asynccontextmanager
    async def _snapshot(self) -> AsyncGenerator[tuple[Any, Snapshot]]:
        """A read-only transaction in which every statement sees the same moment."""
        async with self._lock:
            with database_errors(self._display):
                try:
                    connection = await self._connect()
                    transaction = connection.transaction(**_TRANSACTION)
                    await transaction.start()
                    await connection.execute(_LOCAL_SETTINGS)
                    yield connection, await self._take(connection)
                    await transaction.commit()
                except BaseException:
                    # What is left half-read is not used again. It is not even rolled back: that
                    # would wait until the server has noticed, and hold its locks as long.
                    await self.__aexit__()
                    raise

    @asynccontextmanager
    async def _share(self, exported: str) -> AsyncGenerator[Any]:
        """Another connection that sees the snapshot of a transaction that is still open."""
        if not _SNAPSHOT_ID.fullmatch(exported):
            raise ValueError(f"{exported!r} is not the name of a snapshot")
        with database_errors(self._display):
            connection = await self._open()
            try:
                await connection.transaction(**_TRANSACTION).start()
                await connection.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
                # The first transaction holds its lock while this one waits for its own: behind an
                # ALTER TABLE that waits for the first, it would be for ever.
                await connection.execute(_LOCAL_SETTINGS + "; SET LOCAL lock_timeout = '1s'")
                yield connection
            finally:
                connection.terminate()

    async def _connect(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._open()
            self._system = ""
        return self._connection

    async def _open(self) -> Any:
        import asyncpg  # slow; a tail is subscribed before it comes to this

        return await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=STATEMENT_TIMEOUT,
            statement_cache_size=0,
            server_settings={"application_name": "lykke"},
        )

    def _named(self, database: str) -> str:
        # Where the cluster's own name may not be asked for, its address has to do.
        return f"postgresql:{database if self._system else self._display + database}"

    async def _take(self, connection: Any) -> Snapshot:
        asked = await connection.fetchrow(_SNAPSHOT)
        text, at, in_recovery, database, may_ask, lsn, timeline, server = asked
        if may_ask and not self._system:
            self._system = await connection.fetchval(
                "SELECT system_identifier::text FROM pg_control_system()"
            )
        number = 0 if timeline is None else int(timeline, 16)
        if in_recovery and may_ask:
            number = await connection.fetchval(_REPLICA_TIMELINE)
        self._identity = self._named(f"{self._system}/{database}")
        origin = Origin(f"{self._system}/{database}", number, int(lsn or 0), server, in_recovery)
        xmin, xmax, _ = text.split(":")
        return Snapshot(int(xmin), int(xmax), at, origin)


def _uncovered(
    covered: Iterable[Region], first: int, *, within_calendar: bool = True
) -> tuple[str, list[object]]:
    """The condition that no region covers a row, its parameters numbered from `first` on."""
    conditions, arguments = ["TRUE"], list[object]()

    def parameter(value: object) -> str:
        arguments.append(value)
        return f"${first + len(arguments) - 1}"

    for region in covered:
        if not within_calendar and region.low > regions.START_OF_TIME:
            continue
        # In a SELECT of its own it is worked out once, not for every row.
        condition = f"{_AGE} > (SELECT age({parameter(str(region.before % CIRCLE))}::text::xid))"
        if region.visible:
            visible = parameter([str(xid % CIRCLE) for xid in region.visible])
            condition = f"({condition} OR xmin = ANY({visible}::text[]::xid[]))"
        if within_calendar and not region.is_whole:
            low, high = parameter(region.low), parameter(region.high[0])
            id = parameter(region.high[1] or str(UUID(int=0)))
            condition += f" AND occurred_at >= {low}::timestamptz"
            condition += f" AND (occurred_at, id) <= ({high}::timestamptz, {id}::uuid)"
        conditions.append(f"NOT ({condition})")
    return " AND ".join(conditions), arguments


def _witnesses(records: Iterable[Any], snapshot: Snapshot) -> list[Witness]:
    positions = ((snapshot.position(xmin), id) for xmin, id in records)
    return [(position, id) for position, id in positions if position is not None]


def _unreadable(record: Any) -> UnreadableEntry:
    id, user_id, activity_type, occurred_at, entity_id, entity_type, meta, *_ = record
    return unreadable_entry(
        {
            "id": id,
            "user_id": user_id,
            "activity_type": activity_type,
            "occurred_at": occurred_at,
            "entity_id": entity_id,
            "entity_type": entity_type,
            "meta": _meta(meta),
        }
    )


def _meta(stored: str | None) -> msgspec.Raw:
    if stored is None or stored == "null":
        return EMPTY_META
    return msgspec.Raw(on_one_line(stored.encode()))


def _entry(record: Any) -> Entry:
    id, user_id, activity_type, occurred_at, entity_id, entity_type, meta, *_ = record
    return Entry(
        id=id,
        user_id=user_id,
        activity_type=activity_type,
        occurred_at=format_time(occurred_at),
        entity_id=entity_id,
        entity_type=entity_type,
        meta=_meta(meta),
    )


def _selected(selection: Selection) -> tuple[object, ...]:
    return (
        selection.user_id,
        list(selection.activity_types) or None,
        selection.entity_type,
        selection.entity_id,
        list(selection.activity_likes) or None,
    )
