"""A place in PostgreSQL's commit order: made from a snapshot, and understood again later."""

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.application.messages import format_time, parse_wire_time
from lykke_cli.infrastructure.database import regions, runs
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.database.runs import Runs
from lykke_cli.infrastructure.database.witnesses import (
    ABRIDGED,
    TWICE,
    Witness,
    Witnesses,
    abridged,
    prove,
    witnessed_by,
)
from lykke_cli.infrastructure.postgresql import relations, sweep
from lykke_cli.infrastructure.postgresql.relations import Group, Groups
from lykke_cli.infrastructure.postgresql.sweep import Sweep

FALLBACK_OVERLAP = timedelta(hours=1)
"""How much is read again when nothing proves what a cursor says."""
CIRCLE = 2**32  # 32-bit transaction ids
NEWEST = timedelta(minutes=1)
"""What occurred so long before the last look at the whole window every periodic read looks at."""
STEP = timedelta(seconds=30)
"""A prompt one looks at what occurred so long before the last one, and at up to so much more."""
WHOLE_EVERY = 4
"""So many times in the look-back window all of that is looked at."""


class Origin(msgspec.Struct, frozen=True):
    """Where a snapshot was taken: transaction ids mean something there alone."""

    database: str
    """Names the cluster and the database in it."""
    timeline: int
    """Goes up when a standby is promoted or a backup restored; 0 where it may not be asked."""
    lsn: int
    """How far the write-ahead log had come; 0 where it may not be asked."""
    server: str
    """Changes when the server is started, and when it recovers from a crash; empty where it may
    not be asked."""
    in_recovery: bool
    """A standby, which may lag."""


class Snapshot(msgspec.Struct, frozen=True):
    """The moment a transaction sees."""

    xmin: int
    xmax: int
    at: datetime
    origin: Origin
    ended: Runs = runs.NONE
    """Of the transactions from xmin on, those that are known to have ended before."""
    relations: frozenset[int] = frozenset()
    """The oids of those that hold the table's rows."""
    reached: int = 0
    """A standby shows all of the log up to here; `origin.lsn` may be later than what it shows."""

    def position(self, xmin: str) -> int | None:
        """The 64-bit id of the transaction that wrote a visible row; None for an ancient one."""
        xid = int(xmin)
        age = (self.xmax - xid) % CIRCLE
        return self.xmax - age if xid > 2 and age < CIRCLE // 2 else None


class Stored(msgspec.Struct, frozen=True):
    """What a cursor says."""

    at: datetime
    """When the last read was that looked at what is near."""
    recent_from: datetime
    """What occurred from here on was looked at by the last one that looked at the whole window."""
    groups: Groups
    witnesses: Witnesses
    origin: Origin
    is_abridged: bool = False
    """As `abridgements` make it: more is covered than it says."""
    sweep: Sweep | None = None
    """The read of the whole table that is under way."""

    @property
    def regions(self) -> Iterator[Region]:
        """Those of all relations."""
        return chain.from_iterable(group.covered for group in self.groups)


class Understood(msgspec.Struct, frozen=True):
    """What a cursor covers in the database as another snapshot shows it."""

    groups: Groups
    recent_from: datetime
    witnesses: Witnesses = Witnesses()
    origin: Origin | None = None
    """The cursor's own, where the snapshot is of a standby that has not come so far yet."""
    notice: str | None = None
    exact: bool = True
    """As in HistoryChunk."""
    rereads: bool = False
    """Something is read again that periodic reads would not look at."""
    sweep: Sweep | None = None


def make_cursor(
    snapshot: Snapshot,
    groups: Iterable[Group],
    recent_from: datetime,
    witnesses: Witnesses,
    origin: Origin | None = None,
    under_way: Sweep | None = None,
    *,
    at: datetime | None = None,
) -> Cursor:
    """As in Stored; without `at` it is the snapshot's."""
    data = {
        "kind": "postgresql",
        "at": format_time(at or snapshot.at),
        "recent_from": format_time(recent_from),
        "groups": relations.dump(groups),
        "witnesses": witnesses.dump(),
        "origin": msgspec.to_builtins(origin or snapshot.origin),
    }
    return Cursor(data if under_way is None else data | {"sweep": sweep.dump(under_way)})


def parse(cursor: Cursor) -> Stored | None:
    """What the cursor says; None where it was not made here."""
    data = cursor.data
    try:
        if data["kind"] != "postgresql":
            return None
        return Stored(
            parse_wire_time(data["at"]),
            parse_wire_time(data["recent_from"]),
            relations.load(data["groups"]),
            Witnesses.load(data["witnesses"]),
            msgspec.convert(data["origin"], Origin),
            data.get("abridged") is True,
            sweep.load(data.get("sweep")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, msgspec.ValidationError):
        return None


def near(
    recent_from: datetime, last: datetime, at: datetime, look_back: timedelta, *, prompt: bool
) -> tuple[datetime, datetime]:
    """From when on a periodic read of all users looks, and the next one's `recent_from`.

    The `last` one was then. Were it the whole window each time, it would cost as much as an hour of
    entries. A `prompt` one costs as much as a minute: it begins later, a step at a time, for each
    beginning is one region more in the cursor.
    """
    last_whole = recent_from + look_back
    if timedelta(0) <= at - last_whole < look_back / WHOLE_EVERY:
        start = last_whole - NEWEST
        if prompt:
            newest = min(last, at) - STEP
            start = max(start, newest - (newest - recent_from) % STEP)
        return max(recent_from, start), recent_from
    start = at - look_back  # where the server's clock was put back, earlier than the last one
    return min(recent_from, start), start


def abridgements(cursor: Cursor) -> Iterator[Cursor]:
    """The same place in fewer words, and in fewer still.

    The first are as good, while the database keeps what it has. The third goes without the ids
    that are pending, the fourth without the transactions that ended while an earlier one was
    open, the last by time alone. What they lack comes a second time, and `HistoryChunk.exact`
    says so.
    """
    if (stored := parse(cursor)) is None:
        return
    place = {name: value for name, value in cursor.data.items() if name != "sweep"}
    for data in abridged(place, stored.witnesses):
        yield Cursor(data)
    without = (
        Group(
            group.relations,
            tuple(msgspec.structs.replace(region, visible=runs.NONE) for region in group.covered),
        )
        for group in stored.groups
    )
    yield Cursor(data | {"groups": relations.dump(relations.joined(without))})
    yield Cursor(data | {"groups": []})


def vouched(cursor: Cursor, by: Cursor) -> Cursor:
    """As in HistoryProtocol."""
    one, other = parse(cursor), parse(by)
    if one is None or other is None or not _is_same_history(one.origin, other.origin):
        return cursor
    return witnessed_by(cursor, one.witnesses, other.witnesses)


def _is_same_history(one: Origin, other: Origin) -> bool:
    """True where nothing that one showed can have been lost before the other was taken."""
    if (one.database, one.timeline) != (other.database, other.timeline):
        return False
    if one.in_recovery and other.in_recovery and one.timeline:
        return True  # a standby has only what its primary keeps
    return bool(one.server) and one.server == other.server


def lags(then: Origin, snapshot: Snapshot) -> bool:
    """True where a standby has not yet come as far as an earlier snapshot, which still holds."""
    now = snapshot.origin
    if not now.in_recovery or now.database != then.database:
        return False
    if now.timeline and then.timeline and now.timeline != then.timeline:
        return now.timeline < then.timeline
    return 0 < (snapshot.reached or now.lsn) < then.lsn


def known_ended(stored: Stored | None, snapshot: Snapshot) -> Runs:
    """The transactions that the cursor knows to have ended on the server of the snapshot."""
    if stored is None or stored.origin.database != snapshot.origin.database:
        return runs.NONE
    if lags(stored.origin, snapshot) or is_doubtful(stored, snapshot):
        return runs.NONE
    return regions.visible_from(stored.regions, snapshot.xmin).below(snapshot.xmax)


def is_doubtful(stored: Stored, snapshot: Snapshot) -> bool:
    """True where commits may have been lost since: its witnesses are to be looked for."""
    then, now = stored.origin, snapshot.origin
    if then.database != now.database or lags(then, snapshot):
        return False
    return (
        (then.timeline, then.server) != (now.timeline, now.server)
        or then.lsn > now.lsn
        or any(region.before > snapshot.xmax for region in stored.regions)
    )


def understand(
    stored: Stored | None, snapshot: Snapshot, found: Collection[Witness] | None
) -> Understood:
    """What the cursor covers in this snapshot; `found` are its witnesses, if it was doubtful."""
    if stored is None:
        return _by_time("the stored place cannot be read", snapshot.at, snapshot)
    if stored.is_abridged and not stored.groups:
        return _by_time(ABRIDGED, stored.at, snapshot)
    known = _understand(stored, snapshot, found)
    if not stored.is_abridged or not known.exact:
        return known
    notice = f"{ABRIDGED}; {TWICE}"
    return msgspec.structs.replace(known, notice=notice, exact=False, rereads=True)


def _understand(
    stored: Stored, snapshot: Snapshot, found: Collection[Witness] | None
) -> Understood:
    then, now = stored.origin, snapshot.origin
    if then.database != now.database:
        return _by_time("the stored place belongs to another database", stored.at, snapshot)
    if lags(then, snapshot):
        return Understood(
            stored.groups,
            stored.recent_from,
            stored.witnesses,
            stored.origin,
            "this standby is behind the stored place: what it lacks comes as it catches up",
            sweep=stored.sweep,
        )
    groups = tuple(group for group in stored.groups if _is_on_the_circle(group, snapshot))
    if stored.groups and not groups:
        misfit = "the stored place is over two billion transactions old"
        return _by_time(misfit, stored.at, snapshot)
    if found is None:
        return Understood(groups, stored.recent_from, stored.witnesses, sweep=stored.sweep)
    moved = then.timeline != now.timeline
    happened = (
        f"the database went from timeline {then.timeline} to {now.timeline} (a fail-over, or a "
        "restored backup)"
        if moved
        else "the database has lost its last commits (a crash, or a restored backup)"
    )
    proven = prove(happened, stored.witnesses, found)
    if proven is None:
        return _by_time(happened, stored.at, snapshot)
    return Understood(
        tuple(_up_to(proven.position, group) for group in groups),
        stored.recent_from,
        proven.witnesses,
        notice=proven.notice if moved or not proven.is_all else None,
        exact=proven.is_all,
        rereads=True,
    )


def _is_on_the_circle(group: Group, snapshot: Snapshot) -> bool:
    """False where a region is too old: of a relation that is gone for long, or of a whole place."""
    return all(snapshot.xmax - region.before < CIRCLE // 2 for region in group.covered)


def _up_to(position: int, group: Group) -> Group:
    return Group(group.relations, tuple(region.up_to(position) for region in group.covered))


def _by_time(misfit: str, at: datetime, snapshot: Snapshot) -> Understood:
    since = min(at, snapshot.at) - FALLBACK_OVERLAP
    covered = (Region(snapshot.xmin, high=regions.just_before(since)),)
    return Understood(
        (Group(snapshot.relations, covered),),
        since,
        notice=f"{misfit}: reading again from {format_time(since)} by occurred_at; "
        "entries of that hour may be printed a second time",
        exact=False,
        rereads=True,
    )
