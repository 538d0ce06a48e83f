"""A model of the database that the merge and the hub read: transactions, snapshots, cursors.

It works as PostgreSQL does: a row bears the id of the (sub)transaction that wrote it, a snapshot's
xmin is the oldest open top-level transaction, subtransactions are not listed. Of the transactions
from there on, those whose rows are visible were committed. A fail-over loses the last commits, and
gives their transaction ids out again. Cursors are the real ones.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk
from lykke_cli.application.merge import Read, ReadKind, Verify
from lykke_cli.application.messages import Entry, format_time
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.witnesses import Witnesses
from lykke_cli.infrastructure.postgresql.cursor import (
    Origin,
    Snapshot,
    Understood,
    is_doubtful,
    make_cursor,
    parse,
    understand,
)
from lykke_cli.infrastructure.postgresql.relations import Group, Reading, split

START = datetime(2026, 1, 1, tzinfo=UTC)
LOOK_BACK = timedelta(minutes=10)
USER = str(uuid.UUID(int=1))
TABLE = frozenset({1})


@dataclass
class Row:
    xid: int
    entry: Entry


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


class ModelDatabase:
    """Every method of the first half is one thing that can happen."""

    def __init__(self, *, chunk_size: int = 2, replica: bool = False) -> None:
        self.chunk_size = chunk_size
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
        self.next_id += 1
        transaction.rows.append(Row(self._xid() if savepoint else transaction.xid, entry))

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
    ) -> Iterator[HistoryChunk]:
        """As HistoryProtocol's `begin`, from before all or from now on, and `changes`."""
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
                yield from self.read(Read(ReadKind.FULL, cursor), wanted)
            return
        is_recent = request.kind is ReadKind.RECENT and not place.rereads
        bound = place.recent_from if is_recent else regions.START_OF_TIME
        rows = sorted(
            (r for r in visible if r.entry.moment >= bound and not covers(place, r)),
            key=lambda r: (r.entry.moment, r.entry.id),
        )
        known = split(place.groups, snapshot.relations)
        reading = Reading(known, snapshot.xmin, bound, snapshot.ended)
        witnesses = place.witnesses
        for start in range(0, len(rows), self.chunk_size):
            part = rows[start : start + self.chunk_size]
            witnesses = witnesses.joined_by((row.xid, row.entry.id) for row in part)
            high = (part[-1].entry.moment, part[-1].entry.id)
            covered = reading.reached(high, [row.xid for row in part])
            yield HistoryChunk(
                rows=[row.entry for row in part],
                cursor=make_cursor(snapshot, covered, place.recent_from, witnesses, place.origin),
                exact=place.exact,
                notice=place.notice,
            )
        covered = reading.reached(regions.END, ())
        next_low = place.recent_from if is_recent else low
        yield HistoryChunk(
            rows=(),
            cursor=make_cursor(snapshot, covered, next_low, witnesses, place.origin),
            last=True,
            authoritative=not self.replica,
            covered_from=format_time(bound) if is_recent else None,
            behind=place.origin is not None,
            exact=place.exact,
            notice=place.notice,
        )

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
            return Looked(visible, snapshot, None)
        stored, found = parse(cursor), None
        assert stored is not None
        if is_doubtful(stored, snapshot):
            found = {(row.xid, row.entry.id) for row in visible}
        place = understand(stored, snapshot, found)
        self.understood(visible, place)
        return Looked(visible, snapshot, place)

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
