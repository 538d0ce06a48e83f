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
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import asyncpg

from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryRow,
    Selection,
)
from lykke_cli.application.messages import Entry, format_time, on_one_line, parse_wire_time
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.errors import database_errors
from lykke_cli.infrastructure.database.regions import Place, Region
from lykke_cli.infrastructure.database.urls import asyncpg_dsn, display_url

CONNECT_TIMEOUT = 5.0  # seconds
STATEMENT_TIMEOUT = 60.0  # seconds for one fetch; the server gets the same limit
LOOK_BACK = timedelta(hours=1)
"""How far back a periodic read looks; a full one has no bound."""
FALLBACK_OVERLAP = timedelta(hours=1)
"""How much is read again when a cursor does not fit the database."""
CHUNK_ROWS = 1_000
CIRCLE = 2**32  # 32-bit transaction ids

# The texts below are constants: whatever comes from outside is a parameter.
_ENTRY = """
    id::text, user_id::text, activity_type::text, occurred_at::timestamptz,
    entity_id::text, entity_type::text, meta::text
"""
_SELECTED = """
    ($1::uuid IS NULL OR user_id = $1)
    AND ($2::text[] IS NULL OR activity_type = ANY($2::text[]))
    AND ($3::text IS NULL OR entity_type = $3)
    AND ($4::uuid IS NULL OR entity_id = $4)
"""
_AGE = "CASE WHEN age(xmin) < 0 THEN 2147483647 ELSE age(xmin) END"
_UNCOVERED = f"""
    ($6::text IS NULL OR {_AGE} <= (SELECT age($6::text::xid)))
    AND NOT EXISTS (
        SELECT FROM unnest($7::text[], $8::text[], $9::text[], $10::text[])
            AS region (before, low, high, high_id)
        WHERE {_AGE} > age(region.before::xid)
            AND occurred_at >= region.low::timestamptz
            AND (occurred_at, id) <= (region.high::timestamptz, region.high_id::uuid)
    )
"""  # noqa: S608
_CANDIDATES = f"""
    SELECT {_ENTRY}, {_AGE} > (SELECT age($5::text::xid))
    FROM audit_logs
    WHERE {_SELECTED} AND {_UNCOVERED}
        AND ($11::timestamptz IS NULL OR occurred_at >= $11)
        AND ($12::uuid IS NULL OR (occurred_at, id) > ($11, $12))
    ORDER BY occurred_at, id
"""  # noqa: S608
_VERIFY = f"""
    SELECT {_ENTRY}, {_AGE} > (SELECT age($5::text::xid)), {_UNCOVERED}
    FROM audit_logs
    WHERE {_SELECTED} AND id = ANY($11::uuid[])
"""  # noqa: S608
_BETWEEN = f"""
    FROM audit_logs
    WHERE {_SELECTED}
        AND ($5::timestamptz IS NULL OR occurred_at >= $5)
        AND ($6::timestamptz IS NULL OR occurred_at < $6)
"""
_OLDEST_FIRST = f"SELECT {_ENTRY} {_BETWEEN} ORDER BY occurred_at, id LIMIT $7"
_NEWEST_FIRST = f"SELECT {_ENTRY} {_BETWEEN} ORDER BY occurred_at DESC, id DESC LIMIT $7"
_COUNT = f"SELECT count(*) {_BETWEEN}"
_NTH_NEWEST = f"""
    SELECT occurred_at::timestamptz, id::text FROM audit_logs WHERE {_SELECTED}
    ORDER BY audit_logs.occurred_at DESC, audit_logs.id DESC OFFSET $5 LIMIT 1
"""  # noqa: S608
_SNAPSHOT = """
    SELECT pg_current_snapshot()::text, clock_timestamp(), pg_is_in_recovery(),
        (SELECT oid::text FROM pg_database WHERE datname = current_database()),
        has_function_privilege('pg_control_system()', 'execute')
"""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The moment a transaction sees."""

    xmin: int
    xmax: int
    at: datetime
    complete: bool
    database: str
    """Names the cluster and the database in it: transaction ids mean nothing elsewhere."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A cursor, understood."""

    covered: tuple[Region, ...]
    recent_from: datetime
    notice: str | None = None


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

    @property
    def identity(self) -> str:
        return self._display

    async def begin(
        self, selection: Selection, *, since: datetime | None = None, last: int | None = None
    ) -> AsyncGenerator[HistoryChunk]:
        async with self._snapshot() as (connection, snapshot):
            start = await self._start(connection, selection, since, last)
            low = snapshot.at - self._look_back
            if start is not None:
                covered = regions.add((), Region(snapshot.xmin, high=start))
                # A place to go on from, before the first row is printed.
                yield HistoryChunk(rows=(), cursor=_cursor(snapshot, covered, low))
                rows = self._candidates(connection, selection, snapshot, (), after=start)
                async for part in rows:
                    covered = regions.add(covered, _up_to(snapshot, part))
                    yield HistoryChunk(rows=part, cursor=_cursor(snapshot, covered, low))
            covered = (Region(snapshot.xmin),)
            seen: list[HistoryRow] = []
            async for part in self._candidates(connection, selection, snapshot, covered, low=low):
                seen += part
            yield HistoryChunk(
                rows=(),
                seen=seen,
                cursor=_cursor(snapshot, covered, low),
                last=True,
                complete=snapshot.complete,
            )

    async def changes(
        self, selection: Selection, cursor: Cursor, *, recent_only: bool = False
    ) -> AsyncGenerator[HistoryChunk]:
        async with self._snapshot() as (connection, snapshot):
            place = _understand(cursor, snapshot)
            recent_only = recent_only and place.notice is None
            low = place.recent_from if recent_only else None
            next_low = place.recent_from if recent_only else snapshot.at - self._look_back
            covered = place.covered
            async for part in self._candidates(connection, selection, snapshot, covered, low=low):
                covered = regions.add(covered, _up_to(snapshot, part, low))
                yield HistoryChunk(
                    rows=part,
                    cursor=_cursor(snapshot, covered, place.recent_from),
                    notice=place.notice,
                )
            whole = Region(snapshot.xmin, low=low or regions.START_OF_TIME)
            yield HistoryChunk(
                rows=(),
                cursor=_cursor(snapshot, regions.add(covered, whole), next_low),
                last=True,
                complete=snapshot.complete,
                covered_from=low,
                notice=place.notice,
            )

    async def verify(
        self, selection: Selection, cursor: Cursor, ids: Sequence[str]
    ) -> tuple[list[HistoryRow], set[str]]:
        async with self._snapshot() as (connection, snapshot):
            place = _understand(cursor, snapshot)
            records = await connection.fetch(
                _VERIFY, *_selected(selection), *_covered(snapshot, place.covered), list(ids)
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
            async for records in self._fetch(connection, query, arguments):
                yield [_entry(record) for record in records]

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
            start = (regions.START_OF_TIME, "") if nth is None else _before((nth[0], nth[1]))
            return start if since is None else max(start, regions.just_before(since))
        if since is not None and last is None:
            return regions.just_before(since)
        return None

    async def _candidates(
        self,
        connection: Any,
        selection: Selection,
        snapshot: _Snapshot,
        covered: tuple[Region, ...],
        *,
        low: datetime | None = None,
        after: Place | None = None,
    ) -> AsyncGenerator[list[HistoryRow]]:
        """Rows that `covered` does not cover, from `low` or the place `after` on, in order."""
        after_id = None
        if after is not None and after[0] > regions.START_OF_TIME:
            low, after_id = after
        arguments = (*_selected(selection), *_covered(snapshot, covered), low, after_id)
        async for records in self._fetch(connection, _CANDIDATES, arguments):
            yield [HistoryRow(_entry(record), record[7]) for record in records]

    async def _fetch(
        self, connection: Any, query: str, arguments: Sequence[object]
    ) -> AsyncGenerator[list[Any]]:
        # Nameless: behind PgBouncer another client may have left a statement of any name.
        statement = await connection.prepare(query, name="")
        cursor = await statement.cursor(*arguments)
        while records := await cursor.fetch(self._chunk_rows):
            yield records

    @asynccontextmanager
    async def _snapshot(self) -> AsyncGenerator[tuple[Any, _Snapshot]]:
        """A read-only transaction in which every statement sees the same moment."""
        async with self._lock:
            with database_errors(self._display):
                try:
                    connection = await self._connect()
                    async with connection.transaction(isolation="repeatable_read", readonly=True):
                        await connection.execute(
                            f"SET LOCAL statement_timeout = {int(STATEMENT_TIMEOUT * 1000)};"
                            "SET LOCAL TimeZone = 'UTC'"
                        )
                        yield connection, await self._take(connection)
                except BaseException:
                    await self.__aexit__()  # what is left half-read is not used again
                    raise

    async def _connect(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_TIMEOUT,
                command_timeout=STATEMENT_TIMEOUT,
                statement_cache_size=0,
                server_settings={"application_name": "lykke"},
            )
            self._system = ""
        return self._connection

    async def _take(self, connection: Any) -> _Snapshot:
        text, at, replica, database, may_ask = await connection.fetchrow(_SNAPSHOT)
        if may_ask and not self._system:
            self._system = await connection.fetchval(
                "SELECT system_identifier::text FROM pg_control_system()"
            )
        xmin, xmax, _ = text.split(":")
        return _Snapshot(int(xmin), int(xmax), at, not replica, f"{self._system}/{database}")


def _entry(record: Any) -> Entry:
    id, user_id, activity_type, occurred_at, entity_id, entity_type, meta, *_ = record
    return Entry(
        id=id,
        user_id=user_id,
        activity_type=activity_type,
        occurred_at=occurred_at,
        entity_id=entity_id,
        entity_type=entity_type,
        meta=b"null" if meta is None else on_one_line(meta.encode()),
    )


def _selected(selection: Selection) -> tuple[object, ...]:
    return (
        selection.user_id,
        list(selection.activity_types) or None,
        selection.entity_type,
        selection.entity_id,
    )


def _covered(snapshot: _Snapshot, covered: tuple[Region, ...]) -> tuple[object, ...]:
    """The snapshot's xmin, the horizon, and the regions beyond it as four columns."""
    base = regions.horizon(covered)
    beyond = [r for r in covered if not r.is_whole]
    return (
        str(snapshot.xmin % CIRCLE),
        None if base is None else str(base % CIRCLE),
        [str(r.before % CIRCLE) for r in beyond],
        [_bound(r.low) for r in beyond],
        [_bound(r.high[0]) for r in beyond],
        [r.high[1] or str(_uuid(0)) for r in beyond],
    )


def _bound(moment: datetime) -> str:
    if moment <= regions.START_OF_TIME:
        return "-infinity"
    return "infinity" if moment >= regions.END_OF_TIME else format_time(moment)


def _before(place: Place) -> Place:
    """The last place before this one."""
    moment, id = place
    number = UUID(id).int
    return (moment, str(_uuid(number - 1))) if number else regions.just_before(moment)


def _uuid(number: int) -> UUID:
    return UUID(int=number)


def _up_to(snapshot: _Snapshot, rows: list[HistoryRow], low: datetime | None = None) -> Region:
    last = rows[-1].entry
    return Region(snapshot.xmin, low or regions.START_OF_TIME, (last.occurred_at, last.id))


def _cursor(snapshot: _Snapshot, covered: tuple[Region, ...], recent_from: datetime) -> Cursor:
    return Cursor(
        {
            "kind": "postgresql",
            "database": snapshot.database,
            "at": format_time(snapshot.at),
            "recent_from": format_time(recent_from),
            "regions": regions.dump(covered),
        }
    )


def _understand(cursor: Cursor, snapshot: _Snapshot) -> _Place:
    """The cursor's regions, or where it does not fit this database, a place in time instead."""
    data = cursor.data
    try:
        covered = regions.load(data["regions"])
        recent_from = parse_wire_time(data["recent_from"])
        at = parse_wire_time(data["at"])
        misfit = _misfit(data.get("kind"), data["database"], covered, snapshot)
    except (KeyError, TypeError, ValueError):
        covered, recent_from = (), snapshot.at
        at, misfit = snapshot.at, "the stored place cannot be read"
    if misfit is None:
        return _Place(covered, recent_from)
    since = min(at, snapshot.at) - FALLBACK_OVERLAP
    return _Place(
        (Region(snapshot.xmin, high=regions.just_before(since)),),
        recent_from,
        f"{misfit}: reading again from {format_time(since)} by occurred_at; "
        "entries of that hour may be printed a second time",
    )


def _misfit(
    kind: object, database: object, covered: tuple[Region, ...], snapshot: _Snapshot
) -> str | None:
    if kind != "postgresql" or database != snapshot.database:
        return "the stored place belongs to another database"
    if any(r.before > snapshot.xmax for r in covered):
        return "the stored place is ahead of this database (was it restored from a backup?)"
    if any(snapshot.xmax - r.before >= CIRCLE // 2 for r in covered):
        return "the stored place is over two billion transactions old"
    return None
