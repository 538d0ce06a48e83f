"""Which entries of history a range is, where the database cannot say it all."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import msgspec
import pytest

from lykke_cli.application.backfill import Range, read_range
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import HistoryProtocol, HistoryRow
from lykke_cli.application.messages import Entry, decode
from tests.builders import entity, wire

TOGETHER = 2  # rows that the history gives at a time


class History:
    """Rows in memory; it ignores what a database would apply."""

    def __init__(self, rows: Sequence[Entry]) -> None:
        self._rows = rows
        self.given = 0

    async def stream(self, *args: Any, **options: Any) -> AsyncGenerator[Sequence[HistoryRow]]:
        for start in range(0, len(self._rows), TOGETHER):
            part = self._rows[start : start + TOGETHER]
            self.given += len(part)
            yield part


def numbered(number: int) -> Entry:
    entry = decode(wire(entity()))
    assert isinstance(entry, Entry)
    return msgspec.structs.replace(entry, meta=msgspec.Raw(b'{"n":%d}' % number))


@pytest.mark.parametrize(
    ("limit", "numbers", "given"), [(1, [5], 6), (2, [5, 6], 8), (9, [5, 6, 7], 8)]
)
async def test_a_limit_counts_what_matches_and_reading_ends_with_it(
    limit: int, numbers: list[int], given: int
) -> None:
    rows = [numbered(n) for n in range(8)]
    history, filters = History(rows), Filters(query="meta.n >= `5`")
    parts = read_range(cast(HistoryProtocol, history), None, filters, Range(first=limit))
    found = [arrival.message async for part in parts for arrival in part]
    assert found == [rows[n] for n in numbers]
    assert history.given == given
