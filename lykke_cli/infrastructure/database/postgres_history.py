"""History on PostgreSQL, in commit order.

Why not by occurred_at or id: transactions commit out of order, stay open for minutes, and
occurred_at may be back-dated by days. What orders commits is the snapshot: whatever a snapshot
shows was committed before it was taken. A row's `xmin` names the (sub)transaction that wrote it,
and every transaction below the snapshot's own xmin had ended when it was taken:

* `xmin` below it: the row is visible now, or never. No later read can bring it up again: settled.
* `xmin` at or after it: in doubt. `pg_visible_in_snapshot` would decide wrongly, because a row
  written under a SAVEPOINT bears its subtransaction's id, which the snapshot does not list even
  while the transaction is open. So all of these are candidates of the next read, and the ids
  printed so far decide (see `merge.py`).

`xmin` has 32 bits, a snapshot 64. They are compared by `age()`, which counts back from now on the
32-bit circle: exact for the 2^31 transactions before now. An age below zero belongs to a row older
than that; it is covered by any cursor that fits.
https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
https://www.postgresql.org/docs/current/subxacts.html

Everything runs in read-only transactions, one connection, without named prepared statements or
session settings, so that SELECT rights and PgBouncer in transaction mode are enough.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self

import msgspec

from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryRow,
    Selection,
)
from lykke_cli.application.messages import Entry, format_time, on_one_line
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.chunk_size import ChunkSize
from lykke_cli.infrastructure.database.errors import database_errors, unreadable_rows
from lykke_cli.infrastructure.database.postgres_cursor import (
    Snapshot,
    coverage,
    just_before_place,
    make_cursor,
    understand,
    up_to,
)
from lykke_cli.infrastructure.database.postgres_lines import LineReader
from lykke_cli.infrastructure.database.regions import Place, Region
from lykke_cli.infrastructure.database.urls import (
    CONNECT_TIMEOUT,
    STATEMENT_TIMEOUT,
    asyncpg_dsn,
    display_url,
)

LOOK_BACK = timedelta(hours=1)
"""How far back a periodic read looks; a full one has no bound."""
CHUNK_ROWS = 1_000
_SNAPSHOT_ID = re.compile(r"[0-9A-F-]+")
_LOCAL_SETTINGS = (
    f"SET LOCAL statement_timeout = {int(STATEMENT_TIMEOUT * 1000)}; SET LOCAL TimeZone = 'UTC'"
)

# The texts below are constants: whatever comes from outside is a parameter.
_ENTRY = """
    id::text, user_id::text, activity_type::text, occurred_at::timestamptz,
    entity_id::text, entity_type::text, meta::text
"""
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
_UNCOVERED = f"""
    ($7::text IS NULL OR {_AGE} <= (SELECT age($7::text::xid)))
    AND NOT EXISTS (
        SELECT FROM unnest($8::text[], $9::text[], $10::text[], $11::text[])
            AS region (before, low, high, high_id)
        WHERE {_AGE} > age(region.before::xid)
            AND occurred_at >= region.low::timestamptz
            AND (occurred_at, id) <= (region.high::timestamptz, region.high_id::uuid)
    )
"""  # noqa: S608
_CANDIDATES = f"""
    SELECT {_ENTRY}, {_AGE} > (SELECT age($6::text::xid))
    FROM audit_logs
    WHERE {_SELECTED} AND {_UNCOVERED}
        AND ($12::timestamptz IS NULL OR occurred_at >= $12)
        AND ($13::uuid IS NULL OR (occurred_at, id) > ($12, $13))
    {_IN_ORDER}
"""  # noqa: S608
_VERIFY = f"""
    SELECT {_ENTRY}, {_AGE} > (SELECT age($6::text::xid)), {_UNCOVERED}
    FROM audit_logs
    WHERE {_SELECTED} AND id = ANY($12::uuid[])
"""  # noqa: S608
_BETWEEN = f"""
    FROM audit_logs
    WHERE {_SELECTED}
        AND ($6::timestamptz IS NULL OR occurred_at >= $6)
        AND ($7::timestamptz IS NULL OR occurred_at < $7)
"""
_OLDEST_FIRST = f"SELECT {_ENTRY} {_BETWEEN} {_IN_ORDER} LIMIT $8"
_NEWEST_FIRST = f"SELECT {_ENTRY} {_BETWEEN} {_IN_REVERSE} LIMIT $8"
_COUNT = f"SELECT count(*) {_BETWEEN}"
_NTH_NEWEST = f"""
    SELECT occurred_at::timestamptz, id::text FROM audit_logs WHERE {_SELECTED}
    {_IN_REVERSE} OFFSET $6 LIMIT 1
"""  # noqa: S608
_SNAPSHOT = """
    SELECT pg_current_snapshot()::text, clock_timestamp(), pg_is_in_recovery(),
        (SELECT oid::text FROM pg_database WHERE datname = current_database()),
        has_function_privilege('pg_control_system()', 'execute')
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
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def identify(self) -> str:
        async with self._snapshot() as (_, snapshot):
            return f"postgresql:{snapshot.database}"

    async def begin(
        self, selection: Selection, *, since: datetime | None = None, last: int | None = None
    ) -> AsyncGenerator[HistoryChunk]:
        async with self._snapshot() as (connection, snapshot):
            start = await self._start(connection, selection, since, last)
            low = snapshot.at - self._look_back
            if start is not None:
                covered = regions.add((), Region(snapshot.xmin, high=start))
                # A place to go on from, before the first row is printed.
                yield HistoryChunk(rows=(), cursor=make_cursor(snapshot, covered, low))
                rows = self._candidates(connection, selection, snapshot, (), after=start)
                async for part in rows:
                    covered = regions.add(covered, up_to(snapshot, part))
                    yield HistoryChunk(rows=part, cursor=make_cursor(snapshot, covered, low))
            covered = (Region(snapshot.xmin),)
            seen: list[HistoryRow] = []
            async for part in self._candidates(connection, selection, snapshot, covered, low=low):
                seen += part
            yield HistoryChunk(
                rows=(),
                seen=seen,
                cursor=make_cursor(snapshot, covered, low),
                last=True,
                complete=snapshot.complete,
            )

    async def changes(
        self, selection: Selection, cursor: Cursor, *, recent_only: bool = False
    ) -> AsyncGenerator[HistoryChunk]:
        async with self._snapshot() as (connection, snapshot):
            place = understand(cursor, snapshot)
            recent_only = recent_only and place.notice is None
            low = place.recent_from if recent_only else None
            next_low = place.recent_from if recent_only else snapshot.at - self._look_back
            covered = place.covered
            async for part in self._candidates(connection, selection, snapshot, covered, low=low):
                covered = regions.add(covered, up_to(snapshot, part, low))
                yield HistoryChunk(
                    rows=part,
                    cursor=make_cursor(snapshot, covered, place.recent_from),
                    notice=place.notice,
                )
            whole = Region(snapshot.xmin, low=low or regions.START_OF_TIME)
            yield HistoryChunk(
                rows=(),
                cursor=make_cursor(snapshot, regions.add(covered, whole), next_low),
                last=True,
                complete=snapshot.complete,
                covered_from=None if low is None else format_time(low),
                notice=place.notice,
            )

    async def verify(
        self, selection: Selection, cursor: Cursor, ids: Sequence[str]
    ) -> tuple[list[HistoryRow], set[str]]:
        async with self._snapshot() as (connection, snapshot):
            place = understand(cursor, snapshot)
            records = await connection.fetch(
                _VERIFY, *_selected(selection), *coverage(snapshot, place.covered), list(ids)
            )
            rows = [HistoryRow(_entry(record), record[7]) for record in records if record[8]]
            return rows, set(ids) - {record[0] for record in records}

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
        async with self._snapshot() as (connection, _):
            arguments = (*_selected(selection), since, until, limit)
            async for found in self._fetch(connection, query, arguments):
                yield [entry for entry, _ in found]

    async def lines(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[bytes]:
        async with self._snapshot() as (connection, _):
            exported = await connection.fetchval("SELECT pg_export_snapshot()")
            share = partial(self._share, exported)
            reader = LineReader(connection, share, selection, since, until)
            async with aclosing(reader.blocks()) as blocks:
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

    async def _candidates(
        self,
        connection: Any,
        selection: Selection,
        snapshot: Snapshot,
        covered: tuple[Region, ...],
        *,
        low: datetime | None = None,
        after: Place | None = None,
    ) -> AsyncGenerator[list[HistoryRow]]:
        """Rows that `covered` does not cover, from `low` or the place `after` on, in order."""
        after_id = None
        if after is not None and after[0] > regions.START_OF_TIME:
            low, after_id = after
        arguments = (*_selected(selection), *coverage(snapshot, covered), low, after_id)
        async for found in self._fetch(connection, _CANDIDATES, arguments):
            yield [HistoryRow(entry, record[7]) for entry, record in found]

    async def _fetch(
        self, connection: Any, query: str, arguments: Sequence[object]
    ) -> AsyncGenerator[list[tuple[Entry, Any]]]:
        # Nameless: behind PgBouncer another client may have left a statement of any name.
        statement = await connection.prepare(query, name="")
        cursor = await statement.cursor(*arguments)
        size = ChunkSize(self._chunk_rows)
        while True:
            with unreadable_rows(self._display):  # such as one from before our era
                records = await cursor.fetch(size.rows)
                found = [(_entry(record), record) for record in records]
            if not found:
                return
            size.came([record[6] for record in records])
            yield found

    @asynccontextmanager
    async def _snapshot(self) -> AsyncGenerator[tuple[Any, Snapshot]]:
        """A read-only transaction in which every statement sees the same moment."""
        async with self._lock:
            with database_errors(self._display):
                try:
                    connection = await self._connect()
                    async with connection.transaction(isolation="repeatable_read", readonly=True):
                        await connection.execute(_LOCAL_SETTINGS)
                        yield connection, await self._take(connection)
                except BaseException:
                    await self.__aexit__()  # what is left half-read is not used again
                    raise

    @asynccontextmanager
    async def _share(self, exported: str) -> AsyncGenerator[Any]:
        """Another connection that sees the snapshot of a transaction that is still open."""
        if not _SNAPSHOT_ID.fullmatch(exported):
            raise ValueError(f"{exported!r} is not the name of a snapshot")
        with database_errors(self._display):
            connection = await self._open()
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    await connection.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
                    await connection.execute(_LOCAL_SETTINGS)
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

    async def _take(self, connection: Any) -> Snapshot:
        text, at, replica, database, may_ask = await connection.fetchrow(_SNAPSHOT)
        if may_ask and not self._system:
            self._system = await connection.fetchval(
                "SELECT system_identifier::text FROM pg_control_system()"
            )
        xmin, xmax, _ = text.split(":")
        return Snapshot(int(xmin), int(xmax), at, not replica, f"{self._system}/{database}")


def _entry(record: Any) -> Entry:
    id, user_id, activity_type, occurred_at, entity_id, entity_type, meta, *_ = record
    return Entry(
        id=id,
        user_id=user_id,
        activity_type=activity_type,
        occurred_at=format_time(occurred_at),
        entity_id=entity_id,
        entity_type=entity_type,
        meta=msgspec.Raw(b"null" if meta is None else on_one_line(meta.encode())),
    )


def _selected(selection: Selection) -> tuple[object, ...]:
    return (
        selection.user_id,
        list(selection.activity_types) or None,
        selection.entity_type,
        selection.entity_id,
        list(selection.activity_likes) or None,
    )
