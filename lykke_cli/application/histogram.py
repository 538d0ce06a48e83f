"""Entries over time, in bars of one length, for whoever draws them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from lykke_cli.application.gateways.statistics_protocol import (
    Scope,
    StatisticsProtocol,
    TypeCount,
)
from lykke_cli.application.messages import format_time
from lykke_cli.application.stats import MOST_TYPES, Bar
from lykke_cli.application.wall_clock import EARLIEST, LATEST, Bucket, WallClock

MINUTE, HOUR, DAY = 60, 3600, 86_400
_STEPS = (
    *(1, 2, 5, 10, 15, 30),
    *(MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(HOUR * n for n in (1, 2, 3, 6, 12)),
    *(DAY * n for n in (1, 7, 28, 91, 364, 3640, 36_400, 364_000, 3_640_000)),
)
"""Seconds of a bar; each begins at a multiple of them, so that bars stay where they are."""
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Without entries, and without a start that was asked for, it has no bars."""

    since: datetime | None
    until: datetime
    step_seconds: int
    bars: Sequence[Bar]
    types: Sequence[TypeCount]
    """The most frequent ones, most frequent first."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "from": None if self.since is None else format_time(self.since),
            "to": format_time(self.until),
            "step_seconds": self.step_seconds,
            "counts": [{"from": format_time(bar.start), "total": bar.entries} for bar in self.bars],
            "types": [
                {"activity_type": each.activity_type, "entries": each.entries}
                for each in self.types
            ],
        }


async def read_histogram(
    statistics: StatisticsProtocol, scope: Scope, most: int, now: datetime
) -> Histogram:
    """What `scope` counts, in at most `most` bars (2 or more), until `now` where it has no end.

    Without a start it begins with the first entry.
    """
    until = scope.until or now
    since = scope.since or (await statistics.summary(scope)).first
    if since is None or since >= until:
        return Histogram(since=scope.since, until=until, step_seconds=0, bars=(), types=())
    since, until = max(since, EARLIEST), min(until, LATEST)
    scope = replace(scope, since=since, until=until)
    start, end = since.timestamp(), (until - _INSTANT).timestamp()
    buckets = (Bucket(f"{seconds} s", seconds) for seconds in _STEPS)
    bucket = next(each for each in buckets if each.index(end) - each.index(start) < most)
    counts = await statistics.by_bucket(scope, bucket, WallClock(UTC, since, until))
    return Histogram(
        since=since,
        until=until,
        step_seconds=bucket.seconds,
        bars=[
            Bar(bucket.start(index).replace(tzinfo=UTC), counts.get(index, 0))
            for index in range(bucket.index(start), bucket.index(end) + 1)
        ],
        types=await statistics.by_type(scope, MOST_TYPES),
    )
