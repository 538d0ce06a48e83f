"""StatisticsProtocol on PostgreSQL: every answer is an aggregate.

Local time is computed from the offsets of a WallClock, by a binary search in `width_bucket`: the
server need not know the reader's time zone, and a day is a day across a change of the clocks.
"""

from collections.abc import Mapping, Sequence

from lykke_cli.application.gateways.statistics_protocol import (
    LONGEST_TYPE,
    Scope,
    Summary,
    TypeCount,
)
from lykke_cli.application.wall_clock import FIRST_MONDAY, HOURS_OF_WEEK, Bucket, WallClock
from lykke_cli.infrastructure.postgresql.reader import PostgresReader
from lykke_cli.infrastructure.postgresql.selection import IN_RANGE, in_scope

# The texts below are constants: whatever comes from outside is a parameter.
_SUMMARY = f"""
    SELECT count(*), count(DISTINCT activity_type),
        min(occurred_at)::timestamptz, max(occurred_at)::timestamptz
    FROM audit_logs WHERE {IN_RANGE}
"""  # noqa: S608
_LOCAL = f"""
    FROM audit_logs
    CROSS JOIN LATERAL (SELECT extract(epoch FROM occurred_at)::float8) AS utc (seconds)
    CROSS JOIN LATERAL (
        SELECT seconds + ($10::int4[])[width_bucket(seconds, $9::float8[]) + 1]
    ) AS wall (clock)
    WHERE {IN_RANGE} GROUP BY 1
"""  # noqa: S608
_BY_SECONDS = f"SELECT floor((clock - $11::int8) / $12::int8)::int8, count(*) {_LOCAL}"
_BY_MONTHS = f"""
    SELECT floor((
        extract(year FROM to_timestamp(clock)) * 12 + extract(month FROM to_timestamp(clock)) - 1
    ) / $11::int8)::int8, count(*) {_LOCAL}
"""  # noqa: S608
_BY_HOUR = f"""
    SELECT mod(mod(floor((clock - $11::int8) / 3600)::int8, $12::int8) + $12, $12), count(*)
    {_LOCAL}
"""
_BY_TYPE = f"""
    SELECT left(activity_type::text, $9::int4), count(*), max(occurred_at)::timestamptz
    FROM audit_logs WHERE {IN_RANGE}
    GROUP BY activity_type ORDER BY count(*) DESC, activity_type LIMIT $10::int8
"""  # noqa: S608
_TYPES = """
    WITH RECURSIVE found (name) AS (
        (SELECT activity_type FROM audit_logs ORDER BY activity_type LIMIT 1)
        UNION ALL
        SELECT (
            SELECT activity_type FROM audit_logs WHERE activity_type > found.name
            ORDER BY activity_type LIMIT 1
        ) FROM found WHERE found.name IS NOT NULL
    )
    SELECT name::text FROM (SELECT name FROM found LIMIT $1::int8) AS first
    WHERE length(name) <= $2::int4
"""
"""From one type to the next in the index, past all entries of the same."""


class PostgresStatistics(PostgresReader):
    """Opened on entering; `url` as in DATABASE_URL."""

    async def summary(self, scope: Scope) -> Summary:
        [record] = await self.fetch(_SUMMARY, *in_scope(scope))
        return Summary(*record)

    async def by_bucket(self, scope: Scope, bucket: Bucket, clock: WallClock) -> Mapping[int, int]:
        arguments = (*in_scope(scope), clock.changes, clock.offsets)
        if bucket.months:
            return dict(await self.fetch(_BY_MONTHS, *arguments, bucket.months))
        return dict(await self.fetch(_BY_SECONDS, *arguments, FIRST_MONDAY, bucket.seconds))

    async def by_type(self, scope: Scope, limit: int) -> Sequence[TypeCount]:
        records = await self.fetch(_BY_TYPE, *in_scope(scope), LONGEST_TYPE, limit)
        return [TypeCount(*record) for record in records]

    async def types(self, limit: int) -> Sequence[str]:
        return [name for (name,) in await self.fetch(_TYPES, limit, LONGEST_TYPE)]

    async def by_hour(self, scope: Scope, clock: WallClock) -> Mapping[int, int]:
        arguments = (*in_scope(scope), clock.changes, clock.offsets)
        return dict(await self.fetch(_BY_HOUR, *arguments, FIRST_MONDAY, HOURS_OF_WEEK))
