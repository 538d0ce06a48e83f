"""A model of streams that are read into a file, without a database, by runs that are killed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lykke_cli.application.gateways.pubsub_protocol import Position
from lykke_cli.application.going_on import starts
from lykke_cli.application.live_only import LiveOnly, position_in
from lykke_cli.application.merge import Print, Save
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.application.place import Place
from lykke_cli.application.stream_ids import NO_ID, StreamId

STREAMS = ("a", "b", "c")
EPOCH = datetime(2026, 1, 31, 12, tzinfo=UTC)
AT = "2026-01-31T12:00:00.000000Z"


@dataclass
class Stream:
    entries: list[tuple[StreamId, str]] = field(default_factory=list)
    last: StreamId = NO_ID
    added: int = 0

    def newest(self, up_to: StreamId) -> StreamId:
        return max((id for id, _ in self.entries if id <= up_to), default=NO_ID)


class Store:
    """CursorStoreProtocol in memory."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def load(self) -> Sequence[dict[str, Any]] | None:
        return self.states or None

    def save(self, state: dict[str, Any]) -> None:
        self.states = [state]

    def add(self, change: dict[str, Any]) -> None:
        self.states.append(change)

    def set_aside(self) -> None:
        raise AssertionError("it is not damaged")


class World:
    """Every method is one thing that can happen."""

    def __init__(self) -> None:
        self.now = 1_000  # ms
        self.streams = {name: Stream() for name in STREAMS}
        self.store = Store()
        self.output: list[str] = []
        self.given: set[tuple[str, StreamId]] = set()
        self.gaps = 0
        self.excused: set[str] = set()
        """What was published before a gap that was told of, or cannot have been told of."""
        self.awaited: set[str] = set()
        """What was published since there is a place."""
        self.begin()

    # What is published, and what becomes of it

    def publish(self, name: str, *, skew: int = 0) -> None:
        self.now += 1
        stream = self.streams[name]
        stream.last = stream.last.next(max(self.now - skew, 0))
        while (name, stream.last) in self.given:  # in the very millisecond of one that was lost
            stream.last = stream.last.next(0)
        self.given.add((name, stream.last))
        stream.added += 1
        entry = str(uuid.uuid4())
        stream.entries.append((stream.last, entry))
        self.awaited.add(entry)

    def trim(self, name: str, number: int) -> None:
        self.lose_of_an_unread_stream(name)
        del self.streams[name].entries[:number]

    def delete(self, name: str) -> None:
        self.lose_of_an_unread_stream(name)
        self.streams[name] = Stream()

    def lose_of_an_unread_stream(self, name: str) -> None:
        """Who has read nothing of it may not be able to tell that it was another one."""
        stored = position_in(Place(self.store).load())
        if self.ids[name] == NO_ID or (stored is not None and stored.ids[name] == NO_ID):
            self.excused |= {entry for _, entry in self.streams[name].entries}

    def set_back(self, name: str, number: int) -> None:
        """A fail-over to a replica that lacked the last entries."""
        stream = self.streams[name]
        if number >= len(stream.entries):
            self.delete(name)
            return
        # Nor what was never read, and is gone as if it had never been there.
        stored = position_in(Place(self.store).load())
        known = self.ids[name] if stored is None else min(self.ids[name], stored.ids[name])
        self.excused |= {e for id, e in stream.entries[-number:] if id > known}
        del stream.entries[len(stream.entries) - number :]
        stream.last = stream.entries[-1][0]

    # The run

    def begin(self) -> None:
        """Begin a run, from the place where there is one."""
        self.place = Place(self.store)
        checkpoint = self.place.load()
        self.compares = bool(self.place.output.get("compares"))
        if checkpoint is not None:  # as a file is compared with what the place knows of it
            known = self.place.output["length"]
            checkpoint = self.place.wrote_before(dict.fromkeys(self.output[known:], AT))
        self.merge = LiveOnly(4, resume=checkpoint)
        position = position_in(checkpoint)
        if position is None:
            self.ids = {name: stream.last for name, stream in self.streams.items()}
            self.reached()
            self.save()
        else:
            self.go_on(position)

    def go_on(self, position: Position) -> None:
        """Find out where to read on; at a loss the gap is told."""
        newest = {n: s.newest(position.ids.get(n, NO_ID)) for n, s in self.streams.items()}
        trimmed = {
            name
            for name, stream in self.streams.items()
            if newest[name] == NO_ID and stream.added > len(stream.entries)
        }
        self.ids, missing = starts(position, newest, trimmed)
        if missing is not None:
            self.gaps += 1
            self.compares = True
            comes = {e for n, s in self.streams.items() for id, e in s.entries if id > self.ids[n]}
            self.excused |= self.awaited - comes
            self.merge.lost()
        self.reached()

    def read(self, names: Sequence[str], count: int, *, printed: int | None = None) -> bool:
        """Read of these streams, and print all or so many; False where a loss was noticed."""
        found: list[str] = []
        ids = dict(self.ids)
        for name in names:
            entries = [e for e in self.streams[name].entries if e[0] > self.ids[name]][:count]
            is_there = self.ids[name] in (NO_ID, *(id for id, _ in self.streams[name].entries))
            if entries and not is_there:
                self.go_on(Position(self.ids, EPOCH))
                return False
            if entries:
                ids[name] = entries[-1][0]
                found += [entry for _, entry in entries]
        for action in self.merge.live([Arrival(_entry(id), "live") for id in found]):
            assert isinstance(action, Print)
            arrivals = [a for a in action.arrivals if not self.is_written(a)][:printed]
            self.place.wrote(arrivals)
            self.output += [a.message.id for a in arrivals if isinstance(a.message, Entry)]
        if printed is None:
            self.ids = ids
            self.reached()
        return True

    def is_written(self, arrival: Arrival) -> bool:
        """As the whole file says, where it is compared after a loss."""
        assert isinstance(arrival.message, Entry)
        return self.compares and arrival.message.id in self.output

    def look(self) -> None:
        """Look whether the streams end where they were read up to, or later."""
        for name, stream in self.streams.items():
            if stream.newest(stream.last) < self.ids[name]:
                self.go_on(Position(self.ids, EPOCH))
                return

    def reached(self) -> None:
        at = EPOCH + timedelta(milliseconds=self.now)
        for action in self.merge.reached(Position(dict(self.ids), at)):
            assert isinstance(action, Save)
            self.place.reached(action.checkpoint)

    def save(self, *, finally_: bool = False) -> None:
        self.place.output = {"length": len(self.output), "compares": self.compares}
        self.place.save(finally_=finally_)

    def end(self) -> None:
        """In order."""
        self.save(finally_=True)
        self.begin()

    def kill(self) -> None:
        self.begin()

    def drain(self) -> None:
        self.look()
        while not self.read(STREAMS, 1_000):
            pass


def _entry(id: str) -> Entry:
    return Entry(id=id, user_id=str(uuid.UUID(int=1)), activity_type="T", occurred_at=AT)
