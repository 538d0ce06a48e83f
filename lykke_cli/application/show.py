"""One entry by its id or the beginning of it, and what else happened to what it is about."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from uuid import UUID

from lykke_cli.application.errors import BadInput, UsageMistake
from lykke_cli.application.gateways.history_protocol import HistoryProtocol, HistoryRow, Selection
from lykke_cli.application.messages import Entry

MOST_NAMED = 10
AROUND = timedelta(minutes=30)
"""Before and after the entry."""
MOST_AROUND = 10
"""On each side, the nearest."""


class SeveralFound(UsageMistake):
    """Several entries have an id that begins like this."""

    def __init__(self, prefix: str, entries: Sequence[HistoryRow]) -> None:
        more = " and more" if len(entries) > MOST_NAMED else ""
        super().__init__(
            f"Several entries have an id that begins with {prefix!r}, those above{more}: give more "
            "of it."
        )
        self.entries = entries[:MOST_NAMED]


async def find_entry(history: HistoryProtocol, prefix: str) -> HistoryRow:
    """The one entry whose id begins with `prefix`: lower-case hexadecimal digits, no dashes.

    Raises SeveralFound, and BadInput when there is none.
    """
    found = await history.find(prefix, MOST_NAMED + 1)
    if not found:
        raise BadInput(f"No entry in this database has an id that begins with {prefix!r}.")
    if len(found) > 1:
        raise SeveralFound(prefix, found)
    return found[0]


async def happened_around(history: HistoryProtocol, entry: Entry) -> Sequence[HistoryRow]:
    """What else happened to the entry's entity within AROUND, oldest first."""
    if entry.entity_id is None:
        return ()
    about = Selection(user_ids=None, entity_id=UUID(entry.entity_id))
    moment = entry.moment
    start, end = _moved(moment, -AROUND), _moved(moment, AROUND)
    before = history.stream(about, since=start, until=moment, last=MOST_AROUND)
    # The entry itself is one of them.
    since = history.stream(about, since=moment, until=end, limit=MOST_AROUND + 1)
    after = [row for row in await _rows(since) if row.id != entry.id]
    return [*await _rows(before), *after[:MOST_AROUND]]


async def _rows(batches: AsyncGenerator[Sequence[HistoryRow]]) -> list[HistoryRow]:
    async with aclosing(batches) as parts:
        return [row async for rows in parts for row in rows]


def _moved(moment: datetime, by: timedelta) -> datetime | None:
    """None beyond the ends of the calendar."""
    try:
        return moment + by
    except OverflowError:
        return None
