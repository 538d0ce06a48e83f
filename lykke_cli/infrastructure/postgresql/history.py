"""History on PostgreSQL, in commit order.

Neither occurred_at nor id will do: transactions commit out of order, stay open for minutes, and
occurred_at may be back-dated by days. What orders commits is the snapshot: whatever a snapshot
shows was committed before it was taken. A row's `xmin` names the (sub)transaction that wrote it,
and every transaction below the snapshot's own xmin had ended when it was taken:

* `xmin` below it: the row is visible now, or never.
* `xmin` at or after it: `pg_visible_in_snapshot` would decide wrongly. A row written under a
  SAVEPOINT bears the id of its subtransaction, which the snapshot does not list even while the
  transaction is open. (On a standby it lists none at all.) But a transaction's rows become visible
  together. So a cursor keeps the ids of those whose rows were visible, and covers them too.
* A transaction that stays open for days holds the snapshot's own xmin back, and there would be
  more and more ids to keep. `pg_xact_status` tells of each id, of subtransactions as well, whether
  it is in progress. What had ended before a snapshot was taken is visible in it, or never will
  be. So a cursor keeps all ids but the few of those that had not ended: few runs of ids.

`xmin` has 32 bits, a snapshot 64. They are compared by `age()`, which counts back from now on the
32-bit circle: exact for the 2^31 transactions before now. An age below zero belongs to a row older
than that; it is covered by any cursor that fits.
https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
https://www.postgresql.org/docs/current/subxacts.html

Transaction ids are given out again where commits were lost; see `database/witnesses.py`.

There is one connection (`snapshots.py`), and some more for as long as `lines` reads.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from itertools import compress
from typing import Any, Self
from uuid import UUID

from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryRow,
    Place,
    Selection,
    Wanted,
)
from lykke_cli.application.messages import format_time
from lykke_cli.infrastructure.database import regions, runs
from lykke_cli.infrastructure.database.chunk_size import CHUNK_ROWS, ChunkSize, in_parts
from lykke_cli.infrastructure.database.handover import (
    Handover,
    Stalled,
    handed_over,
    in_transactions,
    persistently,
)
from lykke_cli.infrastructure.database.regions import Region, SortKey, just_before_key
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.postgresql import statements
from lykke_cli.infrastructure.postgresql.calendar import (
    AFTER,
    CLAMPED,
    PARTS,
    WITHIN,
    Part,
    entering_at,
    key_parameters,
)
from lykke_cli.infrastructure.postgresql.cursor import (
    Snapshot,
    known_ended,
    make_cursor,
    parse,
    vouched,
)
from lykke_cli.infrastructure.postgresql.furthest import Furthest
from lykke_cli.infrastructure.postgresql.lines import LineReader, Progress
from lykke_cli.infrastructure.postgresql.relations import Group, Groups, Reading, split
from lykke_cli.infrastructure.postgresql.rows import META, XMIN, read_row
from lykke_cli.infrastructure.postgresql.selection import in_range, selected
from lykke_cli.infrastructure.postgresql.snapshots import Snapshots
from lykke_cli.infrastructure.postgresql.witnesses import newest, understood

LOOK_BACK = timedelta(hours=1)
"""How far back a periodic read looks; a full one has no bound."""
MOST_RUNS = 10_000
"""Of more runs of ids than that in a cursor the person is told: it is large, and slow."""
_GROWING = (
    "a transaction has been open for so long that the place kept for this user has become large "
    "and slow: lykke doctor names it; GRANT EXECUTE ON FUNCTION pg_xact_status(xid8) TO this role "
    "helps where it may not call it"
)


class PostgresHistory:
    """HistoryProtocol on PostgreSQL 13 or newer; `url` as in DATABASE_URL.

    `look_back` is how far a periodic read looks back, the other bounds are of a chunk. Connects on
    first use, and again after an error. Those that share `furthest` are shown no less than others
    of them were before; by itself it is shown no less than it was.
    """

    def __init__(
        self,
        url: str,
        *,
        furthest: Furthest | None = None,
        look_back: timedelta = LOOK_BACK,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int | None = None,
    ) -> None:
        self._snapshots = Snapshots(url, furthest or Furthest())
        self._look_back = look_back
        self._chunk_rows, self._chunk_bytes = chunk_rows, chunk_bytes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._snapshots.close()

    async def identify(self) -> str:
        return await persistently(self._snapshots.identify)

    def begin(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        last: int | None = None,
        wanted: Wanted | None = None,
    ) -> AsyncGenerator[HistoryChunk]:
        async def first() -> HistoryChunk:
            """A cursor to go on from, before the first row is printed."""
            async with self._snapshots.take(partial(known_ended, None)) as (connection, snapshot):
                start = None if since is None else regions.just_before(since)
                if last is not None:
                    arguments = in_range(selection, since, None)
                    oldest = await self._oldest_of_newest(connection, arguments, last, wanted)
                    start = None if oldest is None else just_before_key(oldest)
                visible = await self._visible(connection, selection, snapshot, start)
                begun = Region(snapshot.xmin, high=start or regions.END, visible=visible)
                witnesses = await newest(connection, selection, snapshot, self._snapshots.may_call)
            group = Group(snapshot.relations, (begun,))
            cursor = make_cursor(snapshot, [group], snapshot.at - self._look_back, witnesses)
            return HistoryChunk(
                rows=(),
                cursor=cursor,
                last=start is None,
                authoritative=not snapshot.origin.in_recovery,
                notice=self._snapshots.limits(),
            )

        async def read(handover: Handover[HistoryChunk]) -> None:
            chunk = await persistently(first)
            await handover.give(chunk)
            if not chunk.last:
                await self._read_changes(handover, selection, chunk.cursor, recent_only=False)

        return handed_over(read)

    def changes(
        self, selection: Selection, cursor: Cursor, *, recent_only: bool = False
    ) -> AsyncGenerator[HistoryChunk]:
        return handed_over(
            lambda handover: self._read_changes(handover, selection, cursor, recent_only)
        )

    async def _read_changes(
        self,
        handover: Handover[HistoryChunk],
        selection: Selection,
        cursor: Cursor,
        recent_only: bool,
    ) -> None:
        """One read, in as many transactions as its reader makes it take."""
        notice: str | None = None
        exact = True

        async def read() -> bool:
            nonlocal cursor, notice, exact, recent_only
            stored = parse(cursor)
            async with self._snapshots.take(partial(known_ended, stored)) as (connection, snapshot):
                known = await understood(
                    connection, selection, stored, snapshot, self._snapshots.may_call
                )
                notice = notice or known.notice or self._snapshots.limits()
                exact = exact and known.exact
                groups = split(known.groups, snapshot.relations)
                if _runs_of(groups.present) > MOST_RUNS:
                    notice = notice or _GROWING
                recent_only = recent_only and not known.rereads and len(groups.present) == 1
                low = known.recent_from if recent_only else None
                witnesses = known.witnesses
                reading = Reading(
                    groups, snapshot.xmin, low or regions.START_OF_TIME, snapshot.ended
                )
                rows = self._uncovered(connection, selection, snapshot, groups.present, low)
                async with aclosing(rows):
                    async for reached, part in rows:
                        written = [(xid, row.id) for row, xid in part if xid is not None]
                        witnesses = witnesses.joined_by(written)
                        covered = reading.reached(reached, (xid for xid, _ in written))
                        cursor = make_cursor(
                            snapshot, covered, known.recent_from, witnesses, known.origin
                        )
                        entries = [row for row, _ in part]
                        chunk = HistoryChunk(
                            rows=entries, cursor=cursor, exact=exact, notice=notice
                        )
                        if not await handover.give(chunk):
                            return False
            covered = reading.reached(regions.END, ())
            next_low = known.recent_from if recent_only else snapshot.at - self._look_back
            last = HistoryChunk(
                rows=(),
                cursor=make_cursor(snapshot, covered, next_low, witnesses, known.origin),
                last=True,
                authoritative=not snapshot.origin.in_recovery,
                covered_from=None if low is None else format_time(low),
                behind=known.origin is not None,
                exact=exact,
                notice=notice,
            )
            await handover.give(last)
            return True

        await in_transactions(handover, read)

    def vouched(self, cursor: Cursor, by: Cursor) -> Cursor:
        return vouched(cursor, by)

    async def verify(self, selection: Selection, cursor: Cursor, ids: Sequence[str]) -> set[str]:
        async with self._snapshots.take() as (connection, snapshot):
            known = await understood(
                connection, selection, parse(cursor), snapshot, self._snapshots.may_call
            )
            groups = split(known.groups, snapshot.relations)
            query, arguments = statements.covered_of(groups.present)
            records = await connection.fetch(query, *selected(selection), list(ids), *arguments)
            return set(ids) - {id for (id,) in records}

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
        queries = statements.NEWEST_FIRST if newest_first else statements.OLDEST_FIRST
        if after is not None:
            since, until = entering_at(after[0], since, until, newest_first=newest_first)

        async def read(handover: Handover[Sequence[HistoryRow]]) -> None:
            arguments = in_range(selection, since, until)
            newest = None if last is None else (last, wanted)
            await self._read_parts(
                handover, handover.give, queries, arguments, limit, newest, after
            )

        return handed_over(read)

    async def _read_parts(
        self,
        handover: Handover[Any],
        give: Callable[[Sequence[HistoryRow]], Awaitable[bool]],
        queries: Sequence[tuple[Part, str]],
        arguments: tuple[object, ...],
        limit: int | None = None,
        newest: tuple[int, Wanted | None] | None = None,
        start: SortKey | None = None,
    ) -> None:
        """One query after the other, in as many transactions as the reader makes it take.

        What is older than the `newest`, so many that are wanted, is left out, and what is not
        after `start` in the order of the queries.
        """
        left = list(queries)
        after: tuple[str | None, str | None] = (None, None)
        if start is not None:
            after = key_parameters(start)

        async def read() -> bool:
            nonlocal after, limit, newest
            async with self._snapshots.take() as (connection, _):
                if newest is not None:
                    oldest = await self._oldest_of_newest(connection, arguments, *newest)
                    if oldest is None:
                        return True
                    after, newest = key_parameters(just_before_key(oldest)), None
                while left:
                    part, query = left[0]
                    values = (*arguments, *after, limit)
                    async with aclosing(self._fetch(connection, query, values)) as found:
                        async for records in found:
                            rows = [read_row(record) for record in records]
                            after = key_parameters(part.sort_key(rows[-1]))
                            limit = None if limit is None else limit - len(rows)
                            if not await give(rows):
                                return False
                    del left[0]
            return True

        await in_transactions(handover, read)

    def lines(
        self,
        selection: Selection,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncGenerator[bytes]:
        async def read(handover: Handover[bytes]) -> None:
            progress = Progress(since, until)
            before, _, after = statements.OLDEST_FIRST
            arguments = in_range(selection, since, until)

            async def give(rows: Sequence[HistoryRow]) -> bool:
                return await handover.give(b"".join(row.to_json() + b"\n" for row in rows))

            await self._read_parts(handover, give, [before], arguments)

            async def read_on() -> bool:
                async with self._snapshots.take() as (connection, _):
                    exported = await connection.fetchval("SELECT pg_export_snapshot()")
                    share = partial(self._snapshots.share, exported)
                    reader = LineReader(connection, share, selection, progress)
                    async with aclosing(reader.blocks()) as blocks:
                        async for block in blocks:
                            if not await handover.give(block):
                                raise Stalled  # in the middle of a COPY
                return True

            await in_transactions(handover, read_on)
            await self._read_parts(handover, give, [after], arguments)

        return handed_over(read)

    async def find(self, prefix: str, limit: int) -> Sequence[HistoryRow]:
        first, last = UUID(prefix.ljust(32, "0")), UUID(prefix.ljust(32, "f"))
        async with self._snapshots.take() as (connection, _):
            found = self._fetch(connection, statements.WITH_ID_BETWEEN, (first, last, limit))
            async with aclosing(found) as parts:
                return [read_row(record) async for records in parts for record in records]

    async def count(
        self, selection: Selection, *, since: datetime | None = None, until: datetime | None = None
    ) -> int:
        async def read() -> int:
            async with self._snapshots.take() as (connection, _):
                arguments = in_range(selection, since, until)
                return int(await connection.fetchval(statements.COUNT, *arguments))

        return await persistently(read)

    async def _oldest_of_newest(
        self,
        connection: Any,
        arguments: tuple[object, ...],
        number: int,
        wanted: Wanted | None,
    ) -> SortKey | None:
        """The key of the oldest of the newest `number` rows that count; None where none does.

        What only Python can decide is looked for from the newest row on, chunk by chunk.
        """
        if wanted is None:
            found = await connection.fetchrow(statements.OLDEST_OF_NEWEST, *arguments, number)
            return None if found is None else (found[0], found[1])
        oldest: SortKey | None = None
        for part, query in statements.NEWEST_FIRST:
            chunks = self._fetch(connection, query, (*arguments, None, None, None))
            async with aclosing(chunks):
                async for records in chunks:
                    rows = [read_row(record) for record in records]
                    counted = list(compress(rows, wanted(rows)))[:number]
                    number -= len(counted)
                    if counted:
                        oldest = part.sort_key(counted[-1])
                    if number == 0:
                        return oldest
        return oldest

    async def _visible(
        self, connection: Any, selection: Selection, snapshot: Snapshot, start: SortKey | None
    ) -> Runs:
        """The transactions at or after the snapshot's xmin that have ended, or whose rows up to
        `start` it shows.
        """
        if snapshot.xmin == snapshot.xmax:
            return runs.NONE  # nothing is under way
        up_to = (None, None) if start is None else key_parameters(start)
        ended = Group(snapshot.relations, (Region(snapshot.xmin, visible=snapshot.ended),))
        uncovered, arguments = statements.uncovered((ended,), 9, CLAMPED)
        query = f"{statements.VISIBLE} AND {uncovered}"
        records = await connection.fetch(query, *selected(selection), *up_to, *arguments)
        positions = (snapshot.position(xmin) for (xmin,) in records)
        return snapshot.ended | Runs.of(xid for xid in positions if xid is not None)

    async def _uncovered(
        self,
        connection: Any,
        selection: Selection,
        snapshot: Snapshot,
        groups: Groups,
        low: datetime | None,
    ) -> AsyncGenerator[tuple[SortKey, list[tuple[HistoryRow, int | None]]]]:
        """Rows from `low` on that are not covered, and the key up to which they are all."""
        for part in PARTS if low is None else (WITHIN, AFTER):
            query, arguments = statements.changed(part, groups)
            values = (*selected(selection), low, *arguments)
            async with aclosing(self._fetch(connection, query, values)) as found:
                async for records in found:
                    rows = [read_row(record) for record in records]
                    positions = [snapshot.position(record[XMIN]) for record in records]
                    yield part.sort_key(rows[-1]), list(zip(rows, positions, strict=True))

    async def _fetch(
        self, connection: Any, query: str, arguments: Sequence[object]
    ) -> AsyncGenerator[list[tuple[Any, ...]]]:
        # Nameless: behind PgBouncer another client may have left a statement of any name.
        statement = await connection.prepare(query, name="")
        cursor = await statement.cursor(*arguments)
        size = ChunkSize(self._chunk_rows)

        async def whole(ids: list[str]) -> dict[str, str]:
            return dict(await connection.fetch(statements.METAS, ids))

        while records := await cursor.fetch(size.rows):
            size.came()
            async with aclosing(in_parts(records, META, whole, self._chunk_bytes)) as parts:
                async for part in parts:
                    yield part


def _runs_of(groups: Groups) -> int:
    return sum(len(region.visible) for group in groups for region in group.covered)
