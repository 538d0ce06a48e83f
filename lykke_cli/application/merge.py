"""The gap-free merge of a lossy live stream with the history in the database.

Pure decisions: no I/O, no clock, no tasks. Something happens (a method is called), and the merge
answers with what to do (a list of actions, to be carried out in order). `tail.py` does the waiting.

How an entry is printed exactly once:

* A read returns what its cursor does not cover, and each chunk's cursor covers what the chunk
  printed: no row is returned twice.
* A live entry is printed at once when its id is not among those printed. The next read returns
  it as well, and its id decides.
* So an unknown live entry above the floor cannot have been printed: it is. One at or below it, or
  one marked as replayed, is in doubt: the database is asked about just that id. (Should it have
  been committed before the first snapshot, it counts as from before the start.)
* After a connection broke, what is near is read first, and what comes live waits for that alone:
  so it comes after what was missed. Then everything is read, however long that takes. None of the
  above hangs on the order: any read returns just what the cursor does not cover.
* Where that would take long it is done in portions, each of which is a read, and what is near is
  read between them. What was printed before the first portion is settled by the last. Those that
  began before a connection broke prove nothing of that time: others follow them.

Nothing here compares a time with a clock: a wrong clock can make a look-up more, never an error.

The words, here and in `printed_ids.py` and `held_back.py`:

* pending: printed live, and a read from the cursor may return it.
* awaiting: pending when the read under way was asked for, which so may return it, or a later one.
* settled: printed, and no read can return it again. Its id is kept only against repeated and late
  broadcasts, and only the latest ids by occurred_at.
* floor: the latest occurred_at of a settled entry whose id was forgotten.
* doubtful: came live and may be one of those; held back until the database has answered.
* region: a part of what a cursor covers (`infrastructure/database/regions.py`). The merge does not
  look into cursors.
"""

from collections.abc import Mapping, Sequence, Set
from enum import IntEnum
from typing import Literal

import msgspec

from lykke_cli.application.batches import Batch, as_batch
from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk
from lykke_cli.application.held_back import HeldBack
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.application.printed_ids import PrintedIds, are_disjoint

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
    """What to read from history; a greater one includes a lesser, and comes after it."""

    RECENT = 1
    """What was committed since the cursor, within the look-back window."""
    FULL = 2
    """Everything that was committed since the cursor, or a portion of it."""


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the merge stands: enough for another run to go on without a gap or a duplicate."""

    cursor: Cursor | None
    """None where nothing was read yet, and still something was printed."""
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

    @property
    def is_near(self) -> bool:
        """What it finds should have come live; more may be older than the subscription."""
        return self.kind is ReadKind.RECENT or self.cursor is None


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

    `resume` goes on where another run ended. `keep` bounds the ids kept of settled entries, `hold`
    the live messages held back during a read, and `hold_bytes` their payloads together.
    """

    def __init__(
        self,
        resume: Checkpoint | None = None,
        *,
        keep: int = KEPT_IDS,
        hold: int = HELD_MESSAGES,
        hold_bytes: int = HELD_BYTES,
    ) -> None:
        self._hold = hold
        self._hold_bytes = hold_bytes
        self._cursor = resume.cursor if resume else None
        self._printed = (
            PrintedIds(resume.pending, resume.floor, keep=keep) if resume else PrintedIds(keep=keep)
        )
        self._doubtful: dict[str, Arrival] = {}
        self._has_read = False  # to the end: what is found later should have come live
        self._held: HeldBack | None = None  # None: live messages are printed as they come
        self._under_way: Read | Verify | None = None
        self._wanted = set[ReadKind]()
        self._left = set[ReadKind]()  # of those, what the read under way may make needless
        self._needs_anew = False  # everything, though it may be that portions are under way
        self._was_asked = False  # the read under way, since that was so
        self._is_awaited = False  # the read that held messages wait for was not asked for yet
        self.is_failing = False
        """The last read or look-up failed. Nothing is held back then."""
        self.goes_on = False
        """There is more to read than what is near: `tick(FULL)` asks for the next portion."""

    @property
    def remembered(self) -> int:
        """How many messages and ids are held in memory."""
        return len(self._printed) + len(self._doubtful) + len(self._held or ())

    @property
    def is_holding(self) -> bool:
        """True when live messages are held back, until the read under way is complete."""
        return self._held is not None

    @property
    def caught_up(self) -> bool:
        """True when nothing is being read, waited for or in doubt."""
        waiting = self.is_holding or self.is_failing or self.goes_on
        return not (waiting or self._under_way or self._wanted or self._doubtful)

    def checkpoint(self) -> Checkpoint | None:
        """Return where the merge stands; None before it has a cursor."""
        if self._cursor is None:
            return None
        # The ids of settled entries are not stored: the latest stands for all of them.
        return Checkpoint(self._cursor, self._printed.unsettled, self._printed.latest)

    def subscribed(self) -> list[Action]:
        """The server confirmed the subscription: what came before it must come from history."""
        if self._held is None and not self.is_failing:
            self._held = HeldBack(self._hold, self._hold_bytes)
        self._want_all()
        return self._proceed(retry=True)

    def live(self, arrivals: Sequence[Arrival]) -> list[Action]:
        """Take messages that arrived on the channel."""
        if self._held is not None:
            self._held.add(arrivals)
            return []
        printed = self._admit(as_batch(arrivals))
        if self._printed.unconfirmed > UNCONFIRMED_IDS and not self.is_failing:
            self._wanted.add(ReadKind.RECENT)
        return [*print_all(printed), *self._proceed()]

    def chunk(self, chunk: HistoryChunk) -> list[Action]:
        """Take a read's answer: some rows, and how far the read has come."""
        for row in chunk.rows:
            self._doubtful.pop(row.id, None)
        unknown = self._printed.read_returned(chunk.rows)
        self._cursor = chunk.cursor
        source: Literal["history", "recovered"] = "recovered" if self._has_read else "history"
        actions = print_all([Arrival(row, source) for row in unknown])
        if chunk.last:
            actions += print_all(self._finish_read(chunk))
        checkpoint = self.checkpoint()
        if checkpoint is not None:
            actions.append(Save(checkpoint))
        return [*actions, *self._proceed()]

    def verified(self, uncovered: Set[str]) -> list[Action]:
        """Take a look-up's answer: the ids that are not covered, or not in the database."""
        asked = self._under_way.ids if isinstance(self._under_way, Verify) else []
        self._under_way = None
        printed = []
        for id in asked:
            arrival = self._doubtful.pop(id)
            if id in uncovered and isinstance(arrival.message, Entry):
                self._printed.note({id: arrival.message.occurred_at})
                printed.append(arrival)
        return [*print_all(printed), *self._proceed()]

    def read_failed(self) -> list[Action]:
        """The read or look-up under way failed: live goes on, `tick` tries again."""
        if isinstance(self._under_way, Read):
            self._wanted |= {self._under_way.kind, *self._left}
        self._under_way = None
        self.is_failing = True
        self._printed.read_failed()
        return print_all(self._release())

    def disconnected(self) -> list[Action]:
        """The subscription broke: until it is confirmed again, history is all there is."""
        return self.tick()

    def tick(self, kind: ReadKind = ReadKind.RECENT) -> list[Action]:
        """Time to reconcile, or to try again what failed."""
        read = self._under_way
        if not isinstance(read, Read) or (read.kind is not kind and read.cursor is not None):
            self._wanted.add(kind)
        return self._proceed(retry=True)

    def read_anew(self) -> list[Action]:
        """Everything is to be read, from the first portion on, and what is near before it."""
        self._want_anew()
        return self._proceed()

    @property
    def will_read_all(self) -> bool:
        """Everything is being read, or is to be: whole, or portion by portion."""
        read = self._under_way
        is_under_way = isinstance(read, Read) and read.kind is ReadKind.FULL
        return self.goes_on or is_under_way or ReadKind.FULL in self._wanted | self._left

    def _want_all(self) -> None:
        """Everything is to be read, and what is near before messages are held back no more."""
        self._want_anew()
        self._is_awaited = True

    def _want_anew(self) -> None:
        """Everything is to be read, from the first portion on, and what is near before it."""
        self._wanted |= {ReadKind.RECENT, ReadKind.FULL}
        self._needs_anew, self._was_asked = True, False

    def _proceed(self, *, retry: bool = False) -> list[Action]:
        """Start the next read or look-up, one at a time; after a failure only to `retry`."""
        if self._under_way is not None or (self.is_failing and not retry):
            return []
        if self._wanted:
            kind = ReadKind.FULL if self._cursor is None else min(self._wanted)
            self._left, self._wanted = self._wanted - {kind}, set()
            self._is_awaited = False
            self._was_asked = True
            self._printed.read_begins()
            self._under_way = Read(kind, self._cursor)
            return [self._under_way]
        if self._doubtful and self._cursor is not None and not self.is_failing:
            self._under_way = Verify(list(self._doubtful), self._cursor)
            return [self._under_way]
        return []

    def _finish_read(self, chunk: HistoryChunk) -> Sequence[Arrival]:
        """The read is complete; the messages held back for it, where it was the one they await."""
        read, is_all = self._under_way, chunk.covered_from is None
        if is_all or (isinstance(read, Read) and read.kind is ReadKind.FULL):
            if chunk.anew:
                self._printed.portions_began()
                self._needs_anew &= not self._was_asked
            self._printed.read_ended(chunk, is_portion=not is_all)
            if not chunk.goes_on:
                self._printed.portions_ended(chunk)
            self.goes_on = chunk.goes_on or self._needs_anew
        else:
            self._printed.read_ended(chunk)
            self.goes_on |= chunk.goes_on
        self._has_read = True
        self._under_way = None
        self.is_failing = False
        if chunk.covered_from is not None:
            self._wanted |= self._left
        if self._held is not None and self._held.overflowed:
            self._held.overflowed = False
            self._want_all()
        return [] if self._is_awaited else self._release()

    def _release(self) -> Sequence[Arrival]:
        """Stop holding live messages back."""
        held, self._held = self._held, None
        return [] if held is None else self._admit(as_batch(held.arrivals))

    def _admit(self, arrivals: Batch) -> Sequence[Arrival]:
        """Return the live messages that are to be printed now, and note them as printed."""
        entries = arrivals.times()
        all_new = len(entries) == len(arrivals) > 0 and self._are_new(entries)
        if all_new and not arrivals.has_replayed():  # the common case, decided at once
            self._printed.note(entries)
            return arrivals
        return [arrival for arrival in arrivals if self._admits(arrival)]

    def _are_new(self, entries: Mapping[str, str]) -> bool:
        """True when none of the ids is known or in doubt, and there is room to note them."""
        return (
            not self._is_known(entries)
            and not self._printed.in_doubt(entries)
            and self._printed.unconfirmed + len(entries) <= UNCONFIRMED_LIMIT
        )

    def _admits(self, arrival: Arrival) -> bool:
        entry = arrival.message
        if not isinstance(entry, Entry):
            return True
        entries = {entry.id: entry.occurred_at}
        if self._is_known(entries):
            return False
        replayed = arrival.replayed and self._cursor is not None
        if replayed or self._printed.in_doubt(entries):
            self._doubt(arrival, entry.id)
            return False
        if self._printed.unconfirmed >= UNCONFIRMED_LIMIT:
            self._want_anew()  # prints it when the database is back
            return False
        self._printed.note(entries)
        return True

    def _is_known(self, entries: Mapping[str, str]) -> bool:
        return self._printed.knows(entries) or not are_disjoint(entries.keys(), self._doubtful)

    def _doubt(self, arrival: Arrival, id: str) -> None:
        if len(self._doubtful) < self._hold:
            self._doubtful[id] = arrival
        else:
            self._want_anew()  # finds it, if it was committed and not printed


def print_all(arrivals: Sequence[Arrival]) -> list[Action]:
    """Return one Print, or no action where there is nothing to print."""
    return [Print(arrivals)] if arrivals else []
