"""A model of the world that hubs live in: clients that come and go, hubs that die."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from lykke_cli.application.gateways.history_protocol import HistoryChunk
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.hub import Hub
from lykke_cli.application.hub_actions import Action, Request, Subscribe, Unsubscribe, Wake
from lykke_cli.application.journal import Line
from lykke_cli.application.member import ALL_BYTES, EVERYBODYS
from lykke_cli.application.merge import Checkpoint, Read, ReadKind, Verify
from lykke_cli.application.messages import Arrival, Entry, decode
from lykke_cli.application.reader import Reader
from lykke_cli.application.unsettled import IDS, UNCOVERED
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.postgresql.cursor import Understood, vouched
from tests.unit.application.model_database import ModelDatabase, Row

USERS = [str(uuid.UUID(int=number)) for number in (1, 2, 3)]
KEPT = 50  # ids, which no schedule comes to


@dataclass(eq=False)
class Client:
    """Somebody who is to be sent every entry of a user once, from one hub or another."""

    user: str | None
    """None: every user's."""
    from_the_first: bool
    """It wants what was there before it began, too."""
    checkpoint: Checkpoint | None = None
    received: Counter[str] = field(default_factory=Counter)
    at_begin: set[str] = field(default_factory=set)
    junk: Counter[bytes] = field(default_factory=Counter)
    """What is no entry, since it last came."""
    heard: set[str] = field(default_factory=set)
    """What was broadcast since it first came. It counts as new, as in any merge."""
    uncovered: set[str] = field(default_factory=set)
    """What it was sent since the checkpoint that it has, without another."""
    again: set[str] = field(default_factory=set)
    """Of that, what it knows when it comes once more, after it has come back."""
    in_outage: bool = False
    """Of that, some came while the hub could not read the database."""
    may_repeat: set[str] = field(default_factory=set)
    """What it was told of that it may come again."""
    notices: int = 0
    running: Running | None = None
    reader: Reader | None = None


@dataclass(eq=False)
class Asked:
    """A request that the database has begun to answer, once there are chunks."""

    request: Request
    chunks: Iterator[HistoryChunk] | None = None


@dataclass(eq=False)
class Running:
    """A hub, and what its driver has to do for it."""

    hub: Hub
    is_connected: bool = True
    subscribing: list[uuid.UUID | None] = field(default_factory=list)
    channels: set[str | None] = field(default_factory=set)
    wire: list[Arrival] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    furthest: int = 0
    """How many rows it has been shown: it is answered by no replica that has less."""
    woken: set[Reader] = field(default_factory=set)
    is_cut_off: bool = False
    """Its own last read of the database failed."""


class HubWorld(ModelDatabase):
    """The database, the server with the channels, two hubs at most and their clients."""

    def __init__(
        self,
        *,
        lines: int,
        everybodys: int = EVERYBODYS,
        all_bytes: int = ALL_BYTES,
        keep: int = KEPT,
        ids: int = IDS,
        uncovered: int = UNCOVERED,
        replica: bool = False,
        slices: bool = False,
    ) -> None:
        super().__init__(replica=replica, slices=slices)
        self.lines = lines
        self.everybodys = everybodys
        self.junk = 0
        self.ids = ids
        self.uncovered = uncovered
        self.all_bytes = all_bytes
        self.keep = keep
        self.hubs = [self._new_hub(), self._new_hub()]
        self.applied = [0, 0]  # how many rows the replica has that each hub reads
        self.clients: list[Client] = []
        self.may_be_lost: set[str] = set()  # where a place was gone on from by time

    # The application

    def commit(self, index: int, *, publish: bool) -> None:
        for entry in self.end(index):
            if publish:
                self.publish(entry)

    def write_and_commit(self, user: str, *, age: timedelta, publish: bool) -> None:
        self.begin()
        self.write(len(self.open) - 1, savepoint=False, age=age, user=user)
        self.commit(len(self.open) - 1, publish=publish)

    def fail_over(self, lost: int) -> None:
        """A standby takes over that lacks the last rows; who reads is cut off."""
        if self.replica:
            return
        for index, running in enumerate(self.hubs):
            while running.asked:
                self.fail(index, 0)
        self.lose(lost)

    def replicate_to(self, index: int, count: int) -> None:
        """The replica that this hub reads applies so many commits."""
        self.replicated = self.applied[index]
        self.replicate(count)
        self.applied[index] = self.replicated

    def lead_astray(self, index: int, commit: int) -> None:
        """This hub reads another replica from now on, which may have less."""
        self.applied[index] = self.commits[commit % len(self.commits)] if self.commits else 0

    def publish_again(self, index: int, *, replayed: bool) -> None:
        if self.committed:
            self.publish(self.committed[index % len(self.committed)].entry, replayed=replayed)

    def publish(self, entry: Entry, *, replayed: bool = False, channel: str | None = None) -> None:
        channel = channel or entry.user_id
        for running in self.hubs:
            if running.is_connected and not running.channels.isdisjoint((channel, None)):
                arrival = Arrival(entry, "live", f"auditlog:{channel}", entry.to_json(), replayed)
                running.wire.append(arrival)

    # The hubs

    def disconnect(self, index: int) -> None:
        running = self.hubs[index]
        if running.is_connected:
            running.is_connected = False
            running.wire.clear()
            self.carry_out(running, running.hub.disconnected())

    def reconnect(self, index: int) -> None:
        running = self.hubs[index]
        if not running.is_connected:
            running.is_connected = True
            self.carry_out(running, running.hub.reconnected())

    def confirm(self, index: int) -> None:
        running = self.hubs[index]
        confirmed, running.subscribing = running.subscribing, []
        running.channels |= set(map(_key, confirmed))
        if confirmed:
            self.carry_out(running, running.hub.confirmed(confirmed))

    def deliver(self, index: int, count: int) -> None:
        running = self.hubs[index]
        taken, running.wire = running.wire[:count], running.wire[count:]
        for client in self.clients:
            client.heard |= {a.message.id for a in taken if isinstance(a.message, Entry)}
        self.carry_out(running, running.hub.live(taken))

    def deliver_junk(self, index: int, user: str) -> None:
        self.junk += 1
        raw = b"junk %d" % self.junk
        junk = Arrival(Unreadable(raw, "junk"), "live", f"auditlog:{user}", raw)
        self.carry_out(self.hubs[index], self.hubs[index].hub.live([junk]))

    def tick(self, index: int, kind: ReadKind) -> None:
        self.carry_out(self.hubs[index], self.hubs[index].hub.tick(kind))

    def go_on(self, index: int) -> None:
        """It is time for the next portion of what takes long."""
        if self.hubs[index].hub.goes_on:
            self.carry_out(self.hubs[index], self.hubs[index].hub.read_on())

    def answer(self, index: int, which: int) -> None:
        """The database makes one step of one of the things that were asked of it."""
        running = self.hubs[index]
        if not running.asked:
            return
        if self.replica:
            self.replicated = self.applied[index]
        asked = running.asked[which % len(running.asked)]
        request = asked.request
        if not running.hub.awaits(request):
            running.asked.remove(asked)
            return
        if asked.chunks is None:
            if self.replica and self.replicated < running.furthest:
                self.fail(index, which)
                return
            running.furthest = self.replicated
        if isinstance(request.what, Verify):
            running.asked.remove(asked)
            uncovered = self.look_up(request.what)
            self.carry_out(running, running.hub.verified(request, uncovered))
            return
        if asked.chunks is None:
            asked.chunks = self._begin_answer(request, request.what)
        chunk = next(asked.chunks)
        if chunk.last:
            running.asked.remove(asked)
            running.is_cut_off &= request.reader is not None
        self.carry_out(running, running.hub.chunk(request, chunk))

    def answer_pass(self, index: int) -> None:
        """The database answers whole what the hub has asked for itself."""
        asked = self.hubs[index].asked
        own = next((one for one in asked if one.request.reader is None), None)
        while own is not None and own in asked:
            self.answer(index, asked.index(own))

    def fail(self, index: int, which: int) -> None:
        running = self.hubs[index]
        if running.asked:
            asked = running.asked.pop(which % len(running.asked))
            running.is_cut_off |= asked.request.reader is None
            self.carry_out(running, running.hub.failed(asked.request))

    def break_off(self, index: int, which: int) -> None:
        """A read for a reader is left in the middle, for others that wait."""
        running = self.hubs[index]
        if running.asked:
            asked = running.asked[which % len(running.asked)]
            if asked.chunks is not None and asked.request.reader is not None:
                running.asked.remove(asked)
                self.carry_out(running, running.hub.broken_off(asked.request))

    def die(self, index: int) -> None:
        """The process ends, and another begins with nothing."""
        for client in self.clients:
            if client.running is self.hubs[index]:
                client.running = client.reader = None
        self.hubs[index] = self._new_hub()

    # The clients

    def come(self, user: str | None, index: int, *, from_the_first: bool) -> Client:
        client = Client(user, from_the_first)
        self.clients.append(client)
        self.join(client, index)
        return client

    def join(self, client: Client, index: int) -> None:
        if client.running is not None:
            return
        running = client.running = self.hubs[index]
        client.junk.clear()
        client.again |= client.uncovered
        client.uncovered.clear()
        client.in_outage = False
        since = regions.START_OF_TIME if client.from_the_first else None
        client.reader, actions = running.hub.join(
            uuid.UUID(client.user) if client.user else None, client.checkpoint, since=since
        )
        self.carry_out(running, actions)

    def leave(self, client: Client) -> None:
        if client.running is not None and client.reader is not None:
            self.carry_out(client.running, client.running.hub.leave(client.reader))
            client.running = client.reader = None

    def take(self, client: Client, *, lost: bool = False) -> bool:
        """The client is sent what is there for it; with `lost` it breaks off before it has it."""
        if client.running is None or client.reader is None:
            return False
        portion, actions = client.running.hub.take(client.reader)
        checkpoint = portion.checkpoint
        assert checkpoint is None or len(checkpoint.pending) <= self.ids, "a cursor too large"
        self.carry_out(client.running, actions)
        if lost:
            self.leave(client)
            return False
        self._received(client, portion.lines)
        if checkpoint is not None:
            client.checkpoint = checkpoint
            client.uncovered.clear()
            client.in_outage = False
        elif portion.lines:
            client.in_outage |= client.running.is_cut_off
            assert client.in_outage, "sent without a checkpoint"
        return bool(portion.lines)

    def work(self) -> None:
        """All that can be done is done, until nothing is left to do."""
        portions = 3 * self.pages + 20  # a standby that lags is asked on and on
        for turn in range(200 + portions):
            for index, running in enumerate(self.hubs):
                self.reconnect(index)
                self.confirm(index)
                self.deliver(index, len(running.wire))
                while running.asked:
                    self.answer(index, 0)
                if turn < portions:
                    self.go_on(index)
            before = [client.checkpoint for client in self.clients]
            taken = [self.take(client) for client in self.clients]
            is_idle = not any(running.asked for running in self.hubs)
            if is_idle and not any(taken) and before == [c.checkpoint for c in self.clients]:
                return
        raise AssertionError("it never comes to an end")

    def end_transactions(self) -> None:
        while self.open:
            self.commit(0, publish=False)
        for index in range(2):
            self.replicate_to(index, len(self.commits))

    def owed(self, client: Client) -> set[str]:
        """What the client must have been sent in the end."""
        theirs = [row.entry for row in self.committed]
        owed = {e.id for e in theirs if client.user in (e.user_id, None)}
        return owed - client.at_begin - self.may_be_lost

    def carry_out(self, running: Running, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Subscribe(user_id):
                    running.subscribing.append(user_id)
                case Unsubscribe(user_id):
                    running.channels.discard(_key(user_id))
                    if user_id in running.subscribing:
                        running.subscribing.remove(user_id)
                case Request(reader=reader):
                    requests = [one.request for one in running.asked]
                    under_way = [r.reader for r in requests if running.hub.awaits(r)]
                    assert reader not in under_way, "one request at a time for each"
                    running.asked.append(Asked(action))
                case Wake(readers):
                    running.woken.update(readers)

    def understood(self, visible: Sequence[Row], place: Understood) -> None:
        if place.notice is not None and "by occurred_at" in place.notice:
            since = place.groups[0].covered[0].high[0]
            self.may_be_lost |= {r.entry.id for r in visible if r.entry.moment <= since}

    def _received(self, client: Client, lines: Sequence[Line]) -> None:
        there = {row.entry.id for row in self.committed}
        for line in lines:
            if line.is_notice:
                client.notices += 1
                client.may_repeat |= client.received.keys() | client.at_begin
                continue
            entry = decode(line.data)
            if line.id is None:
                client.junk[line.data] += b"junk" in line.data
                assert client.junk[line.data] <= 1, "shown twice"
                continue
            assert isinstance(entry, Entry) and client.user in (entry.user_id, None)
            client.uncovered.add(entry.id)
            if entry.id in client.again:
                client.again.remove(entry.id)
                continue
            client.received[entry.id] += 1
            # Nothing tells a late broadcast of what a fail-over lost from the first.
            may_repeat = entry.id in client.may_repeat or entry.id not in there
            assert client.received[entry.id] == 1 or may_repeat, "sent twice"
            assert entry.id in self.committed_ids, "not committed"
            before = client.at_begin - client.heard - client.may_repeat
            assert entry.id not in before, "from before it began"

    def _begin_answer(self, request: Request, read: Read) -> Iterator[HistoryChunk]:
        users = None if request.users is None else set(map(_key, request.users))
        is_first = read.cursor is None
        client = next(
            (c for c in self.clients if request.reader and c.reader is request.reader), None
        )
        from_the_first = client is not None and client.from_the_first
        if client is not None and is_first:
            visible = {row.entry.id for row in self.committed[: self.replicated]}
            client.at_begin = set() if from_the_first else visible
        return self.read(
            read,
            lambda entry: users is None or entry.user_id in users,
            begin_before_all=is_first and from_the_first,
            in_portions=request.reader is None,
        )

    def _new_hub(self) -> Running:
        return Running(
            Hub(
                lines=self.lines,
                everybodys=self.everybodys,
                all_bytes=self.all_bytes,
                keep=self.keep,
                ids=self.ids,
                uncovered=self.uncovered,
                vouched=vouched,
            )
        )


def _key(user_id: uuid.UUID | None) -> str | None:
    return None if user_id is None else str(user_id)
