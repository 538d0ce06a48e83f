"""The newest entries that match, whatever decides on it: on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from lykke_cli.application.backfill import Range, read_range
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import (
    HistoryChunk,
    HistoryProtocol,
    HistoryRow,
    Selection,
)
from lykke_cli.application.messages import Arrival
from lykke_cli.bootstrap import make_history
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.database.chunk_size import FIRST_ROWS, GROWTH
from tests.builders import entity, insert
from tests.contract.conftest import Urls
from tests.contract.test_history_contract import OUTSIDE, insert_at

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
ANNA, BEA = UUID(int=1), UUID(int=2)
TYPES = ("TASK_DONE", "TASK_PUNTED", "Moved")
MINUTES = 12  # of them many entries share one
ENTRIES = 60
QUESTIONS = 30  # random ones, of each database

Matches = Callable[[AuditLogEntity], bool]
FILTERS: list[tuple[dict[str, Any], Matches]] = [
    ({}, lambda e: True),
    ({"activity_types": ("TASK_*",)}, lambda e: e.activity_type != "Moved"),
    ({"activity_types": ("TASK_D*", "[M]*")}, lambda e: e.activity_type != "TASK_PUNTED"),
    ({"excluded_types": ("TASK_DONE",)}, lambda e: e.activity_type != "TASK_DONE"),
    ({"excluded_types": ("[A-L]*", "*_DONE")}, lambda e: e.activity_type != "TASK_DONE"),
    ({"grep": '"n": ?[1-3]'}, lambda e: e.meta["n"] in (1, 2, 3)),
    ({"not_grep": '"n": ?[1-3]'}, lambda e: e.meta["n"] not in (1, 2, 3)),
    ({"query": "meta.n > `6`"}, lambda e: e.meta["n"] > 6),
    (
        {"query": "meta.n < `4`", "activity_types": ("Moved",)},
        lambda e: e.meta["n"] < 4 and e.activity_type == "Moved",
    ),
    ({"grep": "is not there"}, lambda e: False),
]


@pytest.fixture
async def history(urls: Urls) -> AsyncIterator[HistoryProtocol]:
    async with make_history(Settings(database_url=urls.reader)) as history:
        yield history


def random_entry(random: Random) -> AuditLogEntity:
    return entity(
        random.choice((ANNA, BEA)),
        random.choice(TYPES),
        NOON + timedelta(minutes=random.randrange(MINUTES)),
        {"n": random.randrange(9)},
    )


def matching(rows: Sequence[HistoryRow], filters: Filters) -> list[str]:
    arrivals = [Arrival(row, "history") for row in rows]
    return [arrival.message.id for arrival in filters.select(arrivals)]  # type: ignore[union-attr]


async def begun(history: HistoryProtocol, *args: Any, **options: Any) -> list[HistoryChunk]:
    return [chunk async for chunk in history.begin(*args, **options)]


async def test_they_are_what_a_model_says(urls: Urls, history: HistoryProtocol) -> None:
    """Random entries, filters, ranges and numbers; whatever reads, and wherever it goes on."""
    random = Random(13)
    entries = [random_entry(random) for _ in range(ENTRIES)]
    await insert(urls.owner, entries)
    for _ in range(QUESTIONS):
        history._chunk_rows = random.randrange(3, 30)  # type: ignore[attr-defined]
        user, (fields, matches) = random.choice((None, ANNA)), random.choice(FILTERS)
        since, until = (
            random.choice((None, NOON + timedelta(minutes=random.randrange(MINUTES))))
            for _ in range(2)
        )
        filters, number = Filters(**fields, until=until), random.randrange(1, 20)
        expected = [
            str(e.id)
            for e in sorted(entries, key=lambda e: (e.occurred_at, e.id))
            if user in (None, e.user_id)
            and (since is None or e.occurred_at >= since)
            and (until is None or e.occurred_at < until)
            and matches(e)
        ]
        users = None if user is None else {user}
        for wanted, answer in (
            (Range(since=since, last=number), expected[-number:]),
            (Range(since=since, first=number), expected[:number]),
        ):
            async with aclosing(read_range(history, users, filters, wanted)) as parts:
                found = [a.message.id async for part in parts for a in part]  # type: ignore[union-attr]
            assert found == answer, (fields, wanted)

        selection = filters.selection(users)
        chunks = await begun(history, selection, since=since, last=number, wanted=filters.wants)
        assert matching([row for c in chunks for row in c.rows], filters) == expected[-number:]
        stop = random.randrange(len(chunks))
        rows = [row for chunk in chunks[: stop + 1] for row in chunk.rows]
        later = history.changes(selection, chunks[stop].cursor)
        rows += [row async for chunk in later for row in chunk.rows]
        assert matching(rows, filters) == expected[-number:]


async def test_they_begin_with_the_oldest_that_counts(urls: Urls, history: HistoryProtocol) -> None:
    """Outside of the calendar too; and what is older is covered from the first chunk on."""
    random = Random(14)
    await insert(urls.owner, [random_entry(random) for _ in range(8)])
    for text in [*OUTSIDE, *OUTSIDE]:
        await insert_at(urls.owner, ANNA, text)
    selection = Selection(user_ids=None)
    rows = [row.id async for part in history.stream(selection) for row in part]
    for _ in range(QUESTIONS):
        history._chunk_rows = random.randrange(2, 9)  # type: ignore[attr-defined]
        chosen = set(random.sample(rows, random.randrange(len(rows))))
        number = random.randrange(len(rows))
        places = [place for place, id in enumerate(rows) if id in chosen]
        counted = places[len(places) - min(number, len(places)) :]
        expected = rows[counted[0] :] if counted else []

        def wanted(some: Sequence[HistoryRow], chosen: set[str] = chosen) -> list[bool]:
            return [row.id in chosen for row in some]

        stream = history.stream(selection, last=number, wanted=wanted)
        assert [row.id async for part in stream for row in part] == expected
        chunks = await begun(history, selection, last=number, wanted=wanted)
        assert [row.id for chunk in chunks for row in chunk.rows] == expected
        later = history.changes(selection, chunks[0].cursor)
        assert [row.id async for chunk in later for row in chunk.rows] == expected


async def test_no_more_is_looked_at_than_is_needed(urls: Urls, history: HistoryProtocol) -> None:
    random = Random(15)
    await insert(urls.owner, [random_entry(random) for _ in range(20 * FIRST_ROWS)])
    looked_at: list[int] = []

    def wanted(rows: Sequence[HistoryRow]) -> list[bool]:
        looked_at.append(len(rows))
        return [True] * len(rows)

    stream = history.stream(Selection(user_ids=None), last=FIRST_ROWS, wanted=wanted)
    assert len([row async for part in stream for row in part]) == FIRST_ROWS
    assert sum(looked_at) <= (1 + GROWTH) * FIRST_ROWS
