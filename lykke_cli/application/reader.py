"""One reader of a hub: how it comes to a position in its user's journal, and what it takes there.

`hub.py` explains the words, and why nothing is taken twice or passed over.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Literal
from uuid import UUID

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, HistoryRow
from lykke_cli.application.journal import Journal, Line, Mark, Portion, SharedEnd, notice_line
from lykke_cli.application.marks import Marks
from lykke_cli.application.merge import Checkpoint, Read, ReadKind, Verify
from lykke_cli.application.messages import to_line
from lykke_cli.application.printed_ids import PrintedIds

KEPT_IDS = 1_000
"""How many ids a reader keeps while it catches up, against what the journal repeats."""


class Stage(Enum):
    """Where a reader stands on its way to the journal."""

    WAITING = auto()
    """For a mark, for its user's channel, or for another try."""
    READING = auto()
    """What it has not been sent, from its own cursor."""
    MEASURING = auto()
    """What of its user's the mark does not cover."""
    CHECKING = auto()
    """Which of that it has been sent."""
    FOLLOWING = auto()
    """It has a position."""


class Begun(msgspec.Struct, frozen=True):
    """How a reader began."""

    source: Literal["memory", "database", "now"]
    """It came back without the database; the database was read; it had nothing to go on from."""
    exact: bool
    """False where the database has outlived its cursor, and it was read again by time."""
    recovered: bool
    """It went on from its cursor: everything since then comes."""


class Reader:
    """What a hub knows of one reader; of use to others are `user_id` and `checkpoint` alone."""

    def __init__(
        self,
        user_id: UUID | None,
        resume: Checkpoint | None,
        since: datetime | None,
        last: int | None,
        most_ids: int,
    ) -> None:
        self._most_ids = most_ids
        self._most_beyond = most_ids // 4
        self.user_id = user_id
        self.user = None if user_id is None else str(user_id)
        self.since = since
        self.last = last
        self.stage = Stage.WAITING
        self.has_failed = False
        """It waits for the next tick."""
        self.after = -1
        """It waits for the mark of a later pass than this one."""
        self.attempts = 0
        """How many marks did not do."""
        self.mark: Mark | None = None
        self.begun: Begun | None = None
        """Once that is known."""
        self._is_resumed = resume is not None
        self._sent: Checkpoint | None = resume
        self._outbox: tuple[Portion, ...] = ()  # few at a time, and most readers have none
        self._go_on_from(resume)

    def _go_on_from(self, checkpoint: Checkpoint | None) -> None:
        self._cursor = checkpoint.cursor if checkpoint else None
        pending = checkpoint.pending if checkpoint else None
        floor = checkpoint.floor if checkpoint else None
        self._printed = PrintedIds(pending, floor, keep=KEPT_IDS)
        self._beyond: dict[str, str] = {}
        self._needed: Set[str] = frozenset()  # what a journal has, or had, that others may lack
        self._has_too_much = False
        self._was_told = False  # by the read under way, of what may come again
        self.has_read_to: Cursor | None = None
        """How far by itself, in the history that the mark is of, where that bears witness for it;
        None, too, where that is doubtful: commits may have been lost since."""
        self._own: _Own | None = None
        self._position = 0

    @property
    def checkpoint(self) -> Checkpoint | None:
        """From where another hub would go on, once what was taken has been sent.

        None before anything is known of where the reader began, and where it would name too much.
        """
        sent = self._sent
        return None if sent is None or len(sent.pending) > self._most_ids else sent

    @property
    def latest(self) -> str | None:
        """No entry that it was sent while it caught up, or before, occurred later."""
        return self._printed.latest

    @property
    def has_parcels(self) -> bool:
        return bool(self._outbox)

    @property
    def untaken(self) -> int:
        """How many lines were read for it that it has not taken."""
        return sum(len(parcel.lines) for parcel in self._outbox)

    def begins(self, source: Literal["memory", "database"], *, exact: bool = True) -> None:
        """It has been found out how; the first time counts."""
        if self.begun is None:
            is_new = not (self._is_resumed or self.since or self.last is not None)
            self.begun = Begun("now" if is_new else source, exact, self._is_resumed)

    # Catching up

    def begin_reading(self, mark: Mark) -> Read:
        """The first step, with the newest mark."""
        self.stage, self.mark, self._was_told = Stage.READING, mark, False
        self._printed.read_begins()
        return Read(ReadKind.FULL, self._cursor)

    def read_chunk(self, chunk: HistoryChunk) -> None:
        """Some of what it has not been sent."""
        unknown = self._printed.read_returned(chunk.rows)
        self._cursor = chunk.cursor
        if chunk.last:
            self._printed.read_ended(chunk)
        checkpoint = Checkpoint(chunk.cursor, self._printed.unsettled, self._printed.latest)
        self.begins("database", exact=chunk.exact)
        lines = [_line_of(row) for row in unknown]
        if not (chunk.exact or chunk.notice is None or self._was_told):
            self._was_told = True
            lines.insert(0, notice_line(0, chunk.notice))
        self._deliver(lines, checkpoint)

    def begin_measuring(self) -> Read:
        assert self.mark is not None
        self.stage, self._has_too_much, self.has_read_to = Stage.MEASURING, False, self._cursor
        return Read(ReadKind.FULL, self.mark.cursor)

    def measured(self, chunk: HistoryChunk, unsettled: Set[str]) -> None:
        """Some of what the mark does not cover; what is `unsettled` is bounded by itself."""
        if not chunk.exact:
            self.has_read_to = None
        if self._has_too_much:
            return
        self._beyond |= {row.id: row.occurred_at for row in chunk.rows}
        if len(self._beyond.keys() - unsettled) > self._most_beyond:
            self._has_too_much, self._beyond = True, {}

    @property
    def has_too_much(self) -> bool:
        """It may have been sent more beyond the mark than a checkpoint should name."""
        return self._has_too_much

    def begin_checking(self, journal: Journal, unsettled: Mapping[str, str]) -> Verify | None:
        """The last step, where there is something to ask.

        What is `unsettled` may have been printed into a journal that its user had before.
        """
        assert self.mark is not None and self._cursor is not None
        self.stage = Stage.CHECKING
        lines = journal.after(self.mark.position)
        self._needed = self.mark.pending_of(self.user).keys() | unsettled.keys()
        self._beyond |= self.mark.pending_of(self.user) | {**unsettled}
        self._beyond |= _entries(lines)
        return Verify(list(self._beyond), self._cursor) if self._beyond else None

    def sent_beyond(self, uncovered: Iterable[str]) -> dict[str, str]:
        """Of the entries it may have beyond the mark those it was sent.

        What it knows itself holds, whatever a standby says that has come less far.
        """
        sent = dict(self._beyond)
        for id in uncovered:
            if not self._printed.knows({id: ""}):
                sent.pop(id, None)
        return sent | self._printed.unsettled

    def unsent(self, mark: Mark, skip: Mapping[str, str]) -> Set[str]:
        """Of what the trunk printed and the mark does not cover, that it was not sent."""
        return (self._needed | mark.pending_of(self.user).keys()) - skip.keys()

    def wait(self, *, failed: bool = False) -> None:
        """Start over, from as far as it has come."""
        if self.stage is Stage.READING:
            self._printed.read_failed()
        self.stage, self.has_failed = Stage.WAITING, failed
        self._beyond, self._needed = {}, frozenset()

    def needs_later_mark(self) -> ReadKind | None:
        """The mark does not do: which pass is to be brought forward for another one.

        After two there is none that helps before its time.
        """
        assert self.mark is not None
        self.attempts, self.after = self.attempts + 1, self.mark.number
        return {1: ReadKind.RECENT, 2: ReadKind.FULL}.get(self.attempts)

    def may_use(self, mark: Mark) -> bool:
        """False for one that did not do, or helps no more than that: it is a portion's."""
        return mark.number > self.after and (mark.since > 0 or not self.attempts)

    def stands_at(self, mark: Mark, journal: Journal) -> bool:
        """True when it has been sent all up to the mark, and nothing since but what it knows.

        What it does not know may be a repetition of what it was sent from elsewhere. Who was sent
        nothing yet cannot tell it from what is older than its beginning.
        """
        if self._cursor is None or self._cursor != mark.cursor:
            return False
        sent, latest = self._printed.unsettled, self.latest
        return mark.pending_of(self.user).keys() <= sent.keys() and all(
            line.id is None or line.id in sent or (latest is not None and line.occurred_at > latest)
            for line in journal.after(mark.position)
        )

    # In the journal

    def may_attach(self, mark: Mark, skip: Set[str], unsent: Set[str], journal: Journal) -> bool:
        """False where its checkpoint would name too much, now or later.

        What its user's others were sent beyond a mark is bounded by itself.
        """
        others = mark.pending_of(self.user) | _entries(journal.after(mark.position))
        beyond = skip - others.keys()
        return len(beyond) <= self._most_beyond and len(skip | unsent) <= self._most_ids

    def attach(self, mark: Mark, skip: dict[str, str], journal: Journal, settles_from: int) -> None:
        """Take a position: `skip` is what it was sent beyond the mark, as that is for this reader.

        A pass from `settles_from` on sees all of that.
        """
        self.mark, self._position = mark, mark.position
        self._printed = PrintedIds(None, self.latest, keep=KEPT_IDS)
        pending = mark.pending_of(self.user)
        unsent = journal.of(pending.keys() - skip.keys())
        ids = skip | _entries(unsent)
        later = {id: at for id, at in skip.items() if id not in pending}
        self._own = _Own(ids={**ids}, skip=later, recent=[], settles_from=settles_from)
        self._deliver(unsent, mark.checkpoint(ids, self.latest))
        self.stage, self.attempts = Stage.FOLLOWING, 0

    def take_parcel(self) -> Portion:
        """Some of what was read for it alone: no more than its checkpoint covers."""
        parcel, self._outbox = self._outbox[0], self._outbox[1:]
        self._sent = parcel.checkpoint
        return Portion(parcel.lines, self.checkpoint)

    def take_nothing(self) -> Portion:
        """Where it stands, when there is nothing for it."""
        return Portion((), self.checkpoint)

    def falls_off(self, journal: Journal) -> bool:
        """True when the journal has not all that is new any more: it has to catch up again."""
        if journal.has_all_after(self._position):
            return False
        self._go_on_from(self._sent)
        self.stage = Stage.WAITING
        return True

    def take_new(self, shared: SharedEnd, marks: Marks) -> Portion:
        """All that is new in the journal."""
        if self._own is not None:
            lines = self._take_its_own(self._own, shared, marks)
            return Portion(lines, self.checkpoint, shared.is_whole)
        portion = shared.after(self._position)
        self._sent, self._position, self.mark = shared.checkpoint, shared.position, shared.mark
        return portion

    def _take_its_own(self, own: "_Own", shared: SharedEnd, marks: Marks) -> list[Line]:
        """The same, until it has nothing that the others of its user have not."""
        taken = []
        for line in shared.after(self._position).lines:
            if line.id is None or own.skip.pop(line.id, None) is None:
                taken.append(line)
            if line.id is not None:
                own.ids[line.id] = line.occurred_at
                own.recent.append(line)
        self._position = shared.position
        assert self.mark is not None
        if shared.mark.number > self.mark.number:
            self._reached(own, marks.witnessed_by(shared.mark, self.has_read_to))
        if self.mark is shared.mark:
            self.has_read_to = None  # all have what it read
        if own.skip or self.mark is not shared.mark:
            self._sent = self.mark.checkpoint(own.ids | own.skip, self.latest)
        else:
            self._own, self._sent = None, shared.checkpoint
        return taken

    def _reached(self, own: "_Own", mark: Mark) -> None:
        """It has been sent all that stands at or before a later mark."""
        self.mark = mark
        own.recent = [line for line in own.recent if line.position > mark.position]
        own.ids = mark.pending_of(self.user) | _entries(own.recent)
        if mark.authoritative and mark.since >= own.settles_from:
            since = mark.covered_from
            own.skip = {id: at for id, at in own.skip.items() if since and at < since}

    def _deliver(self, lines: Sequence[Line], checkpoint: Checkpoint) -> None:
        if lines or self._outbox:
            self._outbox = (*self._outbox, Portion(lines, checkpoint))
        else:
            self._sent = checkpoint


@dataclass(slots=True)
class _Own:
    """What a reader in the journal was sent, as long as it is not what its user's others were."""

    ids: dict[str, str]
    """Sent, and perhaps not covered by the mark."""
    recent: list[Line]
    """Those of them that were taken since the mark."""
    skip: dict[str, str]
    """Sent from elsewhere; the journal may have them later."""
    settles_from: int
    """The first pass that sees all of that."""


def _line_of(row: HistoryRow) -> Line:
    return Line(0, to_line(row), row.id, row.occurred_at)


def _entries(lines: Iterable[Line]) -> dict[str, str]:
    """Those of the lines that are entries: the id of each, and when it occurred."""
    return {line.id: line.occurred_at for line in lines if line.id is not None}
