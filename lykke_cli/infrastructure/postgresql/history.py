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

from lykke_cli.application.errors import TimedOut
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryRow,
    Place,
    Selection,
    Wanted,
)
from lykke_cli.infrastructure.database import regions, runs
from lykke_cli.infrastructure.database.chunk_size import CHUNK_ROWS
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
    CLAMPED,
    WITHIN,
    Part,
    entering_at,
    key_parameters,
)
from lykke_cli.infrastructure.postgresql.changes import EVERYTHING, Changes, Source, bounds
from lykke_cli.infrastructure.postgresql.cursor import (
    Snapshot,
    known_ended,
    make_cursor,
    parse,
    vouched,
)
from lykke_cli.infrastructure.postgresql.fetching import Fetcher
from lykke_cli.infrastructure.postgresql.furthest import Furthest
from lykke_cli.infrastructure.postgresql.lines import LineReader, Progress
from lykke_cli.infrastructure.postgresql.relations import Group, split
from lykke_cli.infrastructure.postgresql.rows import read_row
from lykke_cli.infrastructure.postgresql.selection import in_range, selected
from lykke_cli.infrastructure.postgresql.slices import Slices, written_at_ends
from lykke_cli.infrastructure.postgresql.snapshots import Snapshots
from lykke_cli.infrastructure.postgresql.storage import Ends, files_of
from lykke_cli.infrastructure.postgresql.stretches import Stretches
from lykke_cli.infrastructure.postgresql.witnesses import newest, understood

LOOK_BACK = timedelta(hours=1)
"""How far back a periodic read looks; a full one has no bound."""


class PostgresHistory:
    """HistoryProtocol on PostgreSQL 13 or newer; `url` as in DATABASE_URL.

    `look_back` is how far a periodic read looks back, the other bounds are of a chunk. Connects on
    first use, and again after an error. Those that share `furthest` are shown no less than others
    of them were before; by itself it is shown no less than it was. `prompt` is for who hears of new
    entries by reads alone: where many come these are shorter, and the cursor is longer.
    """

    def __init__(
        self,
        url: str,
        *,
        furthest: Furthest | None = None,
        look_back: timedelta = LOOK_BACK,
        chunk_rows: int = CHUNK_ROWS,
        chunk_bytes: int | None = None,
        prompt: bool = False,
    ) -> None:
        self._snapshots = Snapshots(url, furthest or Furthest())
        self._look_back = look_back
        self._chunk_rows, self._chunk_bytes = chunk_rows, chunk_bytes
        self._slices = Slices(prompt=prompt)
        self._ends = Ends()

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
            nonlocal since
            async with self._snapshots.take(partial(known_ended, None)) as (connection, snapshot):
                start = None if since is None else regions.just_before(since)
                if last is not None:
                    arguments = in_range(selection, since, None)
                    oldest = await self._oldest_of_newest(connection, arguments, last, wanted)
                    start = None if oldest is None else just_before_key(oldest)
                    since = None if oldest is None else oldest[0]
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
                changes = Changes(self._source, selection, chunk.cursor, since=since)
                await in_transactions(handover, partial(changes.read, handover))

        return handed_over(read)

    @property
    def _source(self) -> Source:
        fetcher = Fetcher(self._chunk_rows, self._chunk_bytes)
        return Source(self._snapshots, fetcher, self._look_back, self._ends, self._slices)

    def changes(
        self,
        selection: Selection,
        cursor: Cursor,
        *,
        recent_only: bool = False,
        portion: bool = False,
    ) -> AsyncGenerator[HistoryChunk]:
        changes = Changes(self._source, selection, cursor, recent_only=recent_only, portion=portion)
        return handed_over(
            lambda handover: in_transactions(handover, partial(changes.read, handover))
        )

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
            newest = None if last is None else (last, wanted)
            await self._read_parts(
                handover, handover.give, queries, selection, since, until, limit, newest, after
            )

        return handed_over(read)

    async def _read_parts(
        self,
        handover: Handover[Any],
        give: Callable[[Sequence[HistoryRow]], Awaitable[bool]],
        queries: Sequence[tuple[Part, str]],
        selection: Selection,
        since: datetime | None,
        until: datetime | None,
        limit: int | None = None,
        newest: tuple[int, Wanted | None] | None = None,
        start: SortKey | None = None,
    ) -> None:
        """One query after the other, in as many transactions and stretches as it takes.

        What is older than the `newest`, so many that are wanted, is left out, and what is not
        after `start` in the order of the queries.
        """
        left = list(queries)
        newest_first = queries is statements.NEWEST_FIRST
        stretches = Stretches(newest_first=newest_first)
        after: tuple[str | None, str | None] = (None, None)
        if start is not None:
            after = key_parameters(start)

        async def read() -> bool:
            nonlocal after, limit, newest, since, until
            async with self._snapshots.take() as (connection, _):
                if newest is not None:
                    arguments = in_range(selection, since, until)
                    oldest = await self._oldest_of_newest(connection, arguments, *newest)
                    if oldest is None:
                        return True
                    after, newest = key_parameters(just_before_key(oldest)), None
                while left:
                    part, query = left[0]
                    cut = stretches.cut(since, until) if part is WITHIN else None
                    low, high = (cut or since, until) if newest_first else (since, cut or until)
                    values = (*in_range(selection, low, high), *after, limit)
                    async with aclosing(
                        self._source.fetcher.fetch(connection, query, values)
                    ) as found:
                        async for records in found:
                            rows = [read_row(record) for record in records]
                            after = key_parameters(part.sort_key(rows[-1]))
                            limit = None if limit is None else limit - len(rows)
                            if not await give(rows):
                                return False
                    if cut is None:
                        del left[0]
                    elif newest_first:
                        until = cut
                    else:
                        since = cut
            return True

        async def read_on() -> bool:
            try:
                return await read()
            except TimedOut:
                is_within = newest is None and any(part is WITHIN for part, _ in left[:1])
                if not is_within or not await stretches.shorten(self._snapshots, since, until):
                    raise
                return False

        await in_transactions(handover, read_on)

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

            async def give(rows: Sequence[HistoryRow]) -> bool:
                return await handover.give(b"".join(row.to_json() + b"\n" for row in rows))

            await self._read_parts(handover, give, [before], selection, since, until)

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
            await self._read_parts(handover, give, [after], selection, since, until)

        return handed_over(read)

    async def find(self, prefix: str, limit: int) -> Sequence[HistoryRow]:
        first, last = UUID(prefix.ljust(32, "0")), UUID(prefix.ljust(32, "f"))
        async with self._snapshots.take() as (connection, _):
            found = self._source.fetcher.fetch(
                connection, statements.WITH_ID_BETWEEN, (first, last, limit)
            )
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
            chunks = self._source.fetcher.fetch(connection, query, (*arguments, None, None, None))
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

        Of a large table what is near is looked at: what such a transaction wrote was written just
        now. What it put elsewhere, and an hour back in time at that, would count as new.
        """
        if snapshot.xmin == snapshot.xmax:
            return runs.NONE  # nothing is under way
        up_to = (None, None) if start is None else key_parameters(start)
        ended = (Group(snapshot.relations, (Region(snapshot.xmin, visible=snapshot.ended),)),)
        where, written = EVERYTHING[0], list[str]()
        if await self._slices.are_needed(connection, selection, self._snapshots):
            ends = self._ends.grown(await files_of(connection, self._snapshots))
            written = await written_at_ends(connection, selection, ends, ended)
            where = snapshot.at - self._look_back, regions.END_OF_TIME
        uncovered, arguments = statements.uncovered(ended, 11, CLAMPED)
        query = f"{statements.VISIBLE} AND {uncovered}"
        values = (*selected(selection), *up_to, *bounds(where), *arguments)
        written += [xmin for (xmin,) in await connection.fetch(query, *values)]
        positions = map(snapshot.position, written)
        return snapshot.ended | Runs.of(xid for xid in positions if xid is not None)
