"""A model of the world the merge lives in: transactions, a lossy channel, a history that fails.

The history works as PostgreSQL does: a row bears the id of the (sub)transaction that wrote it, a
snapshot's xmin is the oldest open top-level transaction, subtransactions are not listed. Of the
transactions from there on, those whose rows are visible were committed.
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

START = datetime(2026, 1, 1, tzinfo=UTC)
LOOK_BACK = timedelta(minutes=10)
USER = str(uuid.UUID(int=1))


@dataclass
class Row:
    xid: int
    entry: Entry


@dataclass
class Transaction:
    xid: int
    rows: list[Row] = field(default_factory=list)


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
        self.replicated = 0  # how many commits the replica has applied
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

    def publish_again(self, index: int, *, replayed: bool) -> None:
        if self.committed:
            entry = self.committed[index % len(self.committed)].entry
            self.publish(entry, replayed=replayed)

    def publish(self, entry: Entry, *, replayed: bool = False) -> None:
        if self.connected:
            self.wire.append(Arrival(entry, "live", "auditlog", b"{}", replayed))

    def replicate(self, count: int) -> None:
        self.replicated = min(len(self.committed), self.replicated + count)

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
        return committed - (self.at_start - self.delivered)

    def end_transactions(self) -> None:
        while self.open:
            self.commit(0, publish=False)
        self.replicate(len(self.committed))

    def carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Print(arrivals):
                    for arrival in arrivals:
                        if isinstance(arrival.message, Entry):
                            self.printed[arrival.message.id] += 1
                            assert self.printed[arrival.message.id] == 1, "printed twice"
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

    def _snapshot(self) -> tuple[list[Row], int]:
        oldest = min((t.xid for t in self.open), default=self.next_xid)
        lagging = [row.xid for row in self.committed[self.replicated :]]
        return self.committed[: self.replicated], min([oldest, *lagging])

    def _read(self, request: Read) -> Iterator[HistoryChunk]:
        visible, xmin = self._snapshot()
        low = self.now - LOOK_BACK
        if request.cursor is None:
            self.at_start = {row.entry.id for row in visible}
            begun = Region(xmin, visible=frozenset(r.xid for r in visible if r.xid >= xmin))
            cursor = _cursor((begun,), low)
            yield HistoryChunk(rows=(), cursor=cursor, last=True, complete=not self.replica)
            return
        covered, recent_low = _regions(request.cursor)
        bound = recent_low if request.kind is ReadKind.RECENT else regions.START_OF_TIME
        rows = sorted(
            (
                r
                for r in visible
                if r.entry.moment >= bound
                and not any(c.covers(r.xid, (r.entry.moment, r.entry.id)) for c in covered)
            ),
            key=lambda r: (r.entry.moment, r.entry.id),
        )
        read = regions.Reading(covered, xmin, bound)
        for start in range(0, len(rows), self.chunk_size):
            part = rows[start : start + self.chunk_size]
            place = (part[-1].entry.moment, part[-1].entry.id)
            covered = read.reached(place, [r.xid for r in part])
            yield HistoryChunk(rows=[r.entry for r in part], cursor=_cursor(covered, recent_low))
        covered = read.reached(regions.END, ())
        full = request.kind is ReadKind.FULL
        yield HistoryChunk(
            rows=(),
            cursor=_cursor(covered, low if full else recent_low),
            last=True,
            complete=not self.replica,
            covered_from=None if full else format_time(recent_low),
        )

    def _look_up(self, request: Verify) -> set[str]:
        visible, _ = self._snapshot()
        covered, _ = _regions(request.cursor)
        return set(request.ids) - {
            r.entry.id
            for r in visible
            if any(c.covers(r.xid, (r.entry.moment, r.entry.id)) for c in covered)
        }


def _id(arrival: Arrival) -> str:
    assert isinstance(arrival.message, Entry)
    return arrival.message.id


def _cursor(covered: Sequence[Region], low: datetime) -> Cursor:
    return Cursor({"regions": regions.dump(covered), "low": low.isoformat()})


def _regions(cursor: Cursor) -> tuple[tuple[Region, ...], datetime]:
    return regions.load(cursor.data["regions"]), datetime.fromisoformat(cursor.data["low"])
