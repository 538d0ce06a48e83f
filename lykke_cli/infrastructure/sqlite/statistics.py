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
_TYPES = """
    WITH RECURSIVE found (name) AS (
        SELECT min(activity_type) FROM audit_logs
        UNION ALL
        SELECT (SELECT min(activity_type) FROM audit_logs WHERE activity_type > found.name)
        FROM found WHERE found.name IS NOT NULL
        LIMIT :limit
    )
    SELECT name FROM found WHERE length(name) <= :longest
"""
"""From one type to the next in the index, past all entries of the same."""


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

    async def types(self, limit: int) -> Sequence[str]:
        found = await self.fetch(_TYPES, {"limit": limit, "longest": LONGEST_TYPE})
        return [str(name) for (name,) in found]

    async def by_hour(self, scope: Scope, clock: WallClock) -> Mapping[int, int]:
        await self.define("lykke_group", lambda utc: hour_of_week(clock.local(utc)))
        return dict(await self.fetch(_GROUPED, in_scope(scope)))
