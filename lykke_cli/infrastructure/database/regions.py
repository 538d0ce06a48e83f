"""Which rows a cursor covers, as regions of (commit position, occurred_at, id).

A commit position is an integer that grows with time: on PostgreSQL the row's transaction id, on
SQLite its sequence. A row below a region's `before` was committed, or will never be, when the
region was made. Reads print in (occurred_at, id) order, so one that ended half-way adds a region
bounded by the place it reached; one over the look-back window a region bounded from below.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from lykke_cli.application.messages import format_time, parse_wire_time

LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
START_OF_TIME = datetime(1, 1, 1, tzinfo=UTC)
END_OF_TIME = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
Place = tuple[datetime, str]
END = (END_OF_TIME, LAST_ID)


class Region(msgspec.Struct, frozen=True):
    """Rows with position < before, occurred_at >= low and (occurred_at, id) <= high."""

    before: int
    low: datetime = START_OF_TIME
    high: Place = END

    def covers(self, position: int, place: Place) -> bool:
        return position < self.before and self.low <= place[0] and place <= self.high

    def includes(self, other: "Region") -> bool:
        return other.before <= self.before and self.low <= other.low and other.high <= self.high

    @property
    def is_whole(self) -> bool:
        """True when it covers every row below `before`."""
        return self.low == START_OF_TIME and self.high == END


def add(regions: Iterable[Region], new: Region) -> tuple[Region, ...]:
    """The union, without regions that lie within another."""
    kept = tuple(r for r in regions if not new.includes(r))
    return kept if any(r.includes(new) for r in kept) else (*kept, new)


def horizon(regions: Iterable[Region]) -> int | None:
    """Below it every row is covered; None when there is no such position."""
    return max((r.before for r in regions if r.is_whole), default=None)


def just_before(moment: datetime) -> Place:
    """The last place before everything that occurred at `moment`."""
    if moment <= START_OF_TIME:
        return (START_OF_TIME, "")
    return (moment - timedelta(microseconds=1), LAST_ID)


def dump(regions: Iterable[Region]) -> list[list[Any]]:
    """The regions as plain JSON."""
    return [[r.before, format_time(r.low), format_time(r.high[0]), r.high[1]] for r in regions]


def load(data: Iterable[Any]) -> tuple[Region, ...]:
    """The inverse of `dump`; raises ValueError, TypeError or KeyError on anything else."""
    return tuple(
        Region(int(before), parse_wire_time(low), (parse_wire_time(high), str(id)))
        for before, low, high, id in data
    )
