"""The gap-free merge of a lossy live stream with the history in the database.

Pure decisions: no I/O, no clock, no tasks. Something happens (a method is called), and the merge
answers with what to do (a list of actions, to be carried out in order). `tail.py` does the waiting.

How an entry is printed exactly once:

* A read returns what its cursor does not cover, and each chunk's cursor covers what the chunk
  printed: no row is returned twice.
* A live entry is printed at once when its id is not among those printed. The next read returns
  it as well; until then it is `_pending`, and its id decides. Ids of entries which no read can
  return again (`_settled`) are kept only against repeated and late broadcasts, and only the
  latest by occurred_at, `keep` at most. `_floor` is the latest occurred_at forgotten.
* So an unknown live entry above the floor cannot have been printed: it is. One at or below it, or
  one marked as replayed, is in doubt: the database is asked about just that id. (Should it have
  been committed before the first snapshot, it counts as from before the start.)

Nothing here compares a time with a clock: a wrong clock can make a look-up more, never an error.
"""

from collections.abc import Iterable, Sequence, Set
from enum import IntEnum

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, HistoryRow
from lykke_cli.application.messages import Arrival, Entry, EntryBatch

KEPT_IDS = 50_000
"""How many ids of settled entries are kept at most against repeated broadcasts."""
HELD_MESSAGES = 20_000
"""How many live messages wait while history is printed; beyond it history is read once more."""
HELD_BYTES = 256 << 20
"""How many bytes they may have together; one message more may wait."""
UNCONFIRMED_IDS = 50_000
"""How many live entries are printed before the next reconcile is brought forward."""
UNCONFIRMED_LIMIT = 20 * UNCONFIRMED_IDS
"""How many are when the database is away; beyond it live entries are left to history."""


class ReadKind(IntEnum):
    """What to read from history; a greater one includes a lesser."""

    RECENT = 1
    """What was committed since the cursor, within the look-back window."""
    FULL = 2
    """Everything that was committed since the cursor."""


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the merge stands: enough for another run to go on without a gap or a duplicate."""

    cursor: Cursor
    pending: dict[str, str]
    """Ids of live entries printed which a read from `cursor` may return, with occurred_at."""
    floor: str | None
    """A live entry at or before it may have been printed."""


class Print(msgspec.Struct, frozen=True):
    arrivals: Sequence[Arrival]


class Read(msgspec.Struct, frozen=True):
    """Read history from `cursor`; without one, begin. Answer with `chunk` or `read_failed`."""

    kind: ReadKind
    cursor: Cursor | None


class Verify(msgspec.Struct, frozen=True):
    """Ask history about `ids`. Answer with `verified` or `read_failed`."""

    ids: list[str]
    cursor: Cursor


class Save(msgspec.Struct, frozen=True):
    """What was printed so far may be recorded as done."""

    checkpoint: Checkpoint


Action = Print | Read | Verify | Save


class Merge:
    """Merges one subscription with its history; see the module's docstring.

    `resume` goes on where another run ended. Without `history` nothing is read: repeated messages
    are dropped as far as memory goes, and gaps stay. `keep` bounds the ids kept of settled entries,
    `hold` the live messages held back during a read, and `hold_bytes` their payloads together.
    """

    def __init__(
        self,
        resume: Checkpoint | None = None,
        *,
        history: bool = True,
        keep: int = KEPT_IDS,
        hold: int = HELD_MESSAGES,
        hold_bytes: int = HELD_BYTES,
    ) -> None:
        self._has_history = history
        self._keep = keep
        self._hold = hold
        self._hold_bytes = hold_bytes
        self._cursor = resume.cursor if resume else None
        self._floor = resume.floor if resume else None
        self._latest = self._floor  # the latest occurred_at ever settled
        self._pending: dict[str, str] = dict(resume.pending) if resume else {}
        self._awaiting: dict[str, str] = {}  # pending when the read under way was asked for
        self._settled: dict[str, str] = {}
        self._earlier: dict[str, str] = {}  # without a history: what came before those
        self._unconfirmed = 0  # live entries printed since a read was last asked for
        self._doubtful: dict[str, Arrival] = {}
        self._held: list[Arrival] = []
        self._held_bytes = 0
        self._holding = False
        self._overflowed = False
        self._under_way: Read | Verify | None = None
        self._wanted: ReadKind | None = None
        self._failing = False

    @property
    def remembered(self) -> int:
        """How many messages and ids are held in memory."""
        return (
            len(self._pending)
            + len(self._awaiting)
            + len(self._settled)
            + len(self._earlier)
            + len(self._doubtful)
            + len(self._held)
        )

    @property
    def caught_up(self) -> bool:
        """True when nothing is being read, waited for or in doubt."""
        busy = self._holding or self._failing or self._under_way or self._wanted or self._doubtful
        return not busy

    def checkpoint(self) -> Checkpoint | None:
        """Where the merge stands, once it has a cursor."""
        if self._cursor is None:
            return None
        # The ids of settled entries are not stored: the floor stands for all of them.
        return Checkpoint(self._cursor, self._pending | self._awaiting, self._latest)

    def subscribed(self) -> list[Action]:
        """The server confirmed the subscription: what came before it must come from history."""
        if not self._has_history:
            return []
        self._holding = not self._failing
        self._wanted = ReadKind.FULL
        return self._proceed()

    def live(self, arrivals: Sequence[Arrival]) -> list[Action]:
        """Messages arrived on the channel."""
        if self._holding:
            self._hold_back(arrivals)
            return []
        printed = self._admit(arrivals)
        if self._unconfirmed > UNCONFIRMED_IDS and self._wanted is None and not self._failing:
            self._wanted = ReadKind.RECENT
        return [*_print(printed), *self._proceed()]

    def chunk(self, chunk: HistoryChunk) -> list[Action]:
        """A read answered with some rows."""
        printed = [Arrival(row, "history") for row in self._unknown(chunk.rows)]
        self._cursor = chunk.cursor
        actions = _print(printed)
        if chunk.last:
            actions += _print(self._finish_read(chunk))
        checkpoint = self.checkpoint()
        if checkpoint is not None:
            actions.append(Save(checkpoint))
        return [*actions, *self._proceed()]

    def verified(self, uncovered: Set[str]) -> list[Action]:
        """History answered about entries in doubt: these are not covered, or not there."""
        asked = self._under_way.ids if isinstance(self._under_way, Verify) else []
        self._under_way = None
        printed = []
        for id in asked:
            arrival = self._doubtful.pop(id)
            if id in uncovered and isinstance(arrival.message, Entry):
                self._pending[id] = arrival.message.occurred_at
                printed.append(arrival)
        return [*_print(printed), *self._proceed()]

    def read_failed(self) -> list[Action]:
        """The read or look-up under way failed: live goes on, `tick` tries again."""
        if isinstance(self._under_way, Read):
            self._wanted = max(self._wanted or self._under_way.kind, self._under_way.kind)
        self._under_way = None
        self._failing = True
        self._pending |= self._awaiting
        self._awaiting = {}
        return _print(self._release())

    def disconnected(self) -> list[Action]:
        """The subscription broke: until it is confirmed again, history is all there is."""
        return self.tick()

    def tick(self, kind: ReadKind = ReadKind.RECENT) -> list[Action]:
        """Time to reconcile, or to try again what failed."""
        if not self._has_history:
            return []
        under_way = self._under_way
        if not isinstance(under_way, Read) or under_way.kind < kind:
            self._wanted = max(self._wanted or kind, kind)
        return self._proceed()

    def _proceed(self) -> list[Action]:
        """Start the next read or look-up, one at a time."""
        if self._under_way is not None:
            return []
        if self._wanted is not None:
            kind = ReadKind.FULL if self._cursor is None else self._wanted
            self._wanted = None
            self._awaiting, self._pending, self._unconfirmed = self._pending, {}, 0
            self._under_way = Read(kind, self._cursor)
            return [self._under_way]
        if self._doubtful and self._cursor is not None and not self._failing:
            self._under_way = Verify(list(self._doubtful), self._cursor)
            return [self._under_way]
        return []

    def _finish_read(self, chunk: HistoryChunk) -> Sequence[Arrival]:
        """The read is complete: what it could have returned and did not, no read will."""
        since = chunk.covered_from
        if not chunk.authoritative:
            self._pending |= self._awaiting
        else:
            if since is not None:
                for id in [id for id, at in self._awaiting.items() if at < since]:
                    self._pending[id] = self._awaiting.pop(id)
            self._settle(self._awaiting)
        self._awaiting = {}
        self._under_way = None
        self._failing = False
        if self._overflowed:
            self._overflowed = False
            self._wanted = ReadKind.FULL
        return [] if self._holding and self._wanted is ReadKind.FULL else self._release()

    def _release(self) -> Sequence[Arrival]:
        """Stop holding live messages back."""
        self._holding = False
        held, self._held, self._held_bytes = self._held, [], 0
        return self._admit(held)

    def _hold_back(self, arrivals: Sequence[Arrival]) -> None:
        held = list(arrivals)
        self._held += held
        self._held_bytes += _size(held)
        if len(self._held) > self._hold or self._held_bytes > self._hold_bytes:
            # The entries are in the database, which will be asked again; of the other messages
            # the newest are kept.
            others = [a for a in self._held if not isinstance(a.message, Entry)]
            self._held = others[-self._hold :]
            while _size(self._held) > self._hold_bytes and len(self._held) > 1:
                self._held = self._held[len(self._held) // 2 :]
            self._held_bytes = _size(self._held)
            self._overflowed = True

    def _admit(self, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Those of the live messages to print now."""
        if isinstance(arrivals, EntryBatch):
            fresh = arrivals.times
            if len(fresh) == len(arrivals) > 0 and self._can_print_all(fresh):
                self._printed_live(fresh)
                return arrivals
        return [arrival for arrival in arrivals if self._admits(arrival)]

    def _can_print_all(self, fresh: dict[str, str]) -> bool:
        """The common case, decided at once: none of them is known or in doubt."""
        if self._floor is not None and self._cursor is not None:
            if min(fresh.values()) <= self._floor:
                return False
        return (
            fresh.keys().isdisjoint(self._pending.keys())
            and fresh.keys().isdisjoint(self._settled.keys())
            and fresh.keys().isdisjoint(self._earlier.keys())
            and fresh.keys().isdisjoint(self._awaiting.keys())
            and fresh.keys().isdisjoint(self._doubtful.keys())
            and self._unconfirmed + len(fresh) <= UNCONFIRMED_LIMIT
        )

    def _admits(self, arrival: Arrival) -> bool:
        entry = arrival.message
        if not isinstance(entry, Entry):
            return True
        if self._is_known(entry.id):
            return False
        if self._has_history:
            if self._may_be_printed_already(entry, replayed=arrival.replayed):
                self._doubt(arrival, entry.id)
                return False
            if self._unconfirmed >= UNCONFIRMED_LIMIT:
                self._wanted = ReadKind.FULL  # prints it when the database is back
                return False
        self._printed_live({entry.id: entry.occurred_at})
        return True

    def _printed_live(self, entries: dict[str, str]) -> None:
        if self._has_history:
            self._pending |= entries
            self._unconfirmed += len(entries)
            return
        # Nothing is in doubt without a history: the ids that came last are kept.
        self._settled |= entries
        if len(self._settled) >= self._keep // 2:
            self._earlier, self._settled = self._settled, {}

    def _may_be_printed_already(self, entry: Entry, *, replayed: bool) -> bool:
        if self._cursor is None:
            return False
        return replayed or (self._floor is not None and entry.occurred_at <= self._floor)

    def _doubt(self, arrival: Arrival, id: str) -> None:
        if len(self._doubtful) < self._hold:
            self._doubtful[id] = arrival
        else:
            self._wanted = ReadKind.FULL  # finds it, if it was committed and not printed

    def _is_known(self, id: str) -> bool:
        return (
            id in self._pending
            or id in self._settled
            or id in self._earlier
            or id in self._awaiting
            or id in self._doubtful
        )

    def _unknown(self, rows: Sequence[HistoryRow]) -> list[HistoryRow]:
        """Those rows of a read that were not printed before; all of them are settled now."""
        unknown = []
        for row in rows:
            known = row.id in self._settled
            for printed in (self._awaiting, self._pending):
                known |= printed.pop(row.id, None) is not None
            self._doubtful.pop(row.id, None)
            if not known:
                unknown.append(row)
        self._settle({row.id: row.occurred_at for row in rows})
        return unknown

    def _settle(self, entries: dict[str, str]) -> None:
        """No read can return these again: their ids are kept while there is room."""
        if not entries:
            return
        latest = max(entries.values())
        self._latest = latest if self._latest is None else max(self._latest, latest)
        if len(self._settled) + len(entries) <= self._keep:
            self._settled |= entries
            return
        times = sorted([*self._settled.values(), *entries.values()])
        floor = times[-(self._keep // 2) - 1]  # not one by one: sorting takes its time
        self._floor = floor if self._floor is None else max(self._floor, floor)
        self._settled = {
            id: at for ids in (self._settled, entries) for id, at in ids.items() if at > floor
        }


def _size(arrivals: Iterable[Arrival]) -> int:
    return sum(len(arrival.raw) for arrival in arrivals if arrival.raw is not None)


def _print(arrivals: Sequence[Arrival]) -> list[Action]:
    return [Print(arrivals)] if arrivals else []
