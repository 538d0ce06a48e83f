"""A model of the world the merge lives in: transactions, a lossy channel, a history that fails.

The history works as PostgreSQL does: a row bears the id of the (sub)transaction that wrote it, a
snapshot's xmin is the oldest open top-level transaction, subtransactions are not listed. Of the
transactions from there on, those whose rows are visible were committed. A fail-over loses the last
commits, and gives their transaction ids out again. Cursors are the real ones.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.merge import (
    Action,
    Checkpoint,
    Merge,
    Print,
    Read,
    ReadKind,
    Save,
    Verify,
)
from lykke_cli.application.messages import Arrival, Entry, format_time
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


class World:
    """The database, the channel and one tail; every method is one thing that can happen."""

    def __init__(self, merge: Merge, *, chunk_size: int = 2, replica: bool = False) -> None:
        self.merge = merge
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
        self.before_start: set[str] = set()
        self.at_start: set[str] = set()  # committed by the time of the first snapshot
        self.delivered: set[str] = set()
        self.replayed: set[str] = set()
        self.started = False
        self.connected = False
        self.wire: list[Arrival] = []
        self.printed: Counter[str] = Counter()
        self.since_save: dict[str, str] = {}
        self.saved: Checkpoint | None = None
        self.timeline = 1
        self.start = -1  # the newest position that the first snapshot saw
        self.may_repeat: set[str] = set()  # which notices said
        self.may_be_lost: set[str] = set()
        self.request: Read | Verify | None = None
        self.chunks: Iterator[HistoryChunk] | None = None

    # The application

    def begin(self) -> None:
        self.open.append(Transaction(self._xid()))

    def write(self, index: int, *, savepoint: bool, age: timedelta) -> None:
        if not self.open:
            self.begin()
        transaction = self.open[index % len(self.open)]
        self.now += timedelta(seconds=1)
        entry = Entry(
            id=str(uuid.UUID(int=self.next_id)),
            user_id=USER,
            activity_type="X",
            occurred_at=format_time(self.now - age),
        )
        self.next_id += 1
        transaction.rows.append(Row(self._xid() if savepoint else transaction.xid, entry))

    def commit(self, index: int, *, publish: bool) -> None:
        if not self.open:
            return
        transaction = self.open.pop(index % len(self.open))
        self.committed += transaction.rows
        self.commits.append(len(self.committed))
        self.committed_ids |= {row.entry.id for row in transaction.rows}
        if not self.replica:
            self.replicated = len(self.committed)
        if not self.started:
            self.before_start |= {row.entry.id for row in transaction.rows}
        for row in transaction.rows:
            if publish:
                self.publish(row.entry)

    def roll_back(self, index: int) -> None:
        if self.open:
            self.open.pop(index % len(self.open))

    def fail_over(self, lost: int) -> None:
        """A standby takes over that lacks the last rows and every open transaction."""
        if self.replica or not self.started:
            return
        self.fail()
        self.timeline += 1
        self.open.clear()
        last = {row.xid for row in self.committed[len(self.committed) - lost :]}
        self.committed = [row for row in self.committed if row.xid not in last]
        self.replicated = len(self.committed)
        self.next_xid = max([99, *(row.xid for row in self.committed)]) + 1

    def publish_again(self, index: int, *, replayed: bool) -> None:
        if self.committed:
            entry = self.committed[index % len(self.committed)].entry
            self.publish(entry, replayed=replayed)

    def publish(self, entry: Entry, *, replayed: bool = False) -> None:
        if self.connected:
            self.wire.append(Arrival(entry, "live", "auditlog", b"{}", replayed))

    def replicate(self, count: int) -> None:
        """The replica applies so many commits, each whole."""
        behind = [rows for rows in self.commits if rows > self.replicated]
        self.replicated = max([self.replicated, *behind[:count]])

    # The network and the tail

    def connect(self) -> None:
        if not self.connected:
            self.connected = self.started = True
            self.carry_out(self.merge.subscribed())

    def disconnect(self) -> None:
        if self.connected:
            self.connected = False
            self.wire.clear()
            self.carry_out(self.merge.disconnected())

    def deliver(self, count: int) -> None:
        taken, self.wire = self.wire[:count], self.wire[count:]
        self.replayed |= {_id(arrival) for arrival in taken if arrival.replayed}
        self.delivered |= {_id(arrival) for arrival in taken} - self.replayed
        self.carry_out(self.merge.live(taken))

    def deliver_junk(self) -> None:
        self.carry_out(self.merge.live([Arrival(Unreadable(b"?", "junk"), "live", "auditlog")]))

    def tick(self, kind: ReadKind) -> None:
        if self.started:
            self.carry_out(self.merge.tick(kind))

    def answer(self) -> None:
        """The database makes one step of what was asked of it."""
        request = self.request
        if isinstance(request, Verify):
            self.request = None
            self.carry_out(self.merge.verified(self._look_up(request)))
        elif request is not None:
            if self.chunks is None:
                self.chunks = self._read(request)
            chunk = next(self.chunks)
            if chunk.last:
                self.request = self.chunks = None
            self.carry_out(self.merge.chunk(chunk))

    def fail(self) -> None:
        if self.request is not None:
            self.request = self.chunks = None
            self.carry_out(self.merge.read_failed())

    def restart(self, *, killed: bool, keep: int, hold: int) -> None:
        """The process ends, and another goes on from what was saved and what is in the file."""
        checkpoint = self.saved if killed else self.merge.checkpoint()
        if checkpoint is None:
            return
        if killed:
            checkpoint = Checkpoint(
                checkpoint.cursor, checkpoint.pending | self.since_save, checkpoint.floor
            )
        self.request = self.chunks = None
        self.connected = False
        self.wire.clear()
        self.merge = Merge(checkpoint, keep=keep, hold=hold)

    def catch_up(self) -> None:
        """The network and the database work until there is nothing to do."""
        self.connect()
        self.deliver(len(self.wire))
        for _ in range(20 * len(self.committed) + 40):
            self.answer()

    @property
    def owed(self) -> set[str]:
        """What must have been printed: committed after the tail had subscribed.

        Between that and its first snapshot only a broadcast can tell it.
        """
        committed = {row.entry.id for row in self.committed} - self.before_start
        return committed - (self.at_start - self.delivered) - self.may_be_lost

    @property
    def lost(self) -> set[str]:
        """What was committed, and is in the database no more."""
        return self.committed_ids - {row.entry.id for row in self.committed}

    def end_transactions(self) -> None:
        while self.open:
            self.commit(0, publish=False)
        self.replicate(len(self.commits))

    def carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Print(arrivals):
                    for arrival in arrivals:
                        if isinstance(arrival.message, Entry):
                            id = arrival.message.id
                            self.printed[id] += 1
                            # Of an entry that a fail-over lost, nothing tells a late broadcast
                            # from the first once its id is forgotten.
                            may_repeat = self.may_repeat | self.lost
                            assert self.printed[id] == 1 or id in may_repeat, "printed twice"
                            old = self.at_start - self.may_repeat
                            assert arrival.source == "live" or id not in old, "from before"
                            assert arrival.message.id in self.committed_ids, "not committed"
                            self.since_save[arrival.message.id] = arrival.message.occurred_at
                case Save(checkpoint):
                    self.saved = checkpoint
                    self.since_save = {}
                case Read() | Verify():
                    assert self.request is None, "one request at a time"
                    self.request = action

    # The database

    def _xid(self) -> int:
        self.next_xid += 1
        return self.next_xid - 1

    def _look(self, cursor: Cursor | None) -> Looked:
        oldest = min((t.xid for t in self.open), default=self.next_xid)
        lagging = [row.xid for row in self.committed[self.replicated :]]
        visible = self.committed[: self.replicated]
        origin = Origin("1/1", self.timeline, self.next_xid, "", self.replica)
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
        if place.notice is not None and "second time" in place.notice:
            self.may_repeat |= self.printed.keys()
            if not any(row.xid == self.start for row in visible):
                self.may_repeat |= self.at_start | self.before_start
            if "by occurred_at" in place.notice:
                since = place.groups[0].covered[0].high[0]
                self.may_be_lost |= {r.entry.id for r in visible if r.entry.moment <= since}
        return Looked(visible, snapshot, place)

    def _ended(self, xmin: int, lagging: Sequence[int]) -> Runs:
        """What the database says when it is asked, which is not always."""
        if self.next_xid % 2:
            return Runs()
        under_way = {xid for t in self.open for xid in (t.xid, *(row.xid for row in t.rows))}
        return Runs.of(set(range(xmin, self.next_xid)) - under_way - set(lagging))

    def _read(self, request: Read) -> Iterator[HistoryChunk]:
        looked = self._look(request.cursor)
        visible, snapshot, place = looked.visible, looked.snapshot, looked.place
        low = self.now - LOOK_BACK
        if place is None:
            self.at_start = {row.entry.id for row in visible}
            shown = Runs.of(row.xid for row in visible if row.xid >= snapshot.xmin)
            shown |= snapshot.ended
            witnesses = Witnesses.at_start((row.xid, row.entry.id) for row in visible)
            self.start = witnesses.start
            begun = Group(TABLE, (Region(snapshot.xmin, visible=shown),))
            cursor = make_cursor(snapshot, [begun], low, witnesses)
            yield HistoryChunk(rows=(), cursor=cursor, last=True, authoritative=not self.replica)
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
            )
        covered = reading.reached(regions.END, ())
        next_low = place.recent_from if is_recent else low
        yield HistoryChunk(
            rows=(),
            cursor=make_cursor(snapshot, covered, next_low, witnesses, place.origin),
            last=True,
            authoritative=not self.replica,
            covered_from=format_time(bound) if is_recent else None,
        )

    def _look_up(self, request: Verify) -> set[str]:
        looked = self._look(request.cursor)
        assert looked.place is not None
        return set(request.ids) - {
            row.entry.id for row in looked.visible if covers(looked.place, row)
        }


def covers(place: Understood, row: Row) -> bool:
    key = (row.entry.moment, row.entry.id)
    return any(r.covers(row.xid, key) for group in place.groups for r in group.covered)


def _id(arrival: Arrival) -> str:
    assert isinstance(arrival.message, Entry)
    return arrival.message.id
