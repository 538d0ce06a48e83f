"""A range of time in stretches, where the server does not read all of it in one statement in time.

Each fetch of a statement's rows is to end within STATEMENT_TIMEOUT. Where few rows are wanted, and
no index leads to them, all others are looked at before the first of them is found. What took too
long is asked for again in stretches, which the index on occurred_at bounds: in ever shorter ones,
until each is read in time.
"""

from datetime import datetime, timedelta

from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.postgresql import statements
from lykke_cli.infrastructure.postgresql.snapshots import Snapshots

SHORTER = 8  # times as short as what took too long
SHORTEST = timedelta(seconds=1)


class Stretches:
    """How long they are; at first a range is one."""

    def __init__(self, *, newest_first: bool = False) -> None:
        self._newest_first = newest_first
        self._length: timedelta | None = None
        self._bounds = regions.START_OF_TIME, regions.END_OF_TIME

    def cut(self, low: datetime | None, high: datetime | None) -> datetime | None:
        """Where the first one ends of what is left of a range; None where that is one."""
        if self._length is None:
            return None
        low, high = self._within(low, high)
        end = high - self._length if self._newest_first else low + self._length
        return end if low < end < high else None

    async def shorten(
        self, snapshots: Snapshots, low: datetime | None, high: datetime | None
    ) -> bool:
        """What is left of a range took too long; False where it is of no use to divide it."""
        async with snapshots.take() as (connection, _):  # which fails where a lock was waited for
            first, last = await connection.fetchrow(statements.FIRST_AND_LAST)
        if first is None:
            return False
        if self._length is None:
            self._bounds = first, last
            low, high = self._within(low, high)
            self._length = high - low
        self._length /= SHORTER
        return self._length >= SHORTEST

    def _within(self, low: datetime | None, high: datetime | None) -> tuple[datetime, datetime]:
        """The part of a range in which something occurred."""
        first, last = self._bounds
        return max(low or first, first), min(high or last, last)
