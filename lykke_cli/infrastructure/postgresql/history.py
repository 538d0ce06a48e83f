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
* A transaction that stays open for days holds the snapshot's own xmin back, and there would be
  more and more ids to keep. `pg_xact_status` tells of each id, of subtransactions as well, whether
  it is in progress. What had ended before a snapshot was taken is visible in it, or never will
  be. So what is kept is all but the few that had not: that is few runs of ids.

`xmin` has 32 bits, a snapshot 64. They are compared by `age()`, which counts back from now on the
32-bit circle: exact for the 2^31 transactions before now. An age below zero belongs to a row older
than that; it is covered by any cursor that fits.
https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
https://www.postgresql.org/docs/current/subxacts.html

Transaction ids are given out again where commits were lost; see `witnesses.py`.

Everything runs in read-only transactions, without named prepared statements and without settings
that outlive a transaction: SELECT rights and PgBouncer in transaction mode are enough. There is one
connection, and some more for as long as `lines` reads.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

import msgspec

from lykke_cli.application.errors import SchemaMismatch
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
    parse_wire_time,
    unreadable_entry,
)
from lykke_cli.infrastructure.database import regions, runs
from lykke_cli.infrastructure.database.chunk_size import LARGE_META, LEFT_OUT, ChunkSize, in_parts
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.handover import (
    Handover,
    Stalled,
    handed_over,
    in_transactions,
)
from lykke_cli.infrastructure.database.regions import Region, SortKey, just_before_key
from lykke_cli.infrastructure.database.runs import Runs
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
    known_ended,
    make_cursor,
    parse,
    understand,
)
from lykke_cli.infrastructure.postgresql.lines import LinePlace, LineReader
from lykke_cli.infrastructure.postgresql.selection import IN_RANGE, SELECTED, in_range, selected

LOOK_BACK = timedelta(hours=1)
"""How far back a periodic read looks; a full one has no bound."""
CHUNK_ROWS = 1_000
WITNESSES = 8
"""How many rows bear witness for a cursor that has read none yet."""
LAST_PAGES = 8
FAR_APART = 1_000
"""How many transactions may have begun since the oldest that is open before it is asked which of
them have ended."""
TOO_NEW = 200
"""How many of the newest are not asked about. The id of a subtransaction is in use for a moment
before the server can tell that it is, where its transaction has many (`GetNewTransactionId`)."""
MOST_ASKED = 1_000_000
"""How many of them are asked about by one read; the next one goes on."""
MOST_RUNS = 10_000
"""Of more runs of ids than that in a cursor the person is told: it is large, and slow."""
_SNAPSHOT_ID = re.compile(r"[0-9A-F-]+")
_TRANSACTION: Final = {"isolation": "repeatable_read", "readonly": True}
_LOCAL_SETTINGS = (
    f"SET LOCAL statement_timeout = {int(STATEMENT_TIMEOUT * 1000)}; SET LOCAL TimeZone = 'UTC'"
)

# Statements are put together from the constants below: whatever comes from outside is a parameter.
_LARGE_LEFT_OUT = f"""
    (SELECT CASE WHEN octet_length(t) > {LARGE_META} THEN '{LEFT_OUT}' || octet_length(t)
            ELSE t END
        FROM (SELECT meta::text AS t OFFSET 0) AS whole)  -- made into text once
"""  # noqa: S608
_COLUMNS = f"""
    id::text, user_id::text, activity_type::text, {{time}}, entity_id::text, entity_type::text,
    {_LARGE_LEFT_OUT}, xmin::text
"""
_METAS = "SELECT id::text, meta::text FROM audit_logs WHERE id = ANY($1::text[]::uuid[])"
_FIRST = "'0001-01-01 00:00:00+00'::timestamptz"
_LAST = "'9999-12-31 23:59:59.999999+00'::timestamptz"
_CLAMPED = f"least(greatest(occurred_at::timestamptz, {_FIRST}), {_LAST})"
_IS_READABLE = f"occurred_at >= {_FIRST} AND occurred_at < '10000-01-01 00:00:00+00'::timestamptz"


class _Part(NamedTuple):
    """A part of the table; PostgreSQL also knows times before Christ, after the year 9999 and at
    infinity, which have no place of their own: they are in the order of their ids.
    """

    where: str
    moment: str
    """When its rows occurred, for the places of a cursor."""
    entry: str
    """What is read of each row."""
    order: tuple[str, str]
    """Oldest first, and newest first."""
    edge: datetime | None = None
    """`moment`, where it is the same for all its rows."""


_EDGE_ENTRY = _COLUMNS.format(time=f"CASE WHEN {_IS_READABLE} THEN occurred_at::timestamptz END")
_EDGE_ENTRY += ", occurred_at::text"
_BEFORE = _Part(
    f"occurred_at <= {_FIRST}", _FIRST, _EDGE_ENTRY, ("id", "id DESC"), regions.START_OF_TIME
)
_WITHIN = _Part(
    f"occurred_at > {_FIRST} AND occurred_at < {_LAST}",
    "occurred_at",
    _COLUMNS.format(time="occurred_at::timestamptz"),
    # By the columns themselves, which an index is in the order of, not by their texts.
    ("audit_logs.occurred_at, audit_logs.id", "audit_logs.occurred_at DESC, audit_logs.id DESC"),
)
_AFTER = _Part(
    f"occurred_at >= {_LAST}", _LAST, _EDGE_ENTRY, ("id", "id DESC"), regions.END_OF_TIME
)
_PARTS = (_BEFORE, _WITHIN, _AFTER)

_AGE = "CASE WHEN age(xmin) < 0 THEN 2147483647 ELSE age(xmin) END"


def _range_of(part: _Part, *, newest_first: bool) -> str:
    return f"""
        SELECT {part.entry} FROM audit_logs WHERE {IN_RANGE} AND {part.where}
            AND ($8::text IS NULL
                OR ({part.moment}, id) {"<" if newest_first else ">"} ($8::timestamptz, $9::uuid))
        ORDER BY {part.order[newest_first]} LIMIT $10
    """  # noqa: S608


_OLDEST_FIRST = [(part, _range_of(part, newest_first=False)) for part in _PARTS]
_NEWEST_FIRST = [(part, _range_of(part, newest_first=True)) for part in reversed(_PARTS)]
_COUNT = f"SELECT count(*) FROM audit_logs WHERE {IN_RANGE}"  # noqa: S608
_NEWEST_PARTS = " UNION ALL ".join(
    f"""
        (SELECT {part.moment}::timestamptz AS moment, id FROM audit_logs
        WHERE {SELECTED} AND {part.where}
        ORDER BY {part.order[1]} LIMIT $6::bigint + 1)
    """  # noqa: S608
    for part in _PARTS
)
_NTH_NEWEST = f"""
    SELECT moment, id::text FROM ({_NEWEST_PARTS}) AS newest
    ORDER BY moment DESC, id DESC OFFSET $6::bigint LIMIT 1
"""  # noqa: S608
_VISIBLE = f"""
    SELECT DISTINCT xmin::text FROM audit_logs
    WHERE {SELECTED} AND ($6::text IS NULL OR ({_CLAMPED}, id) <= ($6::timestamptz, $7::uuid))
"""  # noqa: S608
_IN_PROGRESS = """
    SELECT xid
    FROM unnest($1::bigint[], $2::bigint[]) AS run (first, last),
        generate_series(first, last) AS xid
    WHERE pg_xact_status(xid::text::xid8) = 'in progress'
"""
_IN_REVERSE = "ORDER BY audit_logs.occurred_at DESC, audit_logs.id DESC"
_NEWEST = f"SELECT xmin::text, id::text FROM audit_logs WHERE {SELECTED} {_IN_REVERSE} LIMIT $6"  # noqa: S608
# What was written last is at the end of a table that is only added to, whenever it occurred.
_PAGES = """
    SELECT pg_relation_size('audit_logs') / current_setting('block_size')::int
    WHERE current_setting('server_version_num')::int >= 140000  -- before, it would read all of it
"""
_WRITTEN_LAST = "SELECT xmin::text, id::text FROM audit_logs WHERE ctid >= $1::text::tid"
_FOUND = "SELECT xmin::text, id::text FROM audit_logs WHERE id = ANY($1::text[]::uuid[])"
_SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"
_REPLICA_TIMELINE = """
    SELECT greatest(min_recovery_end_timeline, timeline_id)
    FROM pg_control_recovery(), pg_control_checkpoint()
"""


class _Question(NamedTuple):
    """What is asked of the server with each snapshot, and the functions a role must be allowed."""

    expression: str
    functions: frozenset[str]


# The log's position is asked for after the snapshot is taken: all that this shows is before it.
_LSN = _Question(
    """(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_insert_lsn() END - '0/0')::text""",
    frozenset({"pg_last_wal_replay_lsn()", "pg_current_wal_insert_lsn()"}),
)
_TIMELINE = _Question(
    "CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END",
    frozenset({"pg_walfile_name(pg_lsn)", "pg_current_wal_lsn()"}),
)
_STARTED = _Question("pg_postmaster_start_time()::text", frozenset({"pg_postmaster_start_time()"}))
_CRASHED = _Question(  # a crash resets statistics
    "pg_stat_get_bgwriter_stat_reset_time()::text",
    frozenset({"pg_stat_get_bgwriter_stat_reset_time()"}),
)
_CONTROL = frozenset({"pg_control_system()", "pg_control_checkpoint()", "pg_control_recovery()"})
_XACT_STATUS = "pg_xact_status(xid8)"
_RELATION_SIZE = "pg_relation_size(regclass,text)"
_QUESTIONS = (_LSN, _TIMELINE, _STARTED, _CRASHED)
_WITNESS_FUNCTIONS = _CONTROL.union(*(question.functions for question in _QUESTIONS))
_DENIED = """
    SELECT name FROM unnest($1::text[]) AS name
    WHERE has_function_privilege(to_regprocedure(name)::oid, 'execute') IS NOT TRUE
"""
_KIND = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass('audit_logs')"
_KINDS = {"v": "a view", "f": "a foreign table"}
_NO_COLUMN = ("42703", "0A000")  # SQLSTATEs: there is no xmin, or it cannot be had
_GROWING = (
    "a transaction has been open for so long that the place kept for this user has become large "
    "and slow: lykke doctor names it; GRANT EXECUTE ON FUNCTION pg_xact_status(xid8) TO this role "
    "helps where it may not call it"
)


def _snapshot_query(denied: Iterable[str]) -> str:
    asked = [
        "NULL" if question.functions.intersection(denied) else question.expression
        for question in _QUESTIONS
    ]
    return f"""
        SELECT pg_current_snapshot()::text, clock_timestamp(), pg_is_in_recovery(),
            (SELECT oid::text FROM pg_database WHERE datname = current_database()),
            {", ".join(asked)}
    """  # noqa: S608


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
        self._denied: frozenset[str] = frozenset()
        self._kind = ""
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
            async with self._snapshot(partial(known_ended, None)) as (connection, snapshot):
                start = await self._start(connection, selection, since, last)
                visible = await self._visible(connection, selection, snapshot, start)
                begun = Region(snapshot.xmin, high=start or regions.END, visible=visible)
                witnesses = await self._newest(connection, selection, snapshot)
            cursor = make_cursor(snapshot, [begun], snapshot.at - self._look_back, witnesses)
            # A place to go on from, before the first row is printed.
            first = HistoryChunk(
                rows=(),
                cursor=cursor,
                last=start is None,
                authoritative=not snapshot.origin.in_recovery,
                notice=self._limits(),
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
            known = partial(known_ended, parse(cursor))
            async with self._snapshot(known) as (connection, snapshot):
                place = await self._understand(connection, selection, cursor, snapshot)
                notice = notice or place.notice or self._limits()
                if sum(len(region.visible) for region in place.covered) > MOST_RUNS:
                    notice = notice or _GROWING
                recent_only = recent_only and not place.rereads
                low = place.recent_from if recent_only else None
                witnesses = place.witnesses
                reading = regions.Reading(
                    place.covered, snapshot.xmin, low or regions.START_OF_TIME, snapshot.ended
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
                authoritative=not snapshot.origin.in_recovery,
                covered_from=None if low is None else format_time(low),
                notice=notice,
            )
            await handover.give(last)
            return True

        await in_transactions(handover, read)

    async def verify(self, selection: Selection, cursor: Cursor, ids: Sequence[str]) -> set[str]:
        async with self._snapshot() as (connection, snapshot):
            place = await self._understand(connection, selection, cursor, snapshot)
            uncovered, arguments = _uncovered(place.covered, 7, _CLAMPED)
            query = f"SELECT id::text FROM audit_logs WHERE {SELECTED} AND id = ANY($6::uuid[])"  # noqa: S608
            query += f" AND NOT ({uncovered})"
            records = await connection.fetch(query, *selected(selection), list(ids), *arguments)
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
            queries = _NEWEST_FIRST if newest_first else _OLDEST_FIRST
            arguments = in_range(selection, since, until)
            await self._read_parts(handover, handover.give, queries, arguments, limit)

        async with aclosing(handed_over(read)) as parts:
            async for part in parts:
                yield part

    async def _read_parts(
        self,
        handover: Handover[Any],
        give: Callable[[Sequence[HistoryRow]], Awaitable[bool]],
        queries: Sequence[tuple[_Part, str]],
        arguments: tuple[object, ...],
        limit: int | None = None,
    ) -> None:
        """One query after the other, in as many transactions as the reader makes it take."""
        left = list(queries)
        place: tuple[str | None, str | None] = (None, None)

        async def read() -> bool:
            nonlocal place, limit
            async with self._snapshot() as (connection, _):
                while left:
                    part, query = left[0]
                    values = (*arguments, *place, limit)
                    async with aclosing(self._fetch(connection, query, values)) as found:
                        async for records in found:
                            rows = [_row(record) for record in records]
                            place = _sent(_place(part, rows[-1]))
                            limit = None if limit is None else limit - len(rows)
                            if not await give(rows):
                                return False
                    del left[0]
                    place = (None, None)
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
            place = LinePlace(since, until)
            before, _, after = _OLDEST_FIRST
            arguments = in_range(selection, since, until)

            async def give(rows: Sequence[HistoryRow]) -> bool:
                return await handover.give(b"".join(row.to_json() + b"\n" for row in rows))

            await self._read_parts(handover, give, [before], arguments)

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
            await self._read_parts(handover, give, [after], arguments)

        async with aclosing(handed_over(read)) as blocks:
            async for block in blocks:
                yield block

    async def count(
        self, selection: Selection, *, since: datetime | None = None, until: datetime | None = None
    ) -> int:
        async with self._snapshot() as (connection, _):
            total = await connection.fetchval(_COUNT, *in_range(selection, since, until))
            return int(total)

    async def _start(
        self, connection: Any, selection: Selection, since: datetime | None, last: int | None
    ) -> SortKey | None:
        """The place after which `begin` prints; None where it prints nothing."""
        if last is not None and last > 0:
            nth = await connection.fetchrow(_NTH_NEWEST, *selected(selection), last - 1)
            start = regions.BEFORE_ALL if nth is None else just_before_key((nth[0], nth[1]))
            return start if since is None else max(start, regions.just_before(since))
        if since is not None and last is None:
            return regions.just_before(since)
        return None

    async def _visible(
        self, connection: Any, selection: Selection, snapshot: Snapshot, start: SortKey | None
    ) -> Runs:
        """The transactions at or after the snapshot's xmin that have ended, or whose rows up to
        `start` it shows.
        """
        if snapshot.xmin == snapshot.xmax:
            return runs.NONE  # nothing is under way
        place = (None, None) if start is None else _sent(start)
        ended = [Region(snapshot.xmin, visible=snapshot.ended)]
        uncovered, arguments = _uncovered(ended, 8, _CLAMPED)
        query = f"{_VISIBLE} AND {uncovered}"
        records = await connection.fetch(query, *selected(selection), *place, *arguments)
        positions = (snapshot.position(xmin) for (xmin,) in records)
        return snapshot.ended | Runs.of(xid for xid in positions if xid is not None)

    async def _newest(
        self, connection: Any, selection: Selection, snapshot: Snapshot
    ) -> tuple[Witness, ...]:
        """Rows to bear witness for a cursor that has read none.

        No row that is there already may be beyond them: after a restart it would count as new.
        """
        records = await connection.fetch(_NEWEST, *selected(selection), WITNESSES)
        may_ask = _RELATION_SIZE not in self._denied
        if may_ask and (pages := await connection.fetchval(_PAGES)):
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

    async def _uncovered(
        self,
        connection: Any,
        selection: Selection,
        snapshot: Snapshot,
        covered: tuple[Region, ...],
        low: datetime | None,
    ) -> AsyncGenerator[tuple[SortKey, list[tuple[HistoryRow, int | None]]]]:
        """Rows from `low` on that are not covered, and the place up to which they are all."""
        for part in _PARTS if low is None else (_WITHIN, _AFTER):
            query, arguments = _changed(part, covered)
            values = (*selected(selection), low, *arguments)
            async with aclosing(self._fetch(connection, query, values)) as found:
                async for records in found:
                    rows = [_row(record) for record in records]
                    positions = [snapshot.position(record[7]) for record in records]
                    yield _place(part, rows[-1]), list(zip(rows, positions, strict=True))

    async def _fetch(
        self, connection: Any, query: str, arguments: Sequence[object]
    ) -> AsyncGenerator[list[tuple[Any, ...]]]:
        # Nameless: behind PgBouncer another client may have left a statement of any name.
        statement = await connection.prepare(query, name="")
        cursor = await statement.cursor(*arguments)
        size = ChunkSize(self._chunk_rows)

        async def whole(ids: list[str]) -> dict[str, str]:
            return dict(await connection.fetch(_METAS, ids))

        while records := await cursor.fetch(size.rows):
            size.came()
            async with aclosing(in_parts(records, 6, whole)) as parts:
                async for part in parts:
                    yield part

    @asynccontextmanager
    async def _snapshot(
        self, known: Callable[[Snapshot], Runs] | None = None
    ) -> AsyncGenerator[tuple[Any, Snapshot]]:
        """A read-only transaction in which every statement sees the same moment.

        With `known`, the transactions that are known to have ended, it is found out which of the
        others had, where there are many: `Snapshot.ended`.
        """
        async with self._lock:
            with database_errors(self._display):
                try:
                    connection = await self._connect()
                    transaction, snapshot = await self._start_transaction(connection)
                    if known is not None and self._is_far_apart(snapshot):
                        then = snapshot.origin
                        ended = await _ended(connection, snapshot, known(snapshot))
                        await transaction.commit()
                        transaction, snapshot = await self._start_transaction(connection)
                        now = snapshot.origin
                        # Behind a pooler it may be another server, which is not so far yet.
                        if (then.database, then.server) == (now.database, now.server):
                            ended = ended.starting(snapshot.xmin)
                            snapshot = msgspec.structs.replace(snapshot, ended=ended)
                    yield connection, snapshot
                    await transaction.commit()
                except BaseException as error:
                    # What is left half-read is not used again. It is not even rolled back: that
                    # would wait until the server has noticed, and hold its locks as long.
                    await self.__aexit__()
                    if self._kind in _KINDS and getattr(error, "sqlstate", None) in _NO_COLUMN:
                        raise SchemaMismatch(
                            f"audit_logs at {self._display} is {_KINDS[self._kind]}, which has no "
                            "order of commits (xmin): the table itself is needed.",
                            remedy="Let the search_path of this role lead to the table: "
                            "ALTER ROLE <role> SET search_path = ...",
                        ) from error
                    raise

    async def _start_transaction(self, connection: Any) -> tuple[Any, Snapshot]:
        transaction = connection.transaction(**_TRANSACTION)
        await transaction.start()
        await connection.execute(_LOCAL_SETTINGS)
        return transaction, await self._take(connection)

    def _is_far_apart(self, snapshot: Snapshot) -> bool:
        """True where it pays to ask which transactions have ended, and it may be asked."""
        return (
            snapshot.xmax - snapshot.xmin > FAR_APART
            and _XACT_STATUS not in self._denied
            and bool(snapshot.origin.server)
        )

    def _limits(self) -> str | None:
        """What cannot be told with the rights of this role, for the person; None if all can."""
        if not (denied := sorted(_WITNESS_FUNCTIONS & self._denied)):
            return None
        return (
            "this role may not ask the server for all that tells whether commits were lost (a "
            "fail-over, a crash, a restored backup): such a loss may go unnoticed; "
            f"GRANT EXECUTE ON FUNCTION {', '.join(denied)} TO <role>"
        )

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
            self._connection = connection = await self._open()
            asked = [*_WITNESS_FUNCTIONS, _XACT_STATUS, _RELATION_SIZE]
            self._denied = frozenset(n for (n,) in await connection.fetch(_DENIED, asked))
            self._kind = await connection.fetchval(_KIND) or ""
            self._system = ""
            if not _CONTROL & self._denied:
                self._system = await connection.fetchval(_SYSTEM)
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
        asked = await connection.fetchrow(_snapshot_query(self._denied))
        text, at, in_recovery, database, lsn, timeline, started, crashed = asked
        number = 0 if timeline is None else int(timeline, 16)
        if in_recovery and not _CONTROL & self._denied:
            number = await connection.fetchval(_REPLICA_TIMELINE)
        server = "" if started is None else started + (crashed or "")
        self._identity = self._named(f"{self._system}/{database}")
        origin = Origin(f"{self._system}/{database}", number, int(lsn or 0), server, in_recovery)
        xmin, xmax, _ = text.split(":")
        return Snapshot(int(xmin), int(xmax), at, origin)


async def _ended(connection: Any, snapshot: Snapshot, known: Runs) -> Runs:
    """Those of the transactions from the snapshot's xmin on that have ended by now.

    Whatever snapshot is taken afterwards shows their rows, if they were committed.
    """
    asked: list[tuple[int, int]] = []
    left, until = MOST_ASKED, snapshot.xmin
    for begin, end in known.gaps(snapshot.xmin, snapshot.xmax - TOO_NEW).pairs():
        until = min(end, begin + left)
        left -= until - begin
        asked.append((begin, until))
        if not left:
            break
    firsts, lasts = [begin for begin, _ in asked], [end - 1 for _, end in asked]
    records = await connection.fetch(_IN_PROGRESS, firsts, lasts)
    return known | Runs.of(xid for (xid,) in records).gaps(snapshot.xmin, until)


def _changed(part: _Part, covered: Iterable[Region]) -> tuple[str, list[object]]:
    """The query for what of a part no region covers, and its parameters after the sixth."""
    uncovered, arguments = _uncovered(covered, 7, part.moment)
    query = f"""
        SELECT {part.entry} FROM audit_logs
        WHERE {SELECTED} AND ($6::timestamptz IS NULL OR occurred_at >= $6)
            AND {part.where} AND {uncovered}
        ORDER BY {part.order[0]}
    """  # noqa: S608
    return query, arguments


def _uncovered(covered: Iterable[Region], first: int, moment: str) -> tuple[str, list[object]]:
    """The condition that no region covers a row, its parameters numbered from `first` on.

    `moment` is the expression for when the row occurred.
    """
    conditions, arguments = ["TRUE"], list[object]()

    def parameter(value: object) -> str:
        arguments.append(value)
        return f"${first + len(arguments) - 1}"

    for region in covered:
        # In a SELECT of its own it is worked out once, not for every row.
        before = f"(SELECT age({parameter(str(region.before % CIRCLE))}::text::xid))"
        condition = f"{_AGE} > {before}"
        if region.visible:
            # How many bounds of runs are at or below the row's position: an odd number within one.
            bounds = parameter([bound - region.before for bound in region.visible.bounds])
            bucket = f"width_bucket({before}::bigint - {_AGE}, {bounds}::bigint[])"
            condition = f"({condition} OR {bucket} % 2 = 1)"
        if not region.is_whole:
            low, [high, id] = parameter(format_time(region.low)), map(parameter, _sent(region.high))
            condition += f" AND {moment} >= {low}::text::timestamptz"
            condition += f" AND ({moment}, id) <= ({high}::text::timestamptz, {id}::uuid)"
        conditions.append(f"NOT ({condition})")
    return " AND ".join(conditions), arguments


def _place(part: _Part, row: HistoryRow) -> SortKey:
    return (part.edge or parse_wire_time(row.occurred_at), row.id)


def _sent(place: SortKey) -> tuple[str, str]:
    """A place as parameters: as times, asyncpg would send the first and the last as infinite."""
    return format_time(place[0]), place[1] or str(UUID(int=0))


def _row(record: Sequence[Any]) -> HistoryRow:
    return _unreadable(record) if record[3] is None else _entry(record)


def _witnesses(records: Iterable[Any], snapshot: Snapshot) -> list[Witness]:
    positions = ((snapshot.position(xmin), id) for xmin, id in records)
    return [(position, id) for position, id in positions if position is not None]


def _unreadable(record: Sequence[Any]) -> UnreadableEntry:
    id, user_id, activity_type, _, entity_id, entity_type, meta, _, occurred_at = record
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
