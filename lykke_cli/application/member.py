"""Users who have a reader on a hub, or had one lately; `hub.py` explains the words.

All users together are one more member, whose `user` is None.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from lykke_cli.application.gateways.pubsub_protocol import channel_name
from lykke_cli.application.journal import Journal, Line, Mark, SharedEnd, notice_line
from lykke_cli.application.left_to_history import LeftToHistory
from lykke_cli.application.messages import Arrival, Entry, OtherMessage, UnreadableEntry, to_line
from lykke_cli.application.reader import Reader

LINGER = 2
"""For how many ticks a user who has no reader any more is followed: one may come back soon."""
MOST_LINGERING = 1_000  # users
EVERYBODYS = 16
"""How many times as much the journal of all users together holds."""
ALL_BYTES = 64 << 20
"""Of all journals together; of more the oldest lines go."""


class Member:
    """What a hub knows of one user."""

    def __init__(
        self, user_id: UUID | None, journal: Journal, whole_from: int, *, is_included: bool
    ) -> None:
        self.user_id = user_id
        self.user = None if user_id is None else str(user_id)
        self.journal = journal
        self.readers: set[Reader] = set()
        self.followed_in: int | None = None
        """In which pass, or after which, the server confirmed the channel; None: not yet."""
        self.is_included = is_included
        """No pass is under way that leaves the user out."""
        self.whole_from = whole_from
        """The journal has all that the marks of this pass and of later ones do not cover."""
        self.end: SharedEnd | None = None
        """Where its readers take up to; None once something has come since."""
        self.room = 0
        """How many live entries may come until the next mark."""
        self.is_behind = False
        """The newest mark leaves more uncovered than a checkpoint may name."""
        self.idle = 0
        """For how many ticks nobody has read it."""
        self.floor: str | None = None

    def should_have_heard(self, number: int) -> bool:
        """What the pass of this number finds was committed while the channel was followed."""
        return self.followed_in is not None and number > self.followed_in + 1

    def raise_floor(self, at: str | None) -> None:
        """A reader was sent, from elsewhere, what occurred at or before this."""
        if at is not None and (self.floor is None or at > self.floor):
            self.floor, self.end = at, None

    def set_end(
        self, mark: Mark, unsettled: Mapping[str, str], *, is_whole: bool, most_ids: int
    ) -> SharedEnd:
        """The end of the journal, where the newest mark does not cover what is `unsettled`."""
        checkpoint = mark.checkpoint({**unsettled}, self.floor)
        self.end = SharedEnd(self.journal, mark, checkpoint, is_whole=is_whole, most_ids=most_ids)
        return self.end

    def append(self, line: Line) -> int:
        """Put it into the journal; returns by how many bytes that has grown."""
        self.end = None
        return self.journal.append(line)

    def drop_up_to(self, position: int) -> int:
        """As in the journal."""
        self.end = None
        return self.journal.drop_up_to(position)

    def may_know(self, entry: Entry) -> bool:
        """True when a reader may have been sent it from elsewhere: it is to be looked up."""
        return self.floor is not None and entry.occurred_at <= self.floor

    def settled(self, room: int) -> None:
        """A mark was set, which leaves room for so many."""
        self.room, self.is_behind = room, room < 0


class Members:
    """Those who are followed, on channels of one type; the bounds are as in `Hub`."""

    def __init__(
        self, channel_type: str, lines: int, line_bytes: int, everybodys: int, all_bytes: int
    ) -> None:
        self._bounds = (lines, line_bytes)
        self._everybodys = everybodys
        self._all_bytes = all_bytes
        self._bytes = 0
        self.position = 0
        """Of the last line, in whichever journal."""
        self._channel_prefix = channel_name(channel_type, None).removesuffix("*")
        self._by_user: dict[str | None, Member] = {}
        self._lingering: dict[str | None, Member] = {}  # in the order in which they were left

    def __bool__(self) -> bool:
        return bool(self._by_user)

    @property
    def readers(self) -> int:
        """How many have a reader."""
        return len(self._by_user) - len(self._lingering)

    def new(
        self, user_id: UUID | None, begins: int, whole_from: int, *, is_included: bool
    ) -> Member:
        """One more, which `join` makes one of them; its journal begins at this position."""
        times = self._everybodys if user_id is None else 1
        lines, line_bytes = self._bounds
        journal = Journal(times * lines, times * line_bytes, begins)
        return Member(user_id, journal, whole_from, is_included=is_included)

    def get(self, user: str | None) -> Member | None:
        return self._by_user.get(user)

    def __getitem__(self, user: str | None) -> Member:
        return self._by_user[user]

    def asked_about(self) -> Sequence[UUID] | None:
        """Whom a pass reads; None: everybody."""
        if None in self._by_user:
            return None
        return [member.user_id for member in self.all() if member.user_id is not None]

    def _whose(self, arrival: Arrival) -> list[Member]:
        """To whom it belongs: an entry to its user's, another message to its channel's."""
        message = arrival.message
        if isinstance(message, Entry | UnreadableEntry):
            return self._reached(message.user_id)
        return self._reached(self._user_of(arrival))

    def admitted(self, arrival: Arrival, left: LeftToHistory, more: int) -> Arrival | None:
        """What the trunk may take of a live message; an entry too many is `left` to the next pass.

        There are so many `more` than there is room for.
        An entry of another user's than the channel's says nothing about that user's journal.
        """
        user, entry = self._user_of(arrival), arrival.message
        members = self._reached(user)
        if not members or not isinstance(entry, Entry):
            return arrival if members else None
        if entry.user_id != user:
            other = OtherMessage(entry.to_json() if arrival.raw is None else arrival.raw)
            return msgspec.structs.replace(arrival, message=other)
        # A user's own room counts, though it may be more than there is for all users together.
        if members[0].room + more <= 0 or (not more and any(one.is_behind for one in members)):
            left.note(entry.occurred_at)
            return None
        for member in members:
            member.room -= 1
        if any(member.may_know(entry) for member in members):
            return msgspec.structs.replace(arrival, replayed=True)
        return arrival

    def _user_of(self, arrival: Arrival) -> str:
        return arrival.channel.removeprefix(self._channel_prefix)

    def _reached(self, user: str) -> list[Member]:
        """The user's own member first, then all users' one."""
        found = (self._by_user.get(user), self._by_user.get(None))
        return [member for member in found if member is not None]

    def append(self, arrival: Arrival) -> list[Member]:
        """Put what is printed into the journals; returns to whom it belongs."""
        members, message = self._whose(arrival), arrival.message
        if members:
            self.position += 1
            id, at = None, ""
            if isinstance(message, Entry | UnreadableEntry):
                id, at = message.id, message.occurred_at
            self._put(members, Line(self.position, to_line(message), id, at))
        return members

    def tell(self, notice: str) -> None:
        """Put it into all journals."""
        self.position += 1
        self._put(self.all(), notice_line(self.position, notice))

    def _put(self, members: Iterable[Member], line: Line) -> None:
        for member in members:
            self._bytes += member.append(line)
        while self._bytes > self._all_bytes:
            self._drop_oldest(line.position)

    def _drop_oldest(self, last: int) -> None:
        """An eighth of what there is, up to the position `last`."""
        firsts = [one.journal.oldest for one in self.all()]
        first = min((position for position in firsts if position is not None), default=last)
        for member in self.all():
            self._bytes += member.drop_up_to(first + (last - first) // 8)

    def all(self) -> Collection[Member]:
        return self._by_user.values()

    def join(self, member: Member, reader: Reader) -> None:
        self._by_user[member.user] = member
        self._lingering.pop(member.user, None)
        member.readers.add(reader)
        member.idle = 0

    def leave(self, reader: Reader) -> list[Member]:
        """Returns those that are followed no longer."""
        member = self._by_user[reader.user]
        member.readers.discard(reader)
        if not member.readers:
            self._lingering[member.user] = member
        if len(self._lingering) <= MOST_LINGERING:
            return []
        return [self._drop(next(iter(self._lingering)))]

    def tick(self) -> list[Member]:
        """Returns those that are followed no longer."""
        for member in self._lingering.values():
            member.idle += 1
        return [self._drop(user) for user, m in [*self._lingering.items()] if m.idle >= LINGER]

    def _drop(self, user: str | None) -> Member:
        del self._lingering[user]
        member = self._by_user.pop(user)
        self._bytes += member.drop_up_to(member.journal.position)
        return member
