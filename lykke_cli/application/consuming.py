"""What one member of a consumer group does next; pure, as the merge is.

The server gives each entry of a stream to one member of the group and remembers it as pending until
that member acknowledges it (https://redis.io/docs/latest/develop/data-types/streams/). Whatever can
get lost on the way is found again in what is pending: by the member itself, when it comes back, or
by another one, once nobody has renewed it for `claim_after` seconds.

Who uses this carries out each Step, gives back what the server answered, and reads anew only while
`may_read`. There is no clock and no I/O here: times are given, in seconds.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import decode_object
from lykke_cli.application.stream_ids import StreamId

START = "0-0"
"""Before the first entry of every stream."""
RENEWALS, CLAIMS, FRESH = 3, 2, 6
"""How often in `claim_after` seconds; younger than one part in so many is fresh enough."""
LOOK_INTERVAL = 10.0  # seconds between looks at how far the whole group is
_MOST_KNOWN = 64  # ids of which one may become the place from which a lost group is made again


class StreamEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry that this member holds until it is acknowledged or let go."""

    stream: str
    id: str
    """Its place in the stream."""
    user_id: str
    """As the stream has it: anybody may have written there."""
    payload: bytes
    """The message, as JSON."""
    deliveries: int = 1
    """How often it was given to a member of the group, this time included."""

    @property
    def message(self) -> dict[str, Any] | Unreadable:
        """The message, decoded."""
        return decode_object(self.payload)


class Found(msgspec.Struct, frozen=True):
    """What a stream gave to this member."""

    entries: Sequence[StreamEntry] = ()
    foreign: Sequence[str] = ()
    """The ids of what holds no message."""
    trimmed: Sequence[str] = ()
    """The ids of what is pending, and in the stream no more."""

    @property
    def number(self) -> int:
        return len(self.entries) + len(self.foreign) + len(self.trimmed)


class Recover(msgspec.Struct, frozen=True):
    """Read what is pending for this member after the id `after`, the first entries of it."""

    stream: str
    after: str


class Claim(msgspec.Struct, frozen=True):
    """Take over, from the id `start` on, what nobody has renewed for `idle` seconds."""

    stream: str
    start: str
    idle: float


class Renew(msgspec.Struct, frozen=True):
    """Renew what has been pending for this member for `idle` seconds, as far as it `holds` it.

    Only if it is pending for this member, and still so old: who was away for too long must not take
    back what another one has taken over.
    """

    stream: str
    idle: float


class Look(msgspec.Struct, frozen=True):
    """Ask how far the group is: the last id that was given out, and then the lowest pending."""

    stream: str


Step = Recover | Claim | Renew | Look


class Settled(msgspec.Struct, frozen=True):
    """What is to be done at once with entries that nobody is given."""

    acknowledge: Sequence[str] = ()
    """What holds no message, and what was trimmed before anybody took it."""
    bury: Sequence[StreamEntry] = ()
    """Those that were given out too often: for the dead-letter stream."""
    trimmed: int = 0
    """How many are lost to the group."""


class GroupMember:
    """What one member of a group holds of some streams.

    Others take over what it has not renewed for `claim_after` seconds. It is given no entry more
    than `max_deliveries` times, and about `batch` at once.
    """

    def __init__(
        self, streams: Iterable[str], *, claim_after: float, max_deliveries: int, batch: int
    ) -> None:
        self._shares = {name: _Share() for name in streams}
        self._claim_after = claim_after
        self._max_deliveries = max_deliveries
        self._batch = batch
        self._most_late = claim_after * (1 - 1 / RENEWALS - 1 / FRESH)
        """For how long after it is due a renewal is in time."""
        self._lost_at = 0.0
        self._waiting: deque[StreamEntry] = deque()

    @property
    def streams(self) -> Collection[str]:
        return self._shares

    @property
    def has_entries(self) -> bool:
        """Whether there is something to be given."""
        return bool(self._waiting)

    @property
    def may_read(self) -> bool:
        """Whether all that was pending for it was taken first."""
        return all(share.recovering is None for share in self._shares.values())

    def steps(self, now: float) -> Iterator[Step]:
        """What is due; a step is done once its answer was given back."""
        for name, share in self._shares.items():
            if share.held and now >= share.renew_at:
                yield Renew(name, self._claim_after / FRESH)
            if share.recovering is not None:
                if len(self._waiting) < self._batch:
                    yield Recover(name, share.recovering)
                continue
            if now >= share.claim_at and len(self._waiting) < self._batch:
                yield Claim(name, share.claiming, self._claim_after)
            if now >= share.look_at:
                yield Look(name)

    def next_at(self) -> float:
        """When the next step is due."""
        shares = self._shares.values()
        times = [min(share.claim_at, share.look_at) for share in shares]
        return min(times + [share.renew_at for share in shares if share.held])

    def give(self) -> list[StreamEntry]:
        """Some of what has come, in the order in which it came."""
        number = min(self._batch, len(self._waiting))
        return [self._waiting.popleft() for _ in range(number)]

    def not_given(self) -> Sequence[StreamEntry]:
        """What has come, and `give` has not given yet."""
        return tuple(self._waiting)

    def read(self, stream: str, found: Found, now: float) -> Settled:
        """Take what was read for the first time."""
        return self._take(stream, found, now)

    def recovered(self, step: Recover, found: Found, now: float) -> Settled:
        """Take what was pending for this member; nothing found is the end of it."""
        share = self._shares[step.stream]
        ids = {*(entry.id for entry in found.entries), *found.foreign, *found.trimmed}
        share.recovering = max(ids, key=StreamId.parse) if ids else None
        share.still_left |= share.left & ids
        if not ids:  # reading it has renewed it
            share.left, share.still_left = share.still_left, set()
            share.renew_at = self._lost_at + self._claim_after / RENEWALS
        entries = [entry for entry in found.entries if entry.id not in share.left]
        return self._take(step.stream, msgspec.structs.replace(found, entries=entries), now)

    def claimed(self, step: Claim, found: Found, then: str, now: float) -> Settled:
        """Take what was claimed; `then` is where to go on, START where that was all."""
        share = self._shares[step.stream]
        share.claiming = then
        if then == START:
            share.claim_at = now + self._claim_after / CLAIMS
        share.left.difference_update(entry.id for entry in found.entries)
        return self._take(step.stream, found, now)

    def _take(self, stream: str, found: Found, now: float) -> Settled:
        share, dead = self._shares[stream], list[StreamEntry]()
        if not share.held:
            share.renew_at = now + self._claim_after / RENEWALS
        for entry in found.entries:
            if entry.deliveries > self._max_deliveries:
                dead.append(entry)
            elif entry.id not in share.held:
                share.held[entry.id] = None
                self._waiting.append(entry)
        lost = [id for id in found.trimmed if id not in share.held]
        return Settled([*found.foreign, *lost], dead, len(lost))

    def renewed(self, step: Renew, now: float) -> None:
        self._shares[step.stream].renew_at = now + self._claim_after / RENEWALS

    def held(self, stream: str, ids: Iterable[str]) -> list[str]:
        """Those of the ids that it holds."""
        share = self._shares[stream]
        return [id for id in ids if id in share.held]

    def looked(self, step: Look, given_out: str, pending: str | None, now: float) -> None:
        """Note how far the group is; `pending` is the lowest id that is, asked for after the other.

        Whatever was given out before, and is lower, was acknowledged. (An id that is known from
        before the group was lost may not have been given out again.)
        """
        share = self._shares[step.stream]
        share.look_at = now + LOOK_INTERVAL
        share.known += [id for id in (share.newest, given_out) if id is not None]
        for id in share.known:
            is_done = StreamId.parse(id) <= StreamId.parse(given_out)
            if is_done and (pending is None or StreamId.parse(id) < StreamId.parse(pending)):
                share.floor = max(share.floor, id, key=StreamId.parse)

    def floor(self, stream: str) -> str:
        """An id up to which the group is known to have acknowledged everything."""
        return self._shares[stream].floor

    def start_again(self, stream: str, *, is_there: bool) -> str:
        """Where a group that was lost begins anew; `is_there` tells of the floor's entry.

        Without it the stream is another one, whose ids may be lower: nothing is passed over.
        """
        share = self._shares[stream]
        if not is_there:
            share.floor, share.newest = START, None
            share.known.clear()
        return share.floor

    def acknowledged(self, entries: Iterable[StreamEntry]) -> None:
        """The server has confirmed that these are done."""
        for entry in entries:
            share = self._shares[entry.stream]
            share.held.pop(entry.id, None)
            share.newest = entry.id

    def let_go(self, entries: Iterable[StreamEntry]) -> None:
        """Leave these to whoever claims them, which may be this member."""
        for entry in entries:
            share = self._shares[entry.stream]
            share.held.pop(entry.id, None)
            share.left.add(entry.id)
            if share.recovering is not None:  # it was found, and will not be once more
                share.still_left.add(entry.id)

    def is_overtaken(self, now: float) -> bool:
        """Whether it was away for so long that others may have what it holds."""
        shares = self._shares.values()
        return any(share.held and now > share.renew_at + self._most_late for share in shares)

    def heed(self, now: float) -> None:
        """Find out what it still has, where it was away for too long and has not begun to."""
        has_begun = not self.may_read and now <= self._lost_at + self._most_late
        if self.is_overtaken(now) and not has_begun:
            self.lost(now)

    def lost(self, now: float) -> None:
        """What was asked last may have been done or not: what is pending is to be read again.

        What was not given yet is found there, too, as far as nobody else has taken it over.
        """
        while self._waiting:
            entry = self._waiting.popleft()
            self._shares[entry.stream].held.pop(entry.id, None)
        self._lost_at = now
        for share in self._shares.values():
            share.recovering, share.still_left = START, set()


class _Share:
    """Of one stream."""

    def __init__(self) -> None:
        self.held: dict[str, None] = {}
        self.left: set[str] = set()
        """Let go, and pending for this member all the same, as far as it knows."""
        self.still_left: set[str] = set()
        """Those of them that were found to be."""
        self.recovering: str | None = START
        """After which id what is pending has still to be read."""
        self.claiming = START
        self.renew_at = self.claim_at = self.look_at = 0.0
        self.known: deque[str] = deque(maxlen=_MOST_KNOWN)
        self.newest: str | None = None
        """Of those it has acknowledged."""
        self.floor = START
