"""A place in PostgreSQL's commit order: made from a snapshot, and understood again later."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryRow
from lykke_cli.application.messages import format_time, parse_wire_time
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.regions import Place, Region

FALLBACK_OVERLAP = timedelta(hours=1)
"""How much is read again when a cursor does not fit the database."""
CIRCLE = 2**32  # 32-bit transaction ids


class Snapshot(msgspec.Struct, frozen=True):
    """The moment a transaction sees."""

    xmin: int
    xmax: int
    at: datetime
    complete: bool
    database: str
    """Names the cluster and the database in it: transaction ids mean nothing elsewhere."""


class Understood(msgspec.Struct, frozen=True):
    """A cursor, understood."""

    covered: tuple[Region, ...]
    recent_from: datetime
    notice: str | None = None


def coverage(snapshot: Snapshot, covered: tuple[Region, ...]) -> tuple[object, ...]:
    """The snapshot's xmin, the horizon, and the regions beyond it as four columns."""
    base = regions.horizon(covered)
    beyond = [r for r in covered if not r.is_whole]
    return (
        str(snapshot.xmin % CIRCLE),
        None if base is None else str(base % CIRCLE),
        [str(r.before % CIRCLE) for r in beyond],
        [_bound(r.low) for r in beyond],
        [_bound(r.high[0]) for r in beyond],
        [r.high[1] or str(_uuid(0)) for r in beyond],
    )


def _bound(moment: datetime) -> str:
    if moment <= regions.START_OF_TIME:
        return "-infinity"
    return "infinity" if moment >= regions.END_OF_TIME else format_time(moment)


def just_before_place(place: Place) -> Place:
    """The last place before this one."""
    moment, id = place
    number = UUID(id).int
    return (moment, str(_uuid(number - 1))) if number else regions.just_before(moment)


def _uuid(number: int) -> UUID:
    return UUID(int=number)


def up_to(snapshot: Snapshot, rows: list[HistoryRow], low: datetime | None = None) -> Region:
    last = rows[-1].entry
    return Region(snapshot.xmin, low or regions.START_OF_TIME, (last.moment, last.id))


def make_cursor(snapshot: Snapshot, covered: tuple[Region, ...], recent_from: datetime) -> Cursor:
    return Cursor(
        {
            "kind": "postgresql",
            "database": snapshot.database,
            "at": format_time(snapshot.at),
            "recent_from": format_time(recent_from),
            "regions": regions.dump(covered),
        }
    )


def understand(cursor: Cursor, snapshot: Snapshot) -> Understood:
    """The cursor's regions, or where it does not fit this database, a place in time instead."""
    data = cursor.data
    try:
        covered = regions.load(data["regions"])
        recent_from = parse_wire_time(data["recent_from"])
        at = parse_wire_time(data["at"])
        misfit = _misfit(data.get("kind"), data["database"], covered, snapshot)
    except (KeyError, TypeError, ValueError):
        covered, recent_from = (), snapshot.at
        at, misfit = snapshot.at, "the stored place cannot be read"
    if misfit is None:
        return Understood(covered, recent_from)
    since = min(at, snapshot.at) - FALLBACK_OVERLAP
    return Understood(
        (Region(snapshot.xmin, high=regions.just_before(since)),),
        recent_from,
        f"{misfit}: reading again from {format_time(since)} by occurred_at; "
        "entries of that hour may be printed a second time",
    )


def _misfit(
    kind: object, database: object, covered: tuple[Region, ...], snapshot: Snapshot
) -> str | None:
    if kind != "postgresql" or database != snapshot.database:
        return "the stored place belongs to another database"
    if any(r.before > snapshot.xmax for r in covered):
        return "the stored place is ahead of this database (was it restored from a backup?)"
    if any(snapshot.xmax - r.before >= CIRCLE // 2 for r in covered):
        return "the stored place is over two billion transactions old"
    return None
