"""A model of the world the merge lives in: a lossy channel, and a history that fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from lykke_cli.application.gateways.history_protocol import HistoryChunk
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
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.infrastructure.database.witnesses import Witnesses
from lykke_cli.infrastructure.postgresql.cursor import Understood
from tests.unit.application.model_database import ModelDatabase, Row


class World(ModelDatabase):
    """The database, the channel and one tail; every method is one thing that can happen."""

    def __init__(
        self, merge: Merge, *, chunk_size: int = 2, replica: bool = False, slices: bool = False
    ) -> None:
        super().__init__(chunk_size=chunk_size, replica=replica, slices=slices)
        self.merge = merge
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
        self.start = -1  # the newest position that the first snapshot saw
        self.may_repeat: set[str] = set()  # which notices said
        self.may_be_lost: set[str] = set()
        self.request: Read | Verify | None = None
        self.chunks: Iterator[HistoryChunk] | None = None

    # The application

    def commit(self, index: int, *, publish: bool) -> None:
        entries = self.end(index)
        if not self.started:
            self.before_start |= {entry.id for entry in entries}
        for entry in entries:
            if publish:
                self.publish(entry)

    def fail_over(self, lost: int) -> None:
        if self.replica or not self.started:
            return
        self.fail()
        self.lose(lost)

    def publish_again(self, index: int, *, replayed: bool) -> None:
        if self.committed:
            entry = self.committed[index % len(self.committed)].entry
            self.publish(entry, replayed=replayed)

    def publish(self, entry: Entry, *, replayed: bool = False) -> None:
        if self.connected:
            self.wire.append(Arrival(entry, "live", "auditlog", b"{}", replayed))

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
            self.carry_out(self.merge.verified(self.look_up(request)))
        elif request is not None:
            if self.chunks is None:
                self.chunks = self.read(request)
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
        self.catch_up_history()

    def catch_up_history(self) -> None:
        """The database works until nothing is asked of it."""
        for _ in range(40 * len(self.committed) + 40):
            self.answer()
            self.go_on()

    def go_on(self) -> None:
        """It is time for the next portion of what takes long."""
        if self.merge.goes_on and not self.merge.is_failing:
            self.tick(ReadKind.FULL)

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

    def began(self, visible: Sequence[Row], witnesses: Witnesses) -> None:
        self.at_start = {row.entry.id for row in visible}
        self.start = witnesses.start

    def understood(self, visible: Sequence[Row], place: Understood) -> None:
        if place.notice is None or "second time" not in place.notice:
            return
        self.may_repeat |= self.printed.keys()
        if not any(row.xid == self.start for row in visible):
            self.may_repeat |= self.at_start | self.before_start
        if "by occurred_at" in place.notice:
            since = place.groups[0].covered[0].high[0]
            self.may_be_lost |= {r.entry.id for r in visible if r.entry.moment <= since}


def _id(arrival: Arrival) -> str:
    assert isinstance(arrival.message, Entry)
    return arrival.message.id
