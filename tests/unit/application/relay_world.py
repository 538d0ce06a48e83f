"""A model of the world of relays: a database, streams that may go back, several of them."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from lykke_cli.application.gateways.stream_log_protocol import Batch, Place
from lykke_cli.application.merge import Read, ReadKind, Verify
from lykke_cli.application.messages import decode
from lykke_cli.application.relay import OtherRelay, Relay
from lykke_cli.infrastructure.postgresql.cursor import Understood
from tests.unit.application.model_database import ModelDatabase, Row

PARTITIONS = 3
MOST_STEPS = 20_000
"""In so many a relay has done what there is to do."""
USERS = [str(uuid.UUID(int=n)) for n in range(1, 6)]


def partition_of(user_id: str) -> int:
    return uuid.UUID(user_id).int % PARTITIONS


@dataclass
class Stream:
    entries: list[str] = field(default_factory=list)
    place: Place | None = None
    version: object = field(default_factory=object)
    """Another one after each change, as WATCH sees it."""

    def copy(self) -> Stream:
        return Stream(list(self.entries), self.place)


class Unavailable(Exception):
    """Redis did not answer."""


class World(ModelDatabase):
    """Every method is one thing that can happen."""

    def __init__(self, *, replica: bool = False, slices: bool = False) -> None:
        super().__init__(replica=replica, slices=slices, prompt=True)
        self.streams = [Stream() for _ in range(PARTITIONS)]
        self.past: list[tuple[int, Stream]] = []  # each stream before each change
        self.relays: dict[str, Process] = {}
        self.names = 0
        self.replicated_elsewhere = 0  # by another standby
        self.is_exact = True
        """Whether the database has understood every place in full."""
        self.may_be_lost: set[str] = set()  # as a notice said

    def understood(self, visible: Sequence[Row], place: Understood) -> None:
        self.is_exact &= place.exact
        if place.notice is not None and "by occurred_at" in place.notice:
            since = place.groups[0].covered[0].high[0]
            self.may_be_lost |= {r.entry.id for r in visible if r.entry.moment <= since}

    def record(self, index: int, *, age: timedelta, commit: bool) -> None:
        self.begin()
        self.write(len(self.open) - 1, savepoint=False, age=age, user=USERS[index % len(USERS)])
        if commit:
            self.end(len(self.open) - 1)

    def ask_another_standby(self) -> None:
        """Behind a pooler there may be several."""
        self.replicated, self.replicated_elsewhere = self.replicated_elsewhere, self.replicated

    def promote(self) -> None:
        """The standby becomes the primary, without what it lacks."""
        if self.replica:
            self.lose(len(self.committed) - self.replicated)
            self.replica = False

    # Redis

    def watch(self, partition: int) -> tuple[Place | None, object]:
        stream = self.streams[partition]
        return stream.place, stream.version

    def write_batch(self, batch: Batch, version: object) -> None:
        """Unless somebody has written meanwhile."""
        stream = self.streams[batch.partition]
        if stream.version is version:
            self.past.append((batch.partition, stream.copy()))
            for user, message in batch.entries:
                assert partition_of(user) == batch.partition
                entry = decode(message)
                assert getattr(entry, "id", None) in self.committed_ids
                stream.entries.append(getattr(entry, "id", ""))
            stream.place = batch.place
            stream.version = object()

    def fail_over_redis(self, lost: int) -> None:
        """A replica takes over that lacks the last writes."""
        for partition, before in reversed(self.past[len(self.past) - lost :]):
            self.streams[partition] = before
        del self.past[len(self.past) - lost :]
        self.disconnect()

    def delete(self, partition: int) -> None:
        self.streams[partition] = Stream()
        self.past.clear()

    def disconnect(self) -> None:
        for process in self.relays.values():
            process.is_connected = False

    # The relays

    def start(self) -> None:
        self.names += 1
        name = f"{self.names * 7 % 10}-{self.names}"  # not in the order in which they begin
        self.relays[name] = Process(self, name)

    def kill(self, index: int) -> None:
        if self.relays:
            del self.relays[[*self.relays][index % len(self.relays)]]

    def step(self, index: int, steps: int) -> None:
        """One of the relays goes on."""
        if not self.relays:
            return
        name = [*self.relays][index % len(self.relays)]
        for _ in range(steps):
            try:
                next(self.relays[name].steps)
            except OtherRelay:
                self.relays[name] = Process(self, name)  # and begins again when it has waited
                return

    def settle(self) -> Process:
        """All relays but one end, and it works until there is nothing to do."""
        self.end_transactions()
        self.replicate(len(self.commits))
        self.relays.clear()
        self.start()
        [process] = self.relays.values()
        for _ in range(MOST_STEPS):
            next(process.steps)
            if process.rounds and process.relay.is_level:
                break
        for _ in range(10 * PARTITIONS):  # what is there is not written again
            next(process.steps)
        return process

    def end_transactions(self) -> None:
        while self.open:
            self.end(0)

    @property
    def relayed(self) -> Counter[str]:
        return Counter(id for stream in self.streams for id in stream.entries)


class Process:
    """What the driver does, a step at a time."""

    def __init__(self, world: World, name: str) -> None:
        self.relay = Relay(name, partition_of)
        self.world = world
        self.rounds = 0
        self.is_connected = True
        self.versions: dict[int, object] = {}
        self.reads_all = self.reading_breaks = False
        self.steps = self._run()

    def _run(self) -> Generator[None]:
        yield from self._write(self.relay.found((yield from self._look())))
        while True:
            full, self.reads_all = self.reads_all or self.rounds % 4 == 3, False
            yield from self._read(full)
            self.rounds += 1
            yield from self._write(self.relay.marks() if self.rounds % 3 == 0 else [])

    def _read(self, full: bool) -> Generator[None]:
        ask = self.relay.next_read(float(self.rounds), full=full)
        read = Read(ReadKind.RECENT if ask.recent_only else ReadKind.FULL, ask.cursor)
        for chunk in self.world.read(read, begin_before_all=ask.cursor is None):
            covered = set[str]()
            for question in self.relay.questions(chunk):
                yield
                verify = Verify(list(question.ids), question.cursor)
                covered |= set(question.ids) - self.world.look_up(verify)
            yield from self._write(self.relay.chunk(chunk, covered))
            if not chunk.last:
                yield
                if self.reading_breaks:
                    self.reading_breaks = False
                    return

    def _write(self, batches: list[Batch]) -> Generator[None]:
        while batches:
            places: Mapping[int, Place | None]
            try:
                places = yield from self._try_to_write(batches)
            except Unavailable:
                places = yield from self._look()
            batches = self.relay.found(places)

    def _try_to_write(self, batches: list[Batch]) -> Generator[None, None, dict[int, Place | None]]:
        found = {}
        for batch in batches:
            yield
            if not self.is_connected:
                raise Unavailable
            self.world.write_batch(batch, self.versions[batch.partition])
            yield  # here the reply may be lost
            if not self.is_connected:
                raise Unavailable
            found[batch.partition] = self._watch(batch.partition)
        return found

    def _look(self) -> Generator[None, None, dict[int, Place | None]]:
        self.is_connected = True
        found = {}
        for partition in range(PARTITIONS):
            yield
            found[partition] = self._watch(partition)
        return found

    def _watch(self, partition: int) -> Place | None:
        place, self.versions[partition] = self.world.watch(partition)
        return place
