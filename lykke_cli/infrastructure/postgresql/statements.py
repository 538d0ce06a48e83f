"""The statements that read history.

They are put together from constants: whatever comes from outside is a parameter.
"""

from collections.abc import Callable, Sequence

from lykke_cli.application.messages import format_time
from lykke_cli.infrastructure.database.regions import Region
from lykke_cli.infrastructure.postgresql.calendar import (
    ANYWHEN,
    CLAMPED,
    PARTS,
    WITHIN,
    Part,
    key_parameters,
)
from lykke_cli.infrastructure.postgresql.cursor import CIRCLE
from lykke_cli.infrastructure.postgresql.relations import TREE, Groups
from lykke_cli.infrastructure.postgresql.selection import IN_RANGE, SELECTED
from lykke_cli.infrastructure.postgresql.storage import End

_AGE = "CASE WHEN age(xmin) < 0 THEN 2147483647 ELSE age(xmin) END"


def _range_of(part: Part, *, newest_first: bool) -> str:
    return f"""
        SELECT {part.columns} FROM audit_logs WHERE {IN_RANGE} AND {part.where}
            AND ($9::text IS NULL
                OR ({part.moment}, id) {"<" if newest_first else ">"} ($9::timestamptz, $10::uuid))
        ORDER BY {part.order[newest_first]} LIMIT $11
    """  # noqa: S608


OLDEST_FIRST = [(part, _range_of(part, newest_first=False)) for part in PARTS]
NEWEST_FIRST = [(part, _range_of(part, newest_first=True)) for part in reversed(PARTS)]
"""After a range of time the parameters are a sort key to go on from, and a limit."""
FIRST_AND_LAST = f"""
    SELECT min(occurred_at)::timestamptz, max(occurred_at)::timestamptz
    FROM audit_logs WHERE {WITHIN.where}
"""  # noqa: S608
"""When the first and the last row within the calendar occurred."""
COUNT = f"SELECT count(*) FROM audit_logs WHERE {IN_RANGE}"  # noqa: S608
WITH_ID_BETWEEN = f"""
    SELECT {ANYWHEN} FROM audit_logs WHERE id BETWEEN $1::uuid AND $2::uuid
    ORDER BY audit_logs.id LIMIT $3  -- by the column, not by its text
"""  # noqa: S608
ESTIMATE = f"EXPLAIN (FORMAT JSON) SELECT 1 FROM audit_logs WHERE {SELECTED}"  # noqa: S608
"""How many rows there are, as the planner thinks."""
METAS = "SELECT id::text, meta::text FROM audit_logs WHERE id = ANY($1::text[]::uuid[])"

_NEWEST_PARTS = " UNION ALL ".join(
    f"""
        (SELECT {part.moment}::timestamptz AS moment, id FROM audit_logs
        WHERE {IN_RANGE} AND {part.where}
        ORDER BY {part.order[1]} LIMIT $9::bigint)
    """  # noqa: S608
    for part in PARTS
)
OLDEST_OF_NEWEST = f"""
    SELECT moment, id::text FROM (
        SELECT moment, id FROM ({_NEWEST_PARTS}) AS newest
        ORDER BY moment DESC, id DESC LIMIT $9::bigint
    ) AS newest ORDER BY moment, id LIMIT 1
"""  # noqa: S608
"""After a range of time the parameter is how many are looked among."""
VISIBLE = f"""
    SELECT DISTINCT xmin::text FROM audit_logs
    WHERE {SELECTED} AND ($7::text IS NULL OR ({CLAMPED}, id) <= ($7::timestamptz, $8::uuid))
        AND ($9::text IS NULL OR occurred_at >= $9::text::timestamptz)
        AND ($10::text IS NULL OR occurred_at <= $10::text::timestamptz)
"""  # noqa: S608
"""The transactions that wrote what is there up to a sort key, within a span of time."""

# Rows that bear witness.
_IN_REVERSE = "ORDER BY audit_logs.occurred_at DESC, audit_logs.id DESC"
NEWEST = f"SELECT xmin::text, id::text FROM audit_logs WHERE {SELECTED} {_IN_REVERSE} LIMIT $7"  # noqa: S608
WRITTEN_LAST = f"""
    SELECT string_agg(
        format(
            'SELECT xmin::text, id::text FROM ONLY %s WHERE ctid >= %L',
            relation::regclass, format('(%s,0)', greatest(pages - $1::int, 0))
        ), ' UNION ALL '
    )
    FROM ({TREE} ORDER BY relation DESC LIMIT $2) AS newest,
        LATERAL (
            SELECT pg_relation_size(relation) / current_setting('block_size')::int AS pages
        ) AS its
    WHERE pages > 0 AND has_table_privilege(relation, 'SELECT')
        AND current_setting('server_version_num')::int >= 140000  -- before, it would read all of it
"""  # noqa: S608
"""The statement, with the server's own names in it, for what is on the last pages of relations.

What was written last to a table that is only added to is there, whenever it occurred. A partition
is read past its table, where the role may.
"""
FOUND = "SELECT xmin::text, id::text FROM audit_logs WHERE id = ANY($1::text[]::uuid[])"


def changed(part: Part, groups: Groups) -> tuple[str, list[object]]:
    """The query for what of a part is not covered, and its parameters after the eighth.

    The seventh and the eighth are the first and the last moment of the rows that are looked at.
    """
    condition, arguments = uncovered(groups, 9, part.moment)
    query = f"""
        SELECT {part.columns} FROM audit_logs
        WHERE {SELECTED} AND ($7::text IS NULL OR occurred_at >= $7::text::timestamptz)
            AND ($8::text IS NULL OR occurred_at <= $8::text::timestamptz)
            AND {part.where} AND {condition}
        ORDER BY {part.order[0]}
    """  # noqa: S608
    return query, arguments


def uncovered_on_pages(groups: Groups) -> tuple[str, list[object]]:
    """The query for when what is not covered occurred, on pages from $7 up to, and without, $8."""
    condition, arguments = uncovered(groups, 9, CLAMPED)
    where = f"ctid >= $7::text::tid AND ctid < $8::text::tid AND {SELECTED} AND {condition}"
    return _times_of(f"SELECT {CLAMPED} AS moment FROM audit_logs WHERE {where}"), arguments  # noqa: S608


def times_at_ends(ends: Sequence[End], groups: Groups) -> tuple[str, list[object]]:
    """The same on the last pages of some relations, which are numbered in $7."""
    query, arguments = _uncovered_at_ends(f"{CLAMPED} AS moment", ends, groups)
    return _times_of(query), arguments


def written_at_ends(ends: Sequence[End], groups: Groups) -> tuple[str, list[object]]:
    """The query for the transactions of what is not covered there."""
    return _uncovered_at_ends("xmin::text", ends, groups)


def _uncovered_at_ends(
    column: str, ends: Sequence[End], groups: Groups
) -> tuple[str, list[object]]:
    condition, arguments = uncovered(groups, 8, CLAMPED)
    where = f"{SELECTED} AND {condition}"
    each = (
        f"SELECT {column} FROM ONLY {end.name} "  # noqa: S608
        f"WHERE ctid >= ($7::text[])[{number}]::tid AND {where}"
        for number, end in enumerate(ends, 1)
    )
    return " UNION ALL ".join(each), arguments


def _times_of(moments: str) -> str:
    """The first and the last moment in each hour."""
    return f"""
        SELECT min(moment), max(moment) FROM ({moments}) AS found
        GROUP BY date_trunc('hour', moment)
    """  # noqa: S608


def covered_of(groups: Groups) -> tuple[str, list[object]]:
    """The query for those of the ids in $7 that are covered, and its parameters after it."""
    condition, arguments = uncovered(groups, 8, CLAMPED)
    query = f"""
        SELECT id::text FROM audit_logs
        WHERE {SELECTED} AND id = ANY($7::uuid[]) AND NOT {condition}
    """  # noqa: S608
    return query, arguments


def uncovered(groups: Groups, first: int, moment: str) -> tuple[str, list[object]]:
    """The condition that a row of these relations is in no region that covers it.

    Its parameters are numbered from `first` on; `moment` is the expression for the moment of the
    row. What was attached after the snapshot was taken is in none of the relations: the next read
    finds it.
    """
    arguments = list[object]()

    def parameter(value: object) -> str:
        arguments.append(value)
        return f"${first + len(arguments) - 1}"

    conditions = ["FALSE"]
    for group in groups:
        relations = f"tableoid = ANY({parameter(sorted(group.relations))}::oid[])"
        within = [f"NOT ({_within(region, moment, parameter)})" for region in group.covered]
        conditions.append(" AND ".join([relations, *within]))
    return f"({' OR '.join(conditions)})", arguments


def _within(region: Region, moment: str, parameter: Callable[[object], str]) -> str:
    """The condition that the region covers a row."""
    # In a SELECT of its own it is worked out once, not for every row.
    before = f"(SELECT age({parameter(str(region.before % CIRCLE))}::text::xid))"
    condition = f"{_AGE} > {before}"
    if region.visible:
        # How many bounds of runs are at or below the row's position: an odd number within one.
        bounds = parameter([bound - region.before for bound in region.visible.bounds])
        bucket = f"width_bucket({before}::bigint - {_AGE}, {bounds}::bigint[])"
        condition = f"({condition} OR {bucket} % 2 = 1)"
    if not region.is_whole:
        low = parameter(format_time(region.low))
        high, id = map(parameter, key_parameters(region.high))
        condition += f" AND {moment} >= {low}::text::timestamptz"
        condition += f" AND ({moment}, id) <= ({high}::text::timestamptz, {id}::uuid)"
    return condition
