"""Many readers, one promise: decides for all of them together what each is sent.

Pure decisions, as in `merge.py`: something happens (a method is called), and the hub answers with
what to do. A driver does the waiting.

The words:

* member: a user who has a reader. Each has a journal (`journal.py`). So have all users together,
  where a reader wants every user's: that is one more member, of which all others are a part.
* trunk: one `Merge` for all members together. What it prints goes into the journals.
* pass: a read of the trunk's; it reads all who were members when it was asked for.
* mark: the end of a pass, a position in the journals with the trunk's cursor.
* checkpoint: as in `merge.py`. With one, a reader goes on, on this hub or on another.
* beyond a mark: sent to a reader, and not covered by the mark's cursor.

Why each reader is sent every entry once:

1. To the trunk it is as if everybody had always been a member. So the merge's own promise holds:
   of what its cursor did not cover when a user became a member, each entry comes into the journal
   once. Only a pass that had been asked for by then leaves the user out, and its cursor says that
   it did not: the reader waits until no such pass is under way.
2. Then it reads from its own checkpoint, as any merge does on starting (READING), to a snapshot
   that is later than that of the newest mark and of every pass that left its user out. So what
   they cover it has been sent, or it is from before it began.
3. Now it is brought to the mark. Of what the mark's cursor does not cover (MEASURING), and of what
   the trunk printed that it may not cover, the reader's own cursor tells what it was sent
   (CHECKING). These few ids are skipped in the journal, and everything else after the mark is new
   to it. So nothing falls between its own read and the passes, or into both. What a standby lacks
   that the trunk printed, it is sent from the journal; where that has it no more, it waits for a
   later mark. It does so, too, where there is too much beyond this one.
4. From then on it is sent what the journal has after its position. Its checkpoint is the newest
   mark, and beside it what it was sent beyond: what the trunk had printed at the mark and the mark
   does not cover, what came after it, and what is still to be skipped.
5. One that is too slow falls off the journal, and begins again with its checkpoint: nobody waits
   for it. One that comes back soon has a mark's cursor and ids: it needs no database, if all that
   its user's journal has since is known to be new.
6. A late or repeated broadcast of what a reader was sent from elsewhere is unknown to the trunk.
   It did not occur later than the latest of these, which is the member's floor: such a message
   goes to the trunk marked as replayed, and is looked up. What the trunk holds back during a read
   had no such mark yet: who would come to a position then waits for the read to end.
7. A checkpoint names `IDS` at most: `unsettled.py` says how. What a reader was sent from elsewhere
   is bounded when it comes to its position. Once it has nothing of its own it shares the objects of
   its user's others.
8. A pass over everything may be one portion of many (`merge.py`). Together they prove what was
   committed before the first of them. A user who became a member since was not looked for by all:
   his reader has read that itself, as in 2. What waits for everything waits for their end.

The database may be a standby that lags, or several: what one answer showed, the next ones show too.
One that has not come as far as the cursor with which a reader came cannot tell what is beyond: the
reader waits until it can. Where commits may have been lost (`witnesses.py`), the trunk's cursor has
witnesses among the rows that only a reader read, too (`marks.py`). Where some were, entries that
readers were sent may come again: before them comes a line that says so, from the pass to all, from
a reader's own read to that reader.
"""

from collections.abc import Iterable, Sequence, Set
from datetime import datetime
from uuid import UUID

from lykke_cli.application import merge
from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.gateways.history_protocol import HistoryChunk
from lykke_cli.application.hub_actions import Action, Passed, Request, Subscribe, Unsubscribe, Wake
from lykke_cli.application.journal import JOURNAL_BYTES, JOURNAL_LINES, Mark, Portion
from lykke_cli.application.left_to_history import LeftToHistory
from lykke_cli.application.marks import Marks, Vouched
from lykke_cli.application.member import ALL_BYTES, EVERYBODYS, Member, Members
from lykke_cli.application.merge import Checkpoint, Merge, Print, Read, ReadKind, Save, Verify
from lykke_cli.application.messages import Arrival, Entry, UnreadableEntry
from lykke_cli.application.reader import Reader, Stage
from lykke_cli.application.unsettled import IDS, UNCOVERED, Unsettled


class Hub:
    """Serves the readers of one channel type; see the module's docstring.

    `lines` and `line_bytes` bound each journal, that of all users `everybodys` times as much,
    `all_bytes` all together, `ids` each checkpoint; `keep` and `hold` are the merge's. `vouched` is
    the history's.
    """

    def __init__(
        self,
        channel_type: str = AUDIT_LOG,
        *,
        lines: int = JOURNAL_LINES,
        line_bytes: int = JOURNAL_BYTES,
        everybodys: int = EVERYBODYS,
        all_bytes: int = ALL_BYTES,
        ids: int = IDS,
        uncovered: int = UNCOVERED,
        keep: int = merge.KEPT_IDS,
        hold: int = merge.HELD_MESSAGES,
        vouched: Vouched,
    ) -> None:
        self._most_ids = ids
        self._trunk = Merge(keep=keep, hold=hold)
        self._members = Members(channel_type, lines, line_bytes, everybodys, all_bytes)
        self._waiting: dict[Reader, None] = {}  # in the order in which they came
        self._requests: dict[Reader | None, Request] = {}
        self._marks = Marks(vouched)
        self._passes = 0
        self._unsettled = Unsettled(ids - ids // 4, uncovered, lambda: self._trunk.is_failing)
        self._wanted: ReadKind | None = None
        self._left = LeftToHistory()
        self._told: Request | None = None  # by which pass readers were told of a loss
        self._whole_from: int | None = 1  # by this pass what an outage kept back is there
        self.outages = 0
        self.entries = 0  # printed
        self.recovered = 0  # of those, how many had not come live
        self._missed = 0  # of those, in the pass under way, how many should have

    @property
    def users(self) -> int:
        """How many have a reader."""
        return self._members.readers

    @property
    def is_whole(self) -> bool:
        """Nothing is known to be missing: what came before the connection has been read."""
        return self._whole_from is not None and self._marks.number >= self._whole_from

    @property
    def goes_on(self) -> bool:
        """There is more to read than what is near: `read_on` asks for the next portion."""
        return self._trunk.goes_on and not self._trunk.is_failing

    # Readers

    def join(
        self,
        user_id: UUID | None,
        resume: Checkpoint | None = None,
        *,
        since: datetime | None = None,
        last: int | None = None,
    ) -> tuple[Reader, list[Action]]:
        """A reader of one user's entries, or with None of every user's.

        It goes on from `resume`, or begins as `HistoryProtocol.begin` says.
        """
        reader = Reader(user_id, resume, since, last, self._most_ids)
        actions = list[Action]()
        member = self._members.get(reader.user)
        if member is None:
            member = self._new_member(reader)
            actions.append(Subscribe(user_id))
        self._members.join(member, reader)
        self._waiting[reader] = None
        return reader, [*actions, *self._try_to_attach(reader)]

    def leave(self, reader: Reader) -> list[Action]:
        """The reader has gone. What it asked for need not be answered."""
        self._waiting.pop(reader, None)
        self._requests.pop(reader, None)
        return [Unsubscribe(member.user_id) for member in self._members.leave(reader)]

    def take(self, reader: Reader) -> tuple[Portion, Sequence[Action]]:
        """What the reader is to be sent next, if anything."""
        if reader.has_parcels:
            parcel = reader.take_parcel()
            attached = self._try_to_attach(reader) if reader in self._waiting else []
            return parcel, [Wake([reader]), *attached]
        if reader.stage is not Stage.FOLLOWING:
            return reader.take_nothing(), ()
        member = self._members[reader.user]
        if reader.falls_off(member.journal):
            self._waiting[reader] = None
            return reader.take_nothing(), self._try_to_attach(reader)
        if not self._unsettled.may_be_taken(member.user):
            return reader.take_nothing(), ()  # the pass under way has read it, or will
        end, newest = member.end, self._marks.newest
        if end is None or end.mark is not newest:
            assert newest is not None
            ids = self._unsettled.of(member.user)
            end = member.set_end(newest, ids, is_whole=self.is_whole, most_ids=self._most_ids)
        return reader.take_new(end, self._marks), ()

    # The channels

    def confirmed(self, user_ids: Iterable[UUID | None]) -> list[Action]:
        """The server has confirmed that these users' channels are followed.

        While there is no connection they count as such, if all are followed once there is one.
        """
        for user_id in user_ids:
            if member := self._members.get(None if user_id is None else str(user_id)):
                member.followed_in = self._passes
        if self._passes:
            return self._proceed()
        return [*self._carry_out(self._trunk.subscribed()), *self._proceed()]

    def disconnected(self) -> list[Action]:
        """The connection broke."""
        self._whole_from = None
        self.outages += 1
        for member in self._members.all():
            member.end = None  # they are not whole any more
        return self._carry_out(self._trunk.disconnected()) if self._passes else []

    def reconnected(self) -> list[Action]:
        """The server has confirmed all channels again."""
        self._whole_from = self._passes + 1
        return self._carry_out(self._trunk.subscribed()) if self._passes else []

    def live(self, arrivals: Sequence[Arrival]) -> list[Action]:
        """Take messages that arrived on the channels."""
        members, left, more = self._members, self._left, self._unsettled.more
        admitted = [own for one in arrivals if (own := members.admitted(one, left, more))]
        if left.is_waiting:
            self._want(ReadKind.RECENT)
        return [*self._carry_out(self._trunk.live(admitted)), *self._proceed(attach=False)]

    # The database

    def tick(self, kind: ReadKind = ReadKind.RECENT) -> list[Action]:
        """Time for a pass, or to try again what failed."""
        if not self._passes or not self._members:
            return []
        for reader in self._waiting:
            reader.has_failed = False
        gone = [Unsubscribe(member.user_id) for member in self._members.tick()]
        return [*gone, *self._carry_out(self._trunk.tick(kind)), *self._proceed()]

    def read_on(self) -> list[Action]:
        """Time for a pass over everything, or for its next portion; a tick is what is near."""
        if not self._passes or not self._members or self._trunk.is_failing:
            return []
        return self._carry_out(self._trunk.tick(ReadKind.FULL))

    def chunk(self, request: Request, chunk: HistoryChunk) -> list[Action]:
        """Take some of a read's answer."""
        if not self.awaits(request):
            return []
        if chunk.last:
            del self._requests[request.reader]
        if request.reader is not None:
            return self._chunk_for(request.reader, chunk)
        told = self._trunk.chunk(chunk)
        actions = self._tell(request, chunk)
        actions += self._carry_out(one for one in told if isinstance(one, Print))
        if chunk.last and isinstance(request.what, Read):
            actions += self._end_pass(chunk, request.what)
        actions += self._carry_out(one for one in told if not isinstance(one, Print))
        return [*actions, *self._proceed()] if chunk.last else actions

    def verified(self, request: Request, uncovered: Set[str]) -> list[Action]:
        """Take a look-up's answer: the ids that are not covered, or not in the database."""
        if not self.awaits(request):
            return []
        del self._requests[request.reader]
        if request.reader is not None:
            return self._attach(request.reader, uncovered)
        return [*self._carry_out(self._trunk.verified(uncovered)), *self._proceed()]

    def failed(self, request: Request) -> list[Action]:
        """It could not be answered. `tick` tries again."""
        if not self.awaits(request):
            return []
        del self._requests[request.reader]
        if request.reader is not None:
            self._wait(request.reader, failed=True)
            return []
        self._left.failed()
        return [*self._carry_out(self._trunk.read_failed()), *self._proceed()]

    def broken_off(self, request: Request) -> list[Action]:
        """A read for a reader was left: once it has taken what there is, the rest is asked for."""
        if request.reader is None or not self.awaits(request):
            return []
        del self._requests[request.reader]
        self._wait(request.reader)
        return self._try_to_attach(request.reader)

    def awaits(self, request: Request) -> bool:
        """False once it need not be answered."""
        return self._requests.get(request.reader) is request

    def _new_member(self, reader: Reader) -> Member:
        # What is printed from now on comes into the journal. Before, it may have had another, or
        # all users together had one, or some of them.
        whole_from = self._passes if self._is_passing else self._passes + 1
        begins = self._members.position if self._unsettled.of(reader.user) else 0
        included = not self._is_passing
        member = self._members.new(reader.user_id, begins, whole_from, is_included=included)
        member.room = self._unsettled.room(reader.user)
        return member

    @property
    def _is_passing(self) -> bool:
        request = self._requests.get(None)
        return request is not None and isinstance(request.what, Read)

    def _carry_out(self, told: Iterable[merge.Action]) -> list[Action]:
        """Do what the trunk says."""
        actions = list[Action]()
        for one in told:
            if isinstance(one, Print):
                actions += self._append(one.arrivals)
            elif not isinstance(one, Save):
                if isinstance(one, Read):
                    self._passes, self._missed = self._passes + 1, 0
                    self._left.asked()
                one = self._marks.witnessed(one)
                self._requests[None] = request = Request(self._members.asked_about(), one)
                actions.append(request)
        return actions

    def _append(self, arrivals: Iterable[Arrival]) -> list[Action]:
        """Put into the journals what the trunk prints."""
        told: dict[Member, None] = {}
        for arrival in arrivals:
            members, message = self._members.append(arrival), arrival.message
            told |= dict.fromkeys(members)
            if members and isinstance(message, Entry | UnreadableEntry):
                self.entries += 1
                if arrival.source == "recovered":
                    self.recovered += 1
                    self._missed += any(one.should_have_heard(self._passes) for one in members)
                self._unsettled.add(message.user_id, message.id, message.occurred_at)
        if any(self._unsettled.is_half_full(member.user) for member in told):
            self._want(ReadKind.RECENT)
        return self._wake(told)

    def _tell(self, request: Request, chunk: HistoryChunk) -> list[Action]:
        """A pass found that commits were lost: say so before what comes again for it."""
        if chunk.exact or chunk.notice is None or self._told is request:
            return []
        self._told = request
        self._members.tell(chunk.notice)
        return self._wake(self._members.all())

    def _wake(self, members: Iterable[Member]) -> list[Action]:
        following = (
            [reader for reader in member.readers if reader.stage is Stage.FOLLOWING]
            for member in members
            if self._unsettled.may_be_taken(member.user)  # else the next mark lets them
        )
        return [Wake(readers) for readers in following if readers]

    def _end_pass(self, chunk: HistoryChunk, what: Read) -> list[Action]:
        """Set a mark, and let those take who waited for it."""
        was_whole, members = self.is_whole, self._members.all()
        had_too_much = [one for one in members if self._unsettled.room(one.user) < 0]
        self._set_mark(chunk, what.kind)
        for member in members:
            member.settled(self._unsettled.room(member.user))
        passed = [Passed(self._missed)] if what.is_near else []
        return [*passed, *self._wake(members if self.is_whole and not was_whole else had_too_much)]

    def _set_mark(self, chunk: HistoryChunk, kind: ReadKind) -> None:
        saved = self._trunk.checkpoint()
        assert saved is not None
        pending = self._unsettled.settle(saved.pending.keys())
        is_bounded = chunk.covered_from is not None and not self._trunk.will_read_all
        is_full = any(self._unsettled.room(one.user) <= 0 for one in self._members.all())
        if self._left.is_missing_from(chunk) or (is_bounded and is_full):
            self._want(ReadKind.FULL)
        self._marks.set(self._passes, self._members.position, kind, chunk, pending, saved.floor)

    def _want(self, kind: ReadKind) -> None:
        self._wanted = max(self._wanted or kind, kind)

    def _proceed(self, *, attach: bool = True) -> list[Action]:
        """Start what was waited with."""
        actions = list[Action]()
        if self._wanted is not None and None not in self._requests and not self._trunk.is_failing:
            kind, self._wanted = self._wanted, None
            told = self._trunk.read_anew() if kind is ReadKind.FULL else self._trunk.tick()
            actions += self._carry_out(told)
        if attach:
            if not self._is_passing:
                for member in self._members.all():
                    member.is_included = True
            for reader in list(self._waiting):
                actions += self._try_to_attach(reader)
        return actions

    # Attaching

    def _try_to_attach(self, reader: Reader) -> list[Action]:
        member = self._members[reader.user]
        may_ask = member.followed_in is not None and member.is_included and not reader.has_failed
        if reader.has_parcels:  # it takes them first: they do not become more
            return []
        newest = self._marks.newest
        if not may_ask or newest is None or not reader.may_use(newest):
            return []
        del self._waiting[reader]
        for mark in () if self._trunk.is_holding else self._marks:
            is_there = mark.number >= member.whole_from and reader.stands_at(mark, member.journal)
            if is_there and self._take_position(reader, mark):
                reader.begins("memory")
                return [Wake([reader])]
        return self._ask(reader, reader.begin_reading(newest))

    def _ask(self, reader: Reader, what: Read | Verify) -> list[Action]:
        users = None if reader.user_id is None else [reader.user_id]
        self._requests[reader] = request = Request(users, what, reader)
        return [request]

    def _wait(self, reader: Reader, *, failed: bool = False) -> None:
        reader.wait(failed=failed)
        self._waiting[reader] = None

    def _chunk_for(self, reader: Reader, chunk: HistoryChunk) -> list[Action]:
        if reader.stage is Stage.READING:
            reader.read_chunk(chunk)
            if chunk.behind:
                return [Wake([reader]), *self._wait_for_later_mark(reader)]
            next_step = self._ask(reader, reader.begin_measuring()) if chunk.last else []
            return [Wake([reader]), *next_step]
        reader.measured(chunk, self._unsettled.of(reader.user).keys())
        if not (chunk.last or reader.has_too_much):
            return []
        self._requests.pop(reader, None)
        if reader.has_too_much or self._trunk.is_holding:
            return self._wait_for_later_mark(reader)  # also for what is held, which nobody has seen
        member = self._members[reader.user]
        member.raise_floor(reader.latest)
        check = reader.begin_checking(member.journal, self._unsettled.of(reader.user))
        return self._attach(reader, set()) if check is None else self._ask(reader, check)

    def _attach(self, reader: Reader, uncovered: Set[str]) -> list[Action]:
        assert reader.mark is not None
        mark = self._marks.witnessed_by(reader.mark, reader.has_read_to)
        if self._take_position(reader, mark, uncovered):
            return [Wake([reader])]
        return self._wait_for_later_mark(reader)

    def _take_position(self, reader: Reader, mark: Mark, uncovered: Set[str] = frozenset()) -> bool:
        """True when the journal still has all that is needed of it."""
        member = self._members[reader.user]
        skip = reader.sent_beyond(uncovered)
        unsettled = self._unsettled.of(reader.user).keys()
        unsent = reader.unsent(mark, skip) | (unsettled - skip.keys())
        journal = member.journal
        is_there = journal.has_all_after(mark.position) and len(journal.of(unsent)) == len(unsent)
        if not is_there or not reader.may_attach(mark, skip.keys(), unsent, journal):
            return False
        member.raise_floor(reader.latest)
        reader.attach(mark, skip, journal, self._passes + 1)
        return True

    def _wait_for_later_mark(self, reader: Reader) -> list[Action]:
        """Too much came since the newest one."""
        if (kind := reader.needs_later_mark()) is not None:
            self._want(kind)
        self._wait(reader)
        return self._proceed(attach=False)
