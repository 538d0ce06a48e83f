"""Which rows a cursor covers, as regions of (commit position, occurred_at, id).

A commit position is an integer that grows with time: on PostgreSQL the id of the transaction that
wrote the row, on SQLite the row's sequence. When a region was made, every row below its `before`
had been committed, or never will be. Of the positions from there on this holds only for those in
`visible`. Reads go in the order of (occurred_at, id). So a read that ended half-way adds a region
that ends at the last row it read, and a read of the look-back window one that begins there.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from lykke_cli.application.messages import format_time, parse_wire_time
from lykke_cli.infrastructure.database import runs
from lykke_cli.infrastructure.database.runs import Runs

LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
START_OF_TIME = datetime(1, 1, 1, tzinfo=UTC)
END_OF_TIME = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
SortKey = tuple[datetime, str]
"""`occurred_at` and id: rows are read in this order."""
BEFORE_ALL = (START_OF_TIME, "")
END = (END_OF_TIME, LAST_ID)


class Region(msgspec.Struct, frozen=True):
    """Rows with position < before or in visible, occurred_at >= low, (occurred_at, id) <= high."""

    before: int
    low: datetime = START_OF_TIME
    high: SortKey = END
    visible: Runs = runs.NONE
    """Positions at or after `before` whose transactions had ended too."""

    def covers(self, position: int, key: SortKey) -> bool:
        committed = position < self.before or position in self.visible
        return committed and self.low <= key[0] and key <= self.high

    def spans(self, low: datetime, high: SortKey) -> bool:
        """True when its bounds leave nothing out between `low` and `high`."""
        return self.low <= low and high <= self.high

    def includes(self, other: "Region") -> bool:
        return (
            other.before <= self.before
            and self.spans(other.low, other.high)
            and self.visible.includes(other.visible.starting(self.before))
        )

    def up_to(self, position: int) -> "Region":
        """The part of it at or below `position`."""
        visible = self.visible.below(position + 1)
        return Region(min(self.before, position + 1), self.low, self.high, visible)

    @property
    def is_whole(self) -> bool:
        """True when it covers every row below `before`."""
        return self.spans(START_OF_TIME, END)


def add(regions: Iterable[Region], new: Region) -> tuple[Region, ...]:
    """The union, without regions that lie within another."""
    kept = tuple(r for r in regions if not new.includes(r))
    return kept if any(r.includes(new) for r in kept) else (*kept, new)


def horizon(regions: Iterable[Region]) -> int | None:
    """Below it every row is covered; None when there is no such position."""
    return max((r.before for r in regions if r.is_whole), default=None)


def visible_from(regions: Iterable[Region], begin: int) -> Runs:
    """The positions from `begin` on that are known to be visible, whatever of them is covered."""
    visible = runs.NONE
    for region in regions:
        visible |= region.visible.starting(begin)
    return visible


def just_before(moment: datetime) -> SortKey:
    """The last key before everything that occurred at `moment`."""
    if moment <= START_OF_TIME:
        return BEFORE_ALL
    return (moment - timedelta(microseconds=1), LAST_ID)


def just_before_key(key: SortKey) -> SortKey:
    """The last key before this one."""
    moment, id = key
    number = UUID(id).int
    return (moment, str(UUID(int=number - 1))) if number else just_before(moment)


def dump(regions: Iterable[Region]) -> list[list[Any]]:
    """The regions as plain JSON."""
    return [
        [r.before, format_time(r.low), format_time(r.high[0]), r.high[1], r.visible.dump()]
        for r in regions
    ]


def load(data: Iterable[Any]) -> tuple[Region, ...]:
    """The inverse of `dump`; raises ValueError, TypeError or KeyError on anything else."""
    return tuple(
        Region(
            runs.position(before),
            parse_wire_time(low),
            (parse_wire_time(high), id if id == "" else str(UUID(str(id)))),
            Runs.load(visible),
        )
        for before, low, high, id, visible in data
    )
