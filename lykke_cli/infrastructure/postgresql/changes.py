"""What was committed since a cursor, in as many transactions as it takes.

There are three ways to look at a table:

* Everything at once, in one statement.
* What is near: what occurred lately, by the index, and what was written lately, on the last pages
  of the relations, whenever it occurred. Nothing proves that this is all.
* Everything in slices (`sweep.py`), where one statement would not end.

Whoever takes no portions looks at everything at once, or at all that occurred lately.

What each of them covers is a region of times, or everything. So they may follow each other in any
order, and what one has read is not read by another.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import msgspec

from lykke_cli.application.errors import TimedOut
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryRow,
    Selection,
)
from lykke_cli.application.messages import format_time
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.handover import Handover
from lykke_cli.infrastructure.database.regions import Region, SortKey
from lykke_cli.infrastructure.database.spans import Span, Spans, latest
from lykke_cli.infrastructure.database.witnesses import Witnesses
from lykke_cli.infrastructure.postgresql import statements
from lykke_cli.infrastructure.postgresql.calendar import AFTER, BEFORE, PARTS
from lykke_cli.infrastructure.postgresql.cursor import (
    Snapshot,
    Understood,
    known_ended,
    make_cursor,
    near,
    parse,
)
from lykke_cli.infrastructure.postgresql.fetching import Fetcher
from lykke_cli.infrastructure.postgresql.relations import Groups, Reading, split, within
from lykke_cli.infrastructure.postgresql.rows import XMIN, read_row
from lykke_cli.infrastructure.postgresql.selection import selected
from lykke_cli.infrastructure.postgresql.slices import Slices, at_ends
from lykke_cli.infrastructure.postgresql.snapshots import Snapshots
from lykke_cli.infrastructure.postgresql.storage import Ends, Files, files_of
from lykke_cli.infrastructure.postgresql.stretches import Stretches
from lykke_cli.infrastructure.postgresql.sweep import READ_AGAIN, Sweep
from lykke_cli.infrastructure.postgresql.witnesses import understood

MOST_RUNS = 10_000
"""Of more runs of ids than that in a cursor the person is told: it is large, and slow."""
MANY_USERS = 100
"""An index leads to the entries of fewer."""
MOST_REGIONS = 64
"""Of more that a cursor has, what was back-dated waits for the read of everything."""
LONGEST = 5.0  # seconds for which one portion prints what slices have found
FAR = 1.0  # seconds in which a portion comes to the first of it, that the next one is not to take
EVERYTHING: Spans = ((regions.START_OF_TIME, regions.END_OF_TIME),)
_GROWING = (
    "a transaction has been open for so long that the place kept for this user has become large "
    "and slow: lykke doctor names it; GRANT EXECUTE ON FUNCTION pg_xact_status(xid8) TO this role "
    "helps where it may not call it"
)


class Source(NamedTuple):
    """Where changes are read, and how."""

    snapshots: Snapshots
    fetcher: Fetcher
    look_back: timedelta
    ends: Ends
    slices: Slices


class _Sight(NamedTuple):
    """What one transaction sees."""

    connection: Any
    snapshot: Snapshot
    known: Understood
    reading: Reading
    last: datetime
    """When the last read was that looked at what is near."""
    is_usual: bool
    """No relation is new, and nothing is read again."""


class _Look(NamedTuple):
    """Where a transaction looks, and what is said once it has."""

    at: Spans
    recent_from: datetime
    """Of the next periodic read."""
    covered_from: datetime | None = None
    goes_on: bool = False
    files: Files = ()
    """Which are looked at to their ends."""
    sweep: Sweep | None = None
    """Which is under way."""
    ends_sweep: bool = False
    """It is over with that."""
    anew: bool = True
    """As in HistoryChunk."""
    is_near: bool = True
    """It looks at what is near, too."""


class Changes:
    """One read; `since` is that of a first one.

    A `portion` ends after some time: `HistoryChunk.goes_on` says if that was early.
    """

    def __init__(
        self,
        source: Source,
        selection: Selection,
        cursor: Cursor,
        *,
        recent_only: bool = False,
        portion: bool = False,
        since: datetime | None = None,
    ) -> None:
        self._source = source
        self._selection = selection
        self._cursor = cursor
        self._recent_only = recent_only
        self._portion = portion
        self._since = since
        self._until: float | None = None  # since the first row that slices have found was there
        self._is_far = False  # and it took long to come there
        self._is_large: bool | None = None
        self._witnesses = Witnesses()
        self._notice: str | None = None
        self._is_exact = True
        self._stretches = Stretches()
        self._at: Span | None = None  # what is left of a span that is being read

    async def read(self, handover: Handover[HistoryChunk]) -> bool:
        """Read what one transaction can; True when that is all."""
        try:
            return await self._read(handover)
        except TimedOut:
            snapshots = self._source.snapshots
            if self._at is None or not await self._stretches.shorten(snapshots, *self._at):
                raise
            return False

    async def _read(self, handover: Handover[HistoryChunk]) -> bool:
        self._at = None
        source, stored = self._source, parse(self._cursor)
        async with source.snapshots.take(partial(known_ended, stored)) as (connection, snapshot):
            known = await understood(
                connection, self._selection, stored, snapshot, source.snapshots.may_call
            )
            self._witnesses = known.witnesses
            self._notice = self._notice or known.notice or source.snapshots.limits()
            self._is_exact = self._is_exact and known.exact
            groups = split(known.groups, snapshot.relations)
            if sum(len(region.visible) for region in _regions(groups.present)) > MOST_RUNS:
                self._notice = self._notice or _GROWING
            reading = Reading(groups, snapshot.xmin, snapshot.ended)
            is_usual = not known.rereads and len(groups.present) == 1
            last = snapshot.at if stored is None else stored.at
            sight = _Sight(connection, snapshot, known, reading, last, is_usual)
            return await self._look(handover, sight, await self._where(sight))

    async def _where(self, sight: _Sight) -> _Look:
        snapshot, known = sight.snapshot, sight.known
        if self._recent_only and (
            sight.is_usual or (self._portion and await self._needs_slices(sight))
        ):
            return await self._near(sight)
        self._recent_only = False  # in the transactions that follow, too
        recent_from = snapshot.at - self._source.look_back
        is_told_apart = bool(snapshot.origin.server or snapshot.origin.lsn)  # from a standby
        in_parts = (self._portion and is_told_apart) or self._since is not None
        if not in_parts or not await self._needs_slices(sight):
            return _Look(EVERYTHING, recent_from)
        if self._since is not None:
            return _Look(((self._since, regions.END_OF_TIME),), recent_from, self._since)
        if known.origin is not None:  # a standby that lags
            return (await self._near(sight))._replace(goes_on=True, anew=False)
        return await self._slice(sight)

    async def _needs_slices(self, sight: _Sight) -> bool:
        if sight.known.sweep is not None:
            return True  # and is not asked again for each portion
        if self._is_large is None:
            slices, snapshots = self._source.slices, self._source.snapshots
            self._is_large = await slices.are_needed(sight.connection, self._selection, snapshots)
        return self._is_large

    async def _slice(self, sight: _Sight) -> _Look:
        """Some pages more; once all were looked at, what was found there."""
        known, covered, source = sight.known, sight.reading.present, self._source
        slices, sweep, anew = source.slices, known.sweep, known.sweep is None
        if sweep is None:
            sweep = await slices.begin(sight.connection, sight.snapshot, source.snapshots, covered)
        if sweep.is_over:
            recent_from = max(known.recent_from, sweep.at - source.look_back)
            is_left_out = not sight.snapshot.relations.issubset(sweep.files)
            look = _Look(sweep.found, recent_from, goes_on=is_left_out, ends_sweep=True)
        else:
            sweep = await slices.look(
                sight.connection, self._selection, sweep, covered, source.snapshots
            )
            look = _Look((), known.recent_from, goes_on=True)
        low = regions.END_OF_TIME
        return look._replace(covered_from=low, sweep=sweep, anew=anew, is_near=False)

    async def _near(self, sight: _Sight) -> _Look:
        known, users, source = sight.known, self._selection.user_ids, self._source
        last = sight.last
        if sight.snapshot.origin.in_recovery:  # what it lacked then may have occurred long ago
            last = min(last, known.recent_from + source.look_back)
        at = sight.snapshot.at
        later, recent_from = near(
            known.recent_from, last, at, source.look_back, prompt=source.slices.prompt
        )
        low = min(known.recent_from, later)
        is_led_to = users is not None and len(users) <= MANY_USERS
        is_left = is_led_to and not source.ends.are_new  # once, on a resume, is cheap
        is_left |= len(_regions(sight.reading.present)) > MOST_REGIONS
        if is_left or not self._portion:
            spans: Spans = ((low, regions.END_OF_TIME),)
            return _Look(spans, recent_from, low, not sight.is_usual, sweep=known.sweep)
        files = await files_of(sight.connection, source.snapshots)
        is_seen = not is_led_to and bool(files) and all(file.is_readable for file in files)
        if sight.is_usual and is_seen:
            low = later
        ends, known_here = source.ends.grown(files), sight.reading.present
        found = await at_ends(sight.connection, self._selection, ends, known_here)
        earlier = [(begin, min(end, low)) for begin, end in found if begin < low]
        some = latest(earlier, source.look_back)
        goes_on = not sight.is_usual or len(some) < len(earlier)
        spans = (*some, (low, regions.END_OF_TIME))
        return _Look(spans, recent_from, low, goes_on, files, known.sweep)

    async def _look(self, handover: Handover[HistoryChunk], sight: _Sight, look: _Look) -> bool:
        """Read what is not covered where it is to be looked; True when that is all."""
        reading, sweep, clock = sight.reading, look.sweep, asyncio.get_running_loop().time
        began = clock()
        for low, span in self._in_stretches(look.at):
            rows = self._uncovered(sight, *span)
            async with aclosing(rows):
                async for key, part in rows:
                    written = [(xid, row.id) for row, xid in part if xid is not None]
                    self._witnesses = self._witnesses.joined_by(written)
                    reading.reached(low, key, (xid for xid, _ in written))
                    if sweep is not None and look.ends_sweep:
                        if self._until is None:
                            self._until, self._is_far = clock() + LONGEST, clock() - began > FAR
                        read = READ_AGAIN if self._is_far else len(part)
                        sweep = sweep.read_up_to(key[0], read)
                    self._cursor = self._cursor_at(
                        sight, sight.last, sight.known.recent_from, sweep
                    )
                    if not await handover.give(self._chunk([row for row, _ in part])):
                        return False
                    if self._until is not None and clock() >= self._until:
                        await handover.give(self._last(sight, look._replace(goes_on=True)))
                        return True
            reading.reached(low, (span[1], regions.LAST_ID), ())
        self._at = None
        if look.files:
            self._source.ends.seen(look.files)
        if sweep is not None and look.ends_sweep:
            reading.swept(sweep.before, sweep.ended, frozenset(sweep.files))
            sweep = None
        last = sight.snapshot.at if look.is_near else sight.last
        self._cursor = self._cursor_at(sight, last, look.recent_from, sweep)
        await handover.give(self._last(sight, look))
        return True

    def _in_stretches(self, spans: Spans) -> Iterator[tuple[datetime, Span]]:
        """What is to be read in one statement, after the moment from which all is read by then."""
        for low, high in spans:
            begin: datetime | None = low
            while begin is not None:
                self._at = begin, high
                cut = self._stretches.cut(begin, high)
                yield low, (begin, high if cut is None else regions.just_before(cut)[0])
                begin = cut

    def _last(self, sight: _Sight, look: _Look) -> HistoryChunk:
        return msgspec.structs.replace(
            self._chunk(),
            last=True,
            goes_on=look.goes_on,
            anew=look.anew,
            authoritative=not sight.snapshot.origin.in_recovery,
            covered_from=None if look.covered_from is None else format_time(look.covered_from),
            behind=sight.known.origin is not None,
        )

    def _cursor_at(
        self, sight: _Sight, last: datetime, recent_from: datetime, sweep: Sweep | None
    ) -> Cursor:
        return make_cursor(
            sight.snapshot,
            sight.reading.covered,
            recent_from,
            self._witnesses,
            sight.known.origin,
            sweep,
            at=last,
        )

    def _chunk(self, rows: Sequence[HistoryRow] = ()) -> HistoryChunk:
        return HistoryChunk(
            rows=rows, cursor=self._cursor, exact=self._is_exact, notice=self._notice
        )

    async def _uncovered(
        self, sight: _Sight, low: datetime, high: datetime
    ) -> AsyncGenerator[tuple[SortKey, list[tuple[HistoryRow, int | None]]]]:
        """Rows of that time that are not covered, and the key up to which they are all."""
        first, last = bounds((low, high))
        for part in PARTS:
            if (part is BEFORE and first) or (part is AFTER and last):
                continue
            query, arguments = statements.changed(part, within(sight.reading.present, low, high))
            values = (*selected(self._selection), first, last, *arguments)
            found = self._source.fetcher.fetch(sight.connection, query, values)
            async with aclosing(found):
                async for records in found:
                    rows = [read_row(record) for record in records]
                    positions = [sight.snapshot.position(record[XMIN]) for record in records]
                    yield part.sort_key(rows[-1]), list(zip(rows, positions, strict=True))


def bounds(span: Span) -> tuple[str | None, str | None]:
    """Its first and its last moment as parameters: None where it has no end to that side.

    They are texts, for the reason that `key_parameters` has.
    """
    low, high = span
    first = None if low == regions.START_OF_TIME else format_time(low)
    return first, None if high == regions.END_OF_TIME else format_time(high)


def _regions(groups: Groups) -> list[Region]:
    return [region for group in groups for region in group.covered]
