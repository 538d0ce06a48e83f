"""A server that does not look at all of a table within the time that a statement is given."""

import random
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from lykke_cli.application.errors import TimedOut
from lykke_cli.application.gateways.history_protocol import Selection
from lykke_cli.domain.audit_log import AuditLogEntity
from lykke_cli.infrastructure.postgresql.calendar import WITHIN
from lykke_cli.infrastructure.postgresql.fetching import Fetcher
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.builders import entity, insert

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 60
MOST_LOOKED_AT = 30
EVERYBODY = Selection(user_ids=None)
RARE = Selection(user_ids=None, entity_type="rare")
_BETWEEN = """
    SELECT count(*) FROM audit_logs
    WHERE occurred_at >= coalesce($1::text::timestamptz, '-infinity')
        AND occurred_at <= coalesce($2::text::timestamptz, 'infinity')
"""


@pytest.fixture(autouse=True)
def broken_off(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows there were each time in what took the server too long."""
    fetch, found = Fetcher.fetch, list[int]()

    async def fetched(
        self: Fetcher, connection: Any, query: str, arguments: Sequence[Any]
    ) -> AsyncGenerator[list[tuple[Any, ...]]]:
        bounds = (each and str(each) for each in arguments[6:8])
        rows = await connection.fetchval(_BETWEEN, *bounds) if WITHIN.where in query else 0
        if rows > MOST_LOOKED_AT:
            found.append(rows)
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
        async for records in fetch(self, connection, query, arguments):
            yield records

    monkeypatch.setattr(Fetcher, "fetch", fetched)
    return found


@pytest.fixture
async def history(postgres_reader_url: str) -> AsyncIterator[PostgresHistory]:
    async with PostgresHistory(postgres_reader_url, chunk_rows=3) as history:
        yield history


def entities(chance: random.Random, kind: str = "usual") -> list[AuditLogEntity]:
    """Most are of one day, the others of the weeks before it."""
    ages = [timedelta(hours=24 * chance.random()) for _ in range(ROWS - 20)]
    ages += [timedelta(days=chance.randrange(1, 40)) for _ in range(20)]
    return [
        entity(uuid.uuid4(), occurred_at=START - age, entity_type=kind if n % 20 else "rare")
        for n, age in enumerate(ages)
    ]


def in_order(entities: Sequence[AuditLogEntity]) -> list[str]:
    return [str(e.id) for e in sorted(entities, key=lambda e: (e.occurred_at, str(e.id)))]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [None, 2])
async def test_a_range_is_read_in_its_order_all_the_same(
    history: PostgresHistory,
    postgres_url: str,
    broken_off: list[int],
    seed: int,
    newest_first: bool,
    limit: int | None,
) -> None:
    written = entities(random.Random(seed))
    await insert(postgres_url, written)
    rare = [e for e in written if e.entity_type == "rare"]
    for selection, expected in (EVERYBODY, in_order(written)), (RARE, in_order(rare)):
        found = [
            row.id
            async for rows in history.stream(selection, newest_first=newest_first, limit=limit)
            for row in rows
        ]
        assert found == (expected[::-1] if newest_first else expected)[:limit]
    assert ROWS in broken_off


async def test_within_bounds_it_is_no_less(
    history: PostgresHistory, postgres_url: str, broken_off: list[int]
) -> None:
    written = entities(random.Random(5))
    await insert(postgres_url, written)
    since, until = START - timedelta(days=30), START - timedelta(hours=1)
    found = [
        row.id async for rows in history.stream(EVERYBODY, since=since, until=until) for row in rows
    ]
    assert found == in_order([e for e in written if since <= e.occurred_at < until])
    assert broken_off


@pytest.mark.parametrize("selection", [EVERYBODY, RARE])
async def test_what_was_committed_since_a_time_and_then_since_that_comes_once(
    history: PostgresHistory, postgres_url: str, broken_off: list[int], selection: Selection
) -> None:
    chance = random.Random(7)
    written, later = entities(chance), entities(chance)
    await insert(postgres_url, written)
    since, found = START - timedelta(days=30), Counter[str]()
    async for chunk in history.begin(selection, since=since):
        found.update(row.id for row in chunk.rows)
        cursor = chunk.cursor
    await insert(postgres_url, later)
    async for chunk in history.changes(selection, cursor):
        found.update(row.id for row in chunk.rows)
        cursor = chunk.cursor
    wanted = [e for e in written if e.occurred_at >= since] + later
    wanted = [e for e in wanted if selection is EVERYBODY or e.entity_type == "rare"]
    assert found == dict.fromkeys(in_order(wanted), 1)
    assert len(broken_off) > 2
    [region] = cursor.data["groups"][0][1]
    assert region[1].startswith("0001-01-01")  # it has become one again


async def test_what_cannot_be_divided_is_told_as_it_is(
    history: PostgresHistory, postgres_url: str
) -> None:
    await insert(postgres_url, [entity(occurred_at=START) for _ in range(MOST_LOOKED_AT + 1)])
    with pytest.raises(TimedOut, match="did not answer in time"):
        _ = [rows async for rows in history.stream(EVERYBODY)]
