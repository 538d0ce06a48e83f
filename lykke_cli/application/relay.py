"""Decides what goes from the table into which stream; who waits and reads is the driver.

A partition's place is written together with its entries, so that the two can only be lost
together. Places may differ: a write reaches some partitions and not others when the relay dies, and
a fail-over of Redis, or of one of a cluster's shards, brings old places back. Partitions with the
same place form a line: one read of the table serves them all. Where there are several lines, one
after the other is read to its end, and joined to another.

A line may be joined to one that was last read before it: whatever the other's cursor covers had
been committed by then, and so is covered here too. From there on both are read from the other's
cursor, and what the line's own covers is left out, until a read of the whole table has covered
everything. Meanwhile the place of a partition is both cursors. Standbys may be behind one another,
and nothing says which was asked: what they tell is joined to nothing.

A read of the whole table may take many portions, and what is near is read between them. It says
nothing of what was committed after the first of them. So what has to be covered in full is covered
by a read that begins later, and no line is joined to one that was read meanwhile.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, HistoryRow
from lykke_cli.application.gateways.stream_log_protocol import Batch, Place
from lykke_cli.application.messages import UnreadableEntry
from lykke_cli.application.reconciling import Beginnings

TAKE_OVER = 10.0  # seconds without a sign of a relay, after which another takes its place


class Ask(msgspec.Struct, frozen=True):
    """A read of the table."""

    cursor: Cursor | None
    """None: from the start."""
    recent_only: bool
    portion: bool
    """As in `HistoryProtocol.changes`."""


class Question(msgspec.Struct, frozen=True):
    """Which of these entries the cursor does not cover."""

    cursor: Cursor
    ids: Sequence[str]


class OtherRelay(Exception):
    """Another relay writes, and has precedence."""


class _Begun(msgspec.Struct, frozen=True):
    """The read with which one of the whole table began."""

    number: int
    at: float
    """In seconds since 1970."""
    authoritative: bool


class _Line:
    """Partitions that are read for together."""

    def __init__(self, cursor: Cursor | None, read_at: float) -> None:
        self.cursor = cursor
        self.members: dict[int, tuple[Cursor, ...]] = {}
        """Of each partition what else is covered."""
        self.read_at = read_at
        """When a read began since which nothing is missing, in seconds since 1970."""
        self.last = 0
        """The number of its last read."""
        self.begun: _Begun | None = None
        """How the read of everything that is under way began; None: nobody knows, or there is none.
        """
        self.beginnings = Beginnings()
        self.wanted_after = 0
        """Everything has to be read by what begins after the read with this number."""
        self.is_whole = False
        """Whether that was done."""
        self.is_caught_up = False
        """Whether it was done since these are its partitions."""
        self.is_near_next = cursor is not None
        """Whether what is near comes before the next portion."""

    def want_all(self, after: int) -> None:
        """Everything has to be read by what begins after that read."""
        self.wanted_after, self.is_whole = after, False


class Relay:
    """One relay, called `name`; `partition_of` a user is a number below `partitions`."""

    def __init__(self, name: str, partition_of: Callable[[str], int]) -> None:
        self._name = name
        self._partition_of = partition_of
        self._known: dict[int, Place | None] = {}
        self._pending: dict[int, Batch] = {}
        self._lines: list[_Line] = []
        self._reading: _Line | None = None
        self._ask: Ask | None = None
        self._began_at = 0.0
        self._reads = 0
        self._number = 0

    @property
    def is_level(self) -> bool:
        """Whether everything was written that had been committed when this relay began."""
        return all(line.is_caught_up for line in self._lines)

    @property
    def read_at(self) -> float:
        """When a read began since which nothing is missing, in seconds since 1970; 0: never."""
        return min((line.read_at for line in self._lines), default=0.0)

    def found(self, places: Mapping[int, Place | None]) -> list[Batch]:
        """What is in the streams, by `look` or as the answer to what was to be written.

        Returns what is to be written again. Raises OtherRelay.
        """
        again = []
        for partition, place in places.items():
            known, batch = self._known.get(partition), self._pending.pop(partition, None)
            if batch is not None and batch.place.is_same(place):
                self._known[partition] = place
            elif partition in self._known and _are_same(known, place):
                if batch is not None:
                    self._pending[partition] = batch
                    again.append(batch)
            else:
                is_first = partition not in self._known
                self._known[partition] = place
                self._move(partition, place)
                if place and not (is_first or place.is_released) and place.relay > self._name:
                    raise OtherRelay
        self._lines = [line for line in self._lines if line.members]
        return again

    def next_read(self, now: float, *, full: bool) -> Ask:
        """What to read next; `full` asks for a read of the whole table, or its next portion."""
        urgent = (each for each in self._lines[1:] if not each.is_caught_up)
        line = next(urgent, self._lines[0])
        if line.is_caught_up:
            self._lines.append(self._lines.pop(0))  # where there are several: each in its turn
        is_all = (full or not line.is_caught_up) and not line.is_near_next
        line.is_near_next = is_all
        self._reads += 1
        line.last = self._reads
        self._reading, self._began_at = line, now
        portion = not is_all or line.beginnings.are_few
        self._ask = Ask(line.cursor, recent_only=not is_all, portion=portion)
        return self._ask

    def questions(self, chunk: HistoryChunk) -> list[Question]:
        """What has to be known before `chunk`."""
        if not any(self._line.members.values()):
            return []
        asked: dict[int, tuple[Cursor, list[str]]] = {}
        for partition, row in self._mine(chunk.rows):
            for cursor in self._line.members[partition]:
                asked.setdefault(id(cursor), (cursor, []))[1].append(row.id)
        return [Question(cursor, ids) for cursor, ids in asked.values()]

    def chunk(self, chunk: HistoryChunk, covered: Collection[str] = ()) -> list[Batch]:
        """What is to be written for a part of the read; `covered` entries are there already."""
        line, entries = self._line, dict[int, list[tuple[str, bytes]]]()
        for partition, row in self._mine(chunk.rows):
            if row.id not in covered:
                message = row.raw if isinstance(row, UnreadableEntry) else row.to_json()
                entries.setdefault(partition, []).append((row.user_id, message))
        line.cursor = chunk.cursor
        if chunk.last:
            self._end(line, chunk)
        return [self._batch(line, partition, some) for partition, some in entries.items()]

    def marks(self, *, is_released: bool = False) -> list[Batch]:
        """The places as they are now, for partitions in which nothing happens.

        `is_released` says that this relay ends.
        """
        return [
            self._batch(line, partition, [], is_released=is_released)
            for line in self._lines
            if line.cursor is not None
            for partition in line.members
        ]

    @property
    def _line(self) -> _Line:
        assert self._reading is not None
        return self._reading

    def _mine(self, rows: Sequence[HistoryRow]) -> Iterator[tuple[int, HistoryRow]]:
        members = self._line.members
        for row in rows:
            partition = self._partition_of(row.user_id)
            if partition in members:
                yield partition, row

    def _end(self, line: _Line, chunk: HistoryChunk) -> None:
        """A read is complete."""
        assert self._ask is not None
        if not line.members or chunk.behind:
            return
        if self._ask.recent_only and chunk.covered_from is not None:
            if chunk.goes_on:
                line.want_all(self._reads)
            if line.is_whole:
                line.read_at = self._began_at
            return
        if chunk.anew:
            line.begun = _Begun(self._reads, self._began_at, chunk.authoritative)
        line.beginnings.note(chunk)
        if not chunk.goes_on:
            begun, line.begun = line.begun, None
            if begun is not None and begun.number > line.wanted_after:
                self._has_read_all(line, begun, chunk)

    def _has_read_all(self, line: _Line, begun: _Begun, chunk: HistoryChunk) -> None:
        line.is_whole = line.is_caught_up = True
        line.read_at = max(line.read_at, begun.at)
        if not (begun.authoritative and chunk.authoritative):
            return
        line.members = dict.fromkeys(line.members, ())
        others = (each for each in self._lines if each is not line and each.cursor)
        other = next((each for each in others if each.last < begun.number), None)
        if other is not None:
            other.members |= dict.fromkeys(line.members, (chunk.cursor,))
            other.want_all(self._reads)
            other.is_caught_up = False
            self._lines.remove(line)

    def _batch(
        self,
        line: _Line,
        partition: int,
        entries: Sequence[tuple[str, bytes]],
        *,
        is_released: bool = False,
    ) -> Batch:
        assert line.cursor is not None
        self._number += 1
        place = Place(
            cursors=(line.cursor, *line.members[partition]),
            relay=self._name,
            number=self._number,
            read_at=self.read_at,
            is_released=is_released,
        )
        batch = self._pending[partition] = Batch(partition, entries, place)
        return batch

    def _move(self, partition: int, place: Place | None) -> None:
        """Read for this partition from `place`."""
        for line in self._lines:
            line.members.pop(partition, None)
        cursor, read_at, others = None, 0.0, tuple[Cursor, ...]()
        if place is not None:
            cursor, *rest = place.cursors
            read_at, others = place.read_at, tuple(rest)
        for line in self._lines:
            if line is not self._reading and not line.is_caught_up and line.cursor == cursor:
                break
        else:
            line = _Line(cursor, read_at)
            self._lines.append(line)
        line.members[partition] = others
        line.read_at = min(line.read_at, read_at)
        line.want_all(self._reads)
        line.is_caught_up = False


class Vigil:
    """Waits for its turn: until the places of another relay stand still, or it has ended."""

    def __init__(self) -> None:
        self._seen: Mapping[int, Place | None] = {}
        self._still_since: float | None = None

    def is_over(self, places: Mapping[int, Place | None], now: float) -> bool:
        """Whether to begin, when these are the places at `now`, in seconds of any clock."""
        held = {n: place for n, place in places.items() if place and not place.is_released}
        if not held:
            return True
        is_still = self._seen.keys() == held.keys() and all(
            place.is_same(self._seen[n]) for n, place in held.items()
        )
        if not is_still or self._still_since is None:
            self._seen, self._still_since = held, now
        return now - self._still_since >= TAKE_OVER


def _are_same(one: Place | None, other: Place | None) -> bool:
    return one is other if one is None else one.is_same(other)
