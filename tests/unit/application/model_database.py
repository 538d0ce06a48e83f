"""A model of the database that the merge and the hub read: transactions, snapshots, cursors.

It works as PostgreSQL does: a row bears the id of the (sub)transaction that wrote it, a snapshot's
xmin is the oldest open top-level transaction, subtransactions are not listed. Of the transactions
from there on, those whose rows are visible were committed. A fail-over loses the last commits, and
gives their transaction ids out again. Rows lie on pages, mostly at the end; when the table is
rewritten they are on others. Cursors are the real ones.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk
from lykke_cli.application.merge import Read, ReadKind, Verify
from lykke_cli.application.messages import Entry, format_time
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.spans import Spans, joined
from lykke_cli.infrastructure.database.witnesses import Witnesses
from lykke_cli.infrastructure.postgresql.cursor import (
    Origin,
    Snapshot,
    Understood,
    is_doubtful,
    make_cursor,
    near,
    parse,
    understand,
)
from lykke_cli.infrastructure.postgresql.relations import Group, Reading, split
from lykke_cli.infrastructure.postgresql.sweep import Sweep

START = datetime(2026, 1, 1, tzinfo=UTC)
LOOK_BACK = timedelta(minutes=10)
USER = str(uuid.UUID(int=1))
TABLE = frozenset({1})
FOREVER = regions.END_OF_TIME
EVERYTHING: Spans = ((regions.START_OF_TIME, FOREVER),)
PAGE = 2
"""So many rows lie on one."""


@dataclass
class Row:
    xid: int
    entry: Entry
    page: int


@dataclass
class Transaction:
    xid: int
    rows: list[Row] = field(default_factory=list)


@dataclass
class Looked:
    """What one look at the database sees, and what the cursor means there."""

    visible: list[Row]
    snapshot: Snapshot
    place: Understood | None
    last: datetime
    """When the last read was that looked at what is near."""


class ModelDatabase:
    """Every method of the first half is one thing that can happen."""

    def __init__(
        self,
        *,
        chunk_size: int = 2,
        replica: bool = False,
        slices: bool = False,
        prompt: bool = False,
    ) -> None:
        self.chunk_size = chunk_size
        self.slices = slices
        self.prompt = prompt
        self.replica = replica
        self.now = START
        self.next_xid = 100
        self.next_id = 1
        self.open: list[Transaction] = []
        self.committed: list[Row] = []
        self.committed_ids: set[str] = set()
        self.commits: list[int] = []  # how many rows there are after each, on the primary
        self.replicated = 0  # how many of them the replica has applied
        self.timeline = 1
        self.file = 1
        self.is_slow = False
        """The next read of what slices have found ends early."""

    def begin(self) -> None:
        self.open.append(Transaction(self._xid()))

    def write(self, index: int, *, savepoint: bool, age: timedelta, user: str = USER) -> None:
        if not self.open:
            self.begin()
        transaction = self.open[index % len(self.open)]
        self.now += timedelta(seconds=1)
        entry = Entry(
            id=str(uuid.UUID(int=self.next_id)),
            user_id=user,
            activity_type="X",
            occurred_at=format_time(self.now - age),
        )
        page = 0 if self.next_id % 3 == 0 else self.pages - 1  # where a deleted row left room
        self.next_id += 1
        transaction.rows.append(Row(self._xid() if savepoint else transaction.xid, entry, page))

    def end(self, index: int) -> list[Entry]:
        """Commit one of the open transactions; returns what it wrote."""
        if not self.open:
            return []
        transaction = self.open.pop(index % len(self.open))
        self.committed += transaction.rows
        self.commits.append(len(self.committed))
        self.committed_ids |= {row.entry.id for row in transaction.rows}
        if not self.replica:
            self.replicated = len(self.committed)
        return [row.entry for row in transaction.rows]

    def roll_back(self, index: int) -> None:
        if self.open:
            self.open.pop(index % len(self.open))

    def lose(self, lost: int) -> None:
        """A standby takes over that lacks the last rows and every open transaction."""
        self.timeline += 1
        self.open.clear()
        last = {row.xid for row in self.committed[len(self.committed) - lost :]}
        self.committed = [row for row in self.committed if row.xid not in last]
        self.replicated = len(self.committed)
        self.next_xid = max([99, *(row.xid for row in self.committed)]) + 1

    def rewrite(self) -> None:
        """Every row goes to another page, and keeps its transaction."""
        self.file += 1
        for row in (*self.committed, *(row for t in self.open for row in t.rows)):
            row.page = self.pages - 1 - row.page

    @property
    def pages(self) -> int:
        return self.next_id // PAGE + 1

    def replicate(self, count: int) -> None:
        """The replica applies so many commits, each whole."""
        behind = [rows for rows in self.commits if rows > self.replicated]
        self.replicated = max([self.replicated, *behind[:count]])

    # The answers

    def read(
        self,
        request: Read,
        wanted: Callable[[Entry], bool] = lambda _: True,
        *,
        begin_before_all: bool = False,
        in_portions: bool = True,
    ) -> Iterator[HistoryChunk]:
        """As HistoryProtocol's `begin`, from before all or from now on, and `changes`."""
        slices = self.slices and in_portions
        looked = self.look(request.cursor)
        visible = [row for row in looked.visible if wanted(row.entry)]
        snapshot, place = looked.snapshot, looked.place
        low = self.now - LOOK_BACK
        if place is None:
            shown = snapshot.ended
            if not begin_before_all:
                shown |= Runs.of(row.xid for row in visible if row.xid >= snapshot.xmin)
            witnesses = Witnesses.at_start((row.xid, row.entry.id) for row in visible)
            self.began(visible, witnesses)
            high = regions.BEFORE_ALL if begin_before_all else regions.END
            begun = Group(TABLE, (Region(snapshot.xmin, high=high, visible=shown),))
            cursor = make_cursor(snapshot, [begun], low, witnesses)
            yield HistoryChunk(
                rows=(),
                cursor=cursor,
                last=not begin_before_all,
                authoritative=not self.replica,
            )
            if begin_before_all:
                yield from self.read(Read(ReadKind.FULL, cursor), wanted, in_portions=in_portions)
            return
        reading = Reading(split(place.groups, snapshot.relations), snapshot.xmin, snapshot.ended)
        last = HistoryChunk(
            rows=(),
            cursor=Cursor({}),
            last=True,
            authoritative=not self.replica,
            behind=place.origin is not None,
            exact=place.exact,
            notice=place.notice,
        )
        at, covered_from, recent_from, sweep = EVERYTHING, None, low, None
        before, last_near = looked.last, self.now
        if self.replica:
            before = min(before, place.recent_from + LOOK_BACK)
        is_over, is_recent = False, request.kind is ReadKind.RECENT
        lags = slices and not is_recent and place.origin is not None
        if lags or (is_recent and (slices or not place.rereads)):
            covered_from, recent_from = near(
                place.recent_from, before, self.now, LOOK_BACK, prompt=self.prompt
            )
            if lags or place.rereads:
                covered_from = min(place.recent_from, covered_from)
                last = msgspec.structs.replace(last, goes_on=True, anew=False)
            written = self._written_last(visible, place)
            earlier = [(first, min(end, covered_from)) for first, end in written]
            at = (*(span for span in earlier if span[0] < covered_from), (covered_from, FOREVER))
            sweep = place.sweep
        elif slices and not is_recent:
            sweep = place.sweep or self._sweep(place, snapshot)
            at, covered_from, recent_from = sweep.found, FOREVER, place.recent_from
            goes_on = not sweep.is_over or not TABLE <= sweep.files.keys()
            last = msgspec.structs.replace(last, goes_on=goes_on, anew=place.sweep is None)
            is_over, last_near = sweep.is_over, looked.last
            if not is_over:
                at, sweep = (), self._slice(visible, place, sweep)
            if request.cursor is not None:  # something may happen before the answer is heard
                yield HistoryChunk(rows=(), cursor=request.cursor)
        witnesses = place.witnesses

        def cursor_at(at: datetime, recent_from: datetime) -> Cursor:
            covered, origin = reading.covered, place.origin
            return make_cursor(snapshot, covered, recent_from, witnesses, origin, sweep, at=at)

        for first, end in at:
            rows = sorted(
                (r for r in visible if first <= r.entry.moment <= end and not covers(place, r)),
                key=lambda r: (r.entry.moment, r.entry.id),
            )
            for start in range(0, len(rows), self.chunk_size):
                part = rows[start : start + self.chunk_size]
                witnesses = witnesses.joined_by((row.xid, row.entry.id) for row in part)
                high = (part[-1].entry.moment, part[-1].entry.id)
                reading.reached(first, high, [row.xid for row in part])
                if is_over and sweep is not None:
                    sweep = sweep.read_up_to(high[0], len(part))
                yield HistoryChunk(
                    rows=[row.entry for row in part],
                    cursor=cursor_at(looked.last, place.recent_from),
                    exact=place.exact,
                    notice=place.notice,
                )
                if is_over and self.is_slow:  # the portion has taken its time
                    self.is_slow = False
                    yield msgspec.structs.replace(
                        last,
                        cursor=cursor_at(looked.last, place.recent_from),
                        covered_from=format_time(FOREVER),
                        goes_on=True,
                    )
                    return
            reading.reached(first, (end, regions.LAST_ID), ())
        if is_over and sweep is not None:
            reading.swept(sweep.before, sweep.ended, frozenset(sweep.files))
            sweep = None
        yield msgspec.structs.replace(
            last,
            cursor=cursor_at(last_near, recent_from),
            covered_from=None if covered_from is None else format_time(covered_from),
        )

    def _sweep(self, place: Understood, snapshot: Snapshot) -> Sweep:
        """A read of all pages that there are now."""
        known = [region for group in place.groups for region in group.covered]
        ended = snapshot.ended | regions.visible_from(known, snapshot.xmin)
        files = dict.fromkeys(TABLE, self.file)
        return Sweep(self.now, snapshot.xmin, ended, files, self.pages)

    def _slice(self, visible: Sequence[Row], place: Understood, sweep: Sweep) -> Sweep:
        """Look at the next page."""
        on_page = [row for row in visible if row.page == sweep.reached]
        found = [row.entry.moment for row in on_page if not covers(place, row)]
        advanced = sweep.advanced(sweep.reached + 1, [(moment, moment) for moment in found])
        return advanced.kept(dict.fromkeys(TABLE, self.file))

    def _written_last(self, visible: Sequence[Row], place: Understood) -> Spans:
        """When that occurred which is on the last page and not covered."""
        last = [row for row in visible if row.page >= self.pages - 2 and not covers(place, row)]
        return joined((row.entry.moment, row.entry.moment) for row in last)

    def look_up(self, request: Verify) -> set[str]:
        """As HistoryProtocol's `verify`."""
        looked = self.look(request.cursor)
        assert looked.place is not None
        return set(request.ids) - {
            row.entry.id for row in looked.visible if covers(looked.place, row)
        }

    def look(self, cursor: Cursor | None) -> Looked:
        oldest = min((t.xid for t in self.open), default=self.next_xid)
        lagging = [row.xid for row in self.committed[self.replicated :]]
        visible = self.committed[: self.replicated]
        origin = Origin("1/1", self.timeline, 1 + self.replicated, "x", self.replica)
        xmin = min([oldest, *lagging])
        ended = self._ended(xmin, lagging)
        snapshot = Snapshot(xmin, self.next_xid, self.now, origin, ended, TABLE)
        if cursor is None:
            return Looked(visible, snapshot, None, self.now)
        stored, found = parse(cursor), None
        assert stored is not None
        if is_doubtful(stored, snapshot):
            found = {(row.xid, row.entry.id) for row in visible}
        place = understand(stored, snapshot, found)
        self.understood(visible, place)
        return Looked(visible, snapshot, place, stored.at)

    def began(self, visible: Sequence[Row], witnesses: Witnesses) -> None:
        """A first read has taken its snapshot."""

    def understood(self, visible: Sequence[Row], place: Understood) -> None:
        """A cursor was looked at, which may no longer fit."""

    def _xid(self) -> int:
        self.next_xid += 1
        return self.next_xid - 1

    def _ended(self, xmin: int, lagging: Sequence[int]) -> Runs:
        """What the database says when it is asked, which is not always."""
        if self.next_xid % 2:
            return Runs()
        under_way = {xid for t in self.open for xid in (t.xid, *(row.xid for row in t.rows))}
        return Runs.of(set(range(xmin, self.next_xid)) - under_way - set(lagging))


def covers(place: Understood, row: Row) -> bool:
    key = (row.entry.moment, row.entry.id)
    return any(r.covers(row.xid, key) for group in place.groups for r in group.covered)
