"""Who reads history may be slow: nothing is lost, nothing hangs, and the application goes on."""

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import asyncpg
import orjson
import pytest

from lykke_cli.application.gateways.history_protocol import HistoryProtocol, Selection
from lykke_cli.infrastructure.database import handover
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from lykke_cli.infrastructure.sqlite.history import SqliteHistory
from tests.builders import entity, insert
from tests.servers import PostgresServer

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
USER = uuid.uuid4()
SELECTION = Selection(user_ids={USER})
ROWS = 60
Read = Callable[[HistoryProtocol], AsyncIterator[list[str]]]


async def by_stream(history: HistoryProtocol) -> AsyncIterator[list[str]]:
    async for rows in history.stream(SELECTION):
        yield [row.id for row in rows]


async def by_lines(history: HistoryProtocol) -> AsyncIterator[list[str]]:
    async for block in history.lines(SELECTION):
        yield [orjson.loads(line)["id"] for line in block.splitlines()]


async def by_begin(history: HistoryProtocol) -> AsyncIterator[list[str]]:
    async for chunk in history.begin(SELECTION, since=NOON):
        yield [row.id for row in chunk.rows]


async def by_changes(history: HistoryProtocol) -> AsyncIterator[list[str]]:
    """From before the first row, as a stored place would."""
    first = await anext(history.begin(SELECTION, since=NOON))
    async for chunk in history.changes(SELECTION, first.cursor):
        yield [row.id for row in chunk.rows]


reads = pytest.mark.parametrize("read", [by_stream, by_lines, by_begin, by_changes])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "STALL", 0.1)
    monkeypatch.setattr("lykke_cli.infrastructure.postgresql.lines.FIRST_ROWS", 2)
    monkeypatch.setattr("lykke_cli.infrastructure.postgresql.lines.MOST_ROWS", 4)


async def fill(url: str) -> list[str]:
    entities = [
        entity(USER, occurred_at=NOON + timedelta(minutes=n // 3), meta={"t": "x" * 30_000})
        for n in range(ROWS)
    ]
    await insert(url, entities)
    return sorted(str(e.id) for e in entities)


@pytest.fixture
async def history(postgres_reader_url: str) -> AsyncIterator[PostgresHistory]:
    async with PostgresHistory(postgres_reader_url, chunk_rows=3) as history:
        yield history


@reads
async def test_a_reader_that_has_stopped_holds_up_nothing(
    history: PostgresHistory, postgres_url: str, read: Read
) -> None:
    """An ALTER TABLE would wait behind its lock, and every INSERT behind that."""
    expected = await fill(postgres_url)
    parts = read(history)
    found = await anext(parts)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("SET lock_timeout = '10s'; ALTER TABLE audit_logs ADD extra int")
    await connection.execute("ALTER TABLE audit_logs DROP extra")
    await connection.close()
    async for ids in parts:
        found += ids
    assert sorted(found) == expected


@reads
async def test_it_goes_on_where_the_server_has_ended_its_connections(
    history: PostgresHistory, postgres_server: PostgresServer, postgres_url: str, read: Read
) -> None:
    expected = await fill(postgres_url)
    found: list[str] = []
    ends = [1, 20, 40, ROWS + 1]
    parts = read(history)
    async for ids in parts:
        found += ids
        if len(found) >= ends[0]:
            ends.pop(0)
            await asyncio.to_thread(
                postgres_server.execute,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'",
            )
    assert sorted(found) == expected


@reads
async def test_the_other_writers_of_a_sqlite_file_go_on(sqlite_url: str, read: Read) -> None:
    expected = await fill(sqlite_url)
    async with SqliteHistory(sqlite_url, chunk_rows=3) as history:
        parts = read(history)
        found = await anext(parts)

        def write() -> None:
            with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as file:
                file.execute("CREATE TABLE extra (n)")

        await asyncio.to_thread(write)
        async for ids in parts:
            found += ids
    assert sorted(found) == expected
