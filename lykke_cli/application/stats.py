"""A user's activity: over time, by type, and by hour of the week."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgspec

from lykke_cli.application.filters import has_patterns, type_matcher
from lykke_cli.application.gateways.statistics_protocol import (
    Scope,
    StatisticsProtocol,
    Summary,
    TypeCount,
)
from lykke_cli.application.messages import format_time
from lykke_cli.application.wall_clock import EARLIEST, LATEST, WallClock, bucket_for

MOST_BARS = 54  # the weeks of a year, and what fits into 60 columns
MOST_TYPES = 20
MOST_MATCHED = 100_000  # types that patterns are held against
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Bar:
    """The entries from `start` on, until the next one starts."""

    start: datetime
    """Aware, in the time zone of the report."""
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What is known of a user's activity; without entries all but the range is empty."""

    user_id: str | None
    """None is every user."""
    since: datetime | None
    until: datetime | None
    zone: tzinfo | None
    """None is this machine's."""
    time_zone: str
    """The name of the time zone at the end of the range, such as CET."""
    summary: Summary
    bucket: str | None
    """The span of one bar: `5 minutes`, `day`."""
    bars: Sequence[Bar]
    types: Sequence[TypeCount]
    """The most frequent ones, most frequent first."""
    hours: Sequence[Sequence[int]]
    """Seven days from Monday on, each with the entries in its 24 hours."""

    @property
    def title(self) -> str:
        """Whose activity it is."""
        return "Every user" if self.user_id is None else f"User {self.user_id}"

    @property
    def other_types(self) -> int:
        """How many further types there are than those in `types`."""
        return self.summary.types - len(self.types)

    @property
    def other_entries(self) -> int:
        """How many entries those further types have."""
        return self.summary.entries - sum(each.entries for each in self.types)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: instants in UTC, the starts of bars with the time zone's offset."""
        return {
            "user_id": self.user_id,
            "since": _time(self.since),
            "until": _time(self.until),
            "time_zone": self.time_zone,
            "entries": self.summary.entries,
            "first": _time(self.summary.first),
            "last": _time(self.summary.last),
            "bucket": self.bucket,
            "over_time": [
                {"start": bar.start.isoformat(), "entries": bar.entries} for bar in self.bars
            ],
            "types": self.summary.types,
            "by_type": [
                {
                    "activity_type": each.activity_type,
                    "entries": each.entries,
                    "last": _time(each.last),
                }
                for each in self.types
            ],
            "by_hour": [list(day) for day in self.hours],
        }


async def with_types_found(statistics: StatisticsProtocol, scope: Scope) -> Scope:
    """The same, where patterns among the activity types give way to the types that match."""
    selection = scope.selection
    names = selection.activity_types
    if not has_patterns(names):
        return scope
    any_type = replace(scope, selection=msgspec.structs.replace(selection, activity_types=()))
    is_wanted = type_matcher(names)
    found = [
        each.activity_type
        for each in await statistics.by_type(any_type, MOST_MATCHED)
        if is_wanted(each.activity_type)
    ]
    types = tuple(found) or names  # the patterns themselves are no entry's type
    return replace(scope, selection=msgspec.structs.replace(selection, activity_types=types))


async def read_activity(
    statistics: StatisticsProtocol, scope: Scope, *, zone: tzinfo | None, now: datetime
) -> Activity:
    """What `statistics` counts in `scope`, in the time zone `zone` (None: this machine's).

    Without a start the range begins with the first entry, without an end it ends `now`, or with
    the last entry if that is later.
    """
    users = scope.selection.user_ids
    user_id = None if users is None else ", ".join(sorted(map(str, users)))
    scope = await with_types_found(statistics, scope)
    summary = await statistics.summary(scope)
    since, until = scope.since or summary.first, scope.until
    if until is None and summary.last is not None:
        until = max(now, summary.last + _INSTANT)
    if since is None or until is None or summary.last is None:
        return Activity(
            user_id=user_id,
            since=since,
            until=until,
            zone=zone,
            time_zone=now.astimezone(zone).tzname() or "",
            summary=summary,
            bucket=None,
            bars=(),
            types=(),
            hours=_days({}),
        )
    first, last = max(since, EARLIEST), min(until, LATEST)
    clock = WallClock(zone, first, last)
    start = clock.local(first.timestamp())
    end = max(start, clock.local((last - _INSTANT).timestamp()))
    bucket = bucket_for(start, end, MOST_BARS)
    counts = await statistics.by_bucket(scope, bucket, clock)
    return Activity(
        user_id=user_id,
        since=since,
        until=until,
        zone=zone,
        time_zone=last.astimezone(zone).tzname() or "",
        summary=summary,
        bucket=bucket.name,
        bars=[
            Bar(clock.aware(bucket.start(index)), counts.get(index, 0))
            for index in range(bucket.index(start), bucket.index(end) + 1)
        ],
        types=await statistics.by_type(scope, MOST_TYPES),
        hours=_days(await statistics.by_hour(scope, clock)),
    )


def _days(hours: Mapping[int, int]) -> list[list[int]]:
    return [[hours.get(day * 24 + hour, 0) for hour in range(24)] for day in range(7)]


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
