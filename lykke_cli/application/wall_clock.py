"""What clocks on the wall show, and the spans of time that bars stand for.

A local time is a number here: the seconds since 1970-01-01 00:00 of the clock on the wall. So a
database can count in anybody's time zone without knowing it.
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

EARLIEST = datetime(1, 1, 3, tzinfo=UTC)
LATEST = datetime(9999, 12, 29, tzinfo=UTC)
"""Between them a time can be shown in every time zone."""
FIRST_MONDAY = 4 * 86_400  # seconds from 1970-01-01 to the first Monday
HOURS_OF_WEEK = 7 * 24
FIRST_CHANGE = datetime(1850, 1, 1, tzinfo=UTC)
LAST_CHANGE = datetime(2100, 1, 1, tzinfo=UTC)
"""Before and after them clocks are taken to go on unchanged."""
_PROBE = timedelta(days=7)
_EPOCH = datetime(1970, 1, 1)


class WallClock:
    """The clock of `zone`, or with None of this machine, right from `since` to `until`."""

    def __init__(self, zone: tzinfo | None, since: datetime, until: datetime) -> None:
        self.zone = zone
        before, until = (min(max(t, FIRST_CHANGE), LAST_CHANGE) for t in (since, until))
        self.changes: list[float] = []
        """The UTC timestamps at which the offset changes."""
        self.offsets = [self._offset(before)]
        """Seconds to add to UTC: before the first change, from it on, from the second one on."""
        while before < until:
            after = min(before + _PROBE, until)
            offset = self._offset(after)
            if offset != self.offsets[-1]:
                self.changes.append(self._change(before, after).timestamp())
                self.offsets.append(offset)
            before = after

    def local(self, timestamp: float) -> float:
        """The local time at a UTC timestamp."""
        return timestamp + self.offsets[bisect_right(self.changes, timestamp)]

    def aware(self, wall: datetime) -> datetime:
        """A naive local time with its offset."""
        return wall.astimezone() if self.zone is None else wall.replace(tzinfo=self.zone)

    def _offset(self, moment: datetime) -> int:
        offset = moment.astimezone(self.zone).utcoffset()
        return 0 if offset is None else int(offset.total_seconds())

    def _change(self, before: datetime, after: datetime) -> datetime:
        """The second in which the offset becomes that of `after`."""
        while after - before > timedelta(seconds=1):
            middle = (before + (after - before) / 2).replace(microsecond=0)
            middle = max(middle, before + timedelta(seconds=1))
            if self._offset(middle) == self._offset(after):
                after = middle
            else:
                before = middle
        return after.replace(microsecond=0)


def hour_of_week(local: float) -> int:
    """0 is Monday's first hour."""
    return int((local - FIRST_MONDAY) // 3600) % HOURS_OF_WEEK


@dataclass(frozen=True, slots=True)
class Bucket:
    """A span of local time: so many seconds, counted from a Monday, or so many calendar months."""

    name: str
    seconds: int = 0
    months: int = 0

    def index(self, local: float) -> int:
        """The number of the span that a local time is in."""
        if self.seconds:
            return int((local - FIRST_MONDAY) // self.seconds)
        wall = _EPOCH + timedelta(seconds=local)
        return (wall.year * 12 + wall.month - 1) // self.months

    def start(self, index: int) -> datetime:
        """When the span with this number begins, without a time zone."""
        if self.seconds:
            local = max(FIRST_MONDAY + index * self.seconds, EARLIEST.timestamp())
            return _EPOCH + timedelta(seconds=local)
        year, month = divmod(index * self.months, 12)
        return datetime(year, month + 1, 1) if year else EARLIEST.replace(tzinfo=None)


BUCKETS = (
    Bucket("minute", 60),
    Bucket("5 minutes", 300),
    Bucket("15 minutes", 900),
    Bucket("30 minutes", 1800),
    Bucket("hour", 3600),
    Bucket("6 hours", 6 * 3600),
    Bucket("day", 86_400),
    Bucket("week", 7 * 86_400),
    Bucket("month", months=1),
    Bucket("3 months", months=3),
    Bucket("year", months=12),
    Bucket("10 years", months=120),
    Bucket("100 years", months=1200),
    Bucket("1000 years", months=12_000),
)


def bucket_for(since: float, until: float, most: int) -> Bucket:
    """The shortest span of which at most `most` cover the local times from `since` to `until`."""
    return next(b for b in BUCKETS if b.index(until) - b.index(since) < most)
