"""The table in three parts: what occurred within the calendar, before it and after it.

PostgreSQL also knows times before Christ, after the year 9999 and at infinity. Python does not.
For reading, what occurred at such a time occurred at the first or the last moment of the calendar,
and is in the order of its ids.
"""

from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from lykke_cli.application.gateways.history_protocol import HistoryRow
from lykke_cli.application.messages import format_time, parse_wire_time
from lykke_cli.infrastructure.database import regions
from lykke_cli.infrastructure.database.regions import SortKey
from lykke_cli.infrastructure.postgresql.rows import columns

_FIRST = "'0001-01-01 00:00:00+00'::timestamptz"
_LAST = "'9999-12-31 23:59:59.999999+00'::timestamptz"
CLAMPED = f"least(greatest(occurred_at::timestamptz, {_FIRST}), {_LAST})"
"""The moment of any row, for its sort key."""
_IS_READABLE = f"occurred_at >= {_FIRST} AND occurred_at < '10000-01-01 00:00:00+00'::timestamptz"


ANYWHEN = f"""
    {columns(f"CASE WHEN {_IS_READABLE} THEN occurred_at::timestamptz END")}, occurred_at::text
"""
"""What is read of a row whenever it occurred."""


class Part(NamedTuple):
    """A part of the table, in the words of a statement."""

    where: str
    """The condition of its rows."""
    moment: str
    """The moment of a row, for its sort key."""
    columns: str
    """What is read of a row."""
    order: tuple[str, str]
    """Oldest first, and newest first."""
    edge: datetime | None = None
    """The moment, where it is the same for all rows."""

    def sort_key(self, row: HistoryRow) -> SortKey:
        return (self.edge or parse_wire_time(row.occurred_at), row.id)


def _outside(where: str, moment: str, edge: datetime) -> Part:
    return Part(where, moment, ANYWHEN, ("id", "id DESC"), edge)


BEFORE = _outside(f"occurred_at <= {_FIRST}", _FIRST, regions.START_OF_TIME)
WITHIN = Part(
    f"occurred_at > {_FIRST} AND occurred_at < {_LAST}",
    "occurred_at",
    columns("occurred_at::timestamptz"),
    # By the columns themselves, which have an index in this order, not by their texts.
    ("audit_logs.occurred_at, audit_logs.id", "audit_logs.occurred_at DESC, audit_logs.id DESC"),
)
AFTER = _outside(f"occurred_at >= {_LAST}", _LAST, regions.END_OF_TIME)
PARTS = (BEFORE, WITHIN, AFTER)


def key_parameters(key: SortKey) -> tuple[str, str]:
    """A sort key as texts: as times, asyncpg would send the first and the last as infinite."""
    return format_time(key[0]), key[1] or str(UUID(int=0))


def entering_at(
    moment: datetime, since: datetime | None, until: datetime | None, *, newest_first: bool
) -> tuple[datetime | None, datetime | None]:
    """The same range of time, from `moment` on in its order: an index is entered there.

    By the sort key alone it would be read from its end on.
    """
    if moment in (regions.START_OF_TIME, regions.END_OF_TIME):
        return since, until  # what is outside of the calendar is at them
    if newest_first:
        end = moment + timedelta(microseconds=1)
        return since, end if until is None else min(until, end)
    return moment if since is None else max(since, moment), until
