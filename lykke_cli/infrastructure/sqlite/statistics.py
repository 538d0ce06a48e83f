"""StatisticsProtocol on SQLite: every answer is an aggregate."""

from collections.abc import Mapping, Sequence

from lykke_cli.application.gateways.statistics_protocol import (
    LONGEST_TYPE,
    Scope,
    Summary,
    TypeCount,
)
from lykke_cli.application.wall_clock import Bucket, WallClock, hour_of_week
from lykke_cli.infrastructure.sqlite.reader import SqliteReader
from lykke_cli.infrastructure.sqlite.selection import IN_RANGE, in_scope

# The texts below are constants: whatever comes from outside is a parameter.
_SUMMARY = f"""
    SELECT count(*), count(DISTINCT activity_type), min(occurred_at), max(occurred_at)
    FROM audit_logs WHERE {IN_RANGE}
"""  # noqa: S608
# strftime would round: it gets the time without its fraction.
_GROUPED = f"""
    SELECT lykke_group(CAST(strftime('%s', substr(occurred_at, 1, 19)) AS INTEGER)), count(*)
    FROM audit_logs WHERE {IN_RANGE} GROUP BY 1
"""  # noqa: S608
_BY_TYPE = f"""
    SELECT substr(activity_type, 1, :longest), count(*), max(occurred_at)
    FROM audit_logs WHERE {IN_RANGE}
    GROUP BY activity_type ORDER BY count(*) DESC, activity_type LIMIT :limit
"""  # noqa: S608


class SqliteStatistics(SqliteReader):
    """Opened on entering; `url` is sqlite:///path."""

    async def summary(self, scope: Scope) -> Summary:
        [(entries, types, first, last)] = await self.fetch(_SUMMARY, in_scope(scope))
        if not entries:
            return Summary(0, 0, None, None)
        return Summary(entries, types, self.moment(first), self.moment(last))

    async def by_bucket(self, scope: Scope, bucket: Bucket, clock: WallClock) -> Mapping[int, int]:
        await self.define("lykke_group", lambda utc: bucket.index(clock.local(utc)))
        return dict(await self.fetch(_GROUPED, in_scope(scope)))

    async def by_type(self, scope: Scope, limit: int) -> Sequence[TypeCount]:
        arguments = in_scope(scope) | {"limit": limit, "longest": LONGEST_TYPE}
        return [
            TypeCount(str(activity_type), entries, self.moment(last))
            for activity_type, entries, last in await self.fetch(_BY_TYPE, arguments)
        ]

    async def by_hour(self, scope: Scope, clock: WallClock) -> Mapping[int, int]:
        await self.define("lykke_group", lambda utc: hour_of_week(clock.local(utc)))
        return dict(await self.fetch(_GROUPED, in_scope(scope)))
