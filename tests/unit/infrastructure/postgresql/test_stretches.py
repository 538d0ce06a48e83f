"""A range of time that was too long for one statement is read in parts, each once."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from lykke_cli.infrastructure.postgresql.stretches import SHORTER, Stretches

FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)


class Server:
    """Its table's first and last row occurred then."""

    def __init__(self, first: datetime | None = FIRST, last: datetime | None = LAST) -> None:
        self._bounds = first, last

    @asynccontextmanager
    async def take(self) -> AsyncIterator[tuple[Any, None]]:
        yield self, None

    async def fetchrow(self, _: str) -> tuple[datetime | None, datetime | None]:
        return self._bounds


def snapshots(*bounds: datetime | None) -> Any:
    return cast(Any, Server(*bounds))


def parts(
    stretches: Stretches, low: datetime | None, high: datetime | None, *, newest_first: bool
) -> Iterator[tuple[datetime | None, datetime | None]]:
    while (cut := stretches.cut(low, high)) is not None:
        yield (cut, high) if newest_first else (low, cut)
        low, high = (low, cut) if newest_first else (cut, high)
    yield low, high


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("low", [None, FIRST - YEAR, FIRST + YEAR / 3])
@pytest.mark.parametrize("high", [None, LAST + YEAR, LAST - YEAR / 3])
async def test_it_is_divided_into_parts_that_follow_each_other_from_end_to_end(
    low: datetime | None, high: datetime | None, newest_first: bool
) -> None:
    stretches = Stretches(newest_first=newest_first)
    assert [*parts(stretches, low, high, newest_first=newest_first)] == [(low, high)]
    for times in (1, 2):
        assert await stretches.shorten(snapshots(), low, high)
        found = [*parts(stretches, low, high, newest_first=newest_first)]
        in_order = found[::-1] if newest_first else found
        assert len(found) >= SHORTER**times
        assert [begin for begin, _ in in_order] == [low, *(end for _, end in in_order[:-1])]
        assert in_order[-1][1] == high


async def test_what_is_left_over_is_not_begun_again() -> None:
    stretches = Stretches()
    assert await stretches.shorten(snapshots(), None, None)
    cut = stretches.cut(None, None)
    assert cut is not None and FIRST < cut < LAST
    assert await stretches.shorten(snapshots(), cut, None)
    later = stretches.cut(cut, None)
    assert later is not None and cut < later < cut + (cut - FIRST)


async def test_a_table_without_rows_and_a_moment_cannot_be_divided() -> None:
    assert not await Stretches().shorten(snapshots(None, None), None, None)
    assert not await Stretches().shorten(snapshots(FIRST, FIRST), None, None)


async def test_it_ends_however_slow_the_server_is() -> None:
    stretches, times = Stretches(), 0
    while await stretches.shorten(snapshots(), None, None):
        times += 1
    assert times < 20
