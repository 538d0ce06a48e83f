"""Which entries of history a range is, where the database cannot say it all."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import msgspec
import pytest

from lykke_cli.application.backfill import Range, catch_up, read_range
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import (
    Cursor,
    HistoryChunk,
    HistoryProtocol,
    HistoryRow,
)
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import Entry, decode
from lykke_cli.application.reconciling import MOST_BEGUN
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


class Portions:
    """Each read ends with the next of the `chunks`; it tells which were asked for as portions."""

    def __init__(self, *chunks: HistoryChunk) -> None:
        self._chunks = chunks
        self.asked: list[bool] = []

    async def changes(self, *args: Any, portion: bool, **_: Any) -> AsyncGenerator[HistoryChunk]:
        self.asked.append(portion)
        yield self._chunks[len(self.asked) - 1]


def portion(*, goes_on: bool = False, anew: bool = True, behind: bool = False) -> HistoryChunk:
    return HistoryChunk(
        rows=(), cursor=Cursor({}), last=True, goes_on=goes_on, anew=anew, behind=behind
    )


WHOLE = portion()
ANEW, MORE = portion(goes_on=True), portion(goes_on=True, anew=False)
END = portion(anew=False)


@pytest.mark.parametrize(
    ("chunks", "asked"),
    [
        pytest.param([WHOLE], [True], id="a table that is read at once"),
        pytest.param([ANEW, MORE, END], [True] * 3, id="one that is not"),
        pytest.param([MORE, END, ANEW, END], [True] * 4, id="after an earlier run's portions"),
        pytest.param([ANEW, MORE, ANEW, END], [True] * 4, id="with a partition that is new"),
        pytest.param(
            [ANEW] * (MOST_BEGUN + 1) + [WHOLE],
            [True] * (MOST_BEGUN + 1) + [False],
            id="several standbys in turns",
        ),
        pytest.param(
            [portion(goes_on=True, anew=False, behind=True), WHOLE],
            [True, False],
            id="a standby that lags",
        ),
    ],
)
async def test_it_is_read_in_portions_to_the_end_of_all_that_begin_after_it_was_asked_for(
    chunks: list[HistoryChunk], asked: list[bool]
) -> None:
    history, place = Portions(*chunks), Checkpoint(Cursor({}), {}, None)
    reading = catch_up(cast(HistoryProtocol, history), None, Filters(), resume=place, since=None)
    saved = [event async for event in reading]
    assert history.asked == asked
    assert len(saved) == len(asked)
