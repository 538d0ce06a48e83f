"""How large the cursors of real databases are, and what those that are too large repeat."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, Selection
from lykke_cli.application.hub_reader import HubReader
from lykke_cli.application.merge import Checkpoint
from lykke_cli.application.messages import format_time
from lykke_cli.application.reader import Begun
from lykke_cli.bootstrap import make_hub
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.postgresql import snapshots
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from lykke_cli.infrastructure.sealed_cursors import LONGEST, SealedCursors
from tests.builders import INSERT, entity, row, wire
from tests.servers import RedisServer

KEY = os.urandom(32)
USER = uuid.uuid4()
SELECTION = Selection(user_ids={USER})
NOW = datetime.now(UTC)
ROUNDS, EACH = 20, 200


@pytest.fixture
async def history(postgres_reader_url: str) -> AsyncIterator[PostgresHistory]:
    async with PostgresHistory(postgres_reader_url) as history:
        yield history


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
async def other(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def begin(history: PostgresHistory) -> Cursor:
    return [chunk async for chunk in history.begin(SELECTION)][-1].cursor


async def changes(history: PostgresHistory, cursor: Cursor) -> list[HistoryChunk]:
    return [chunk async for chunk in history.changes(SELECTION, cursor)]


def ids(chunks: list[HistoryChunk]) -> list[str]:
    return sorted(row.id for chunk in chunks for row in chunk.rows)


def carried(cursor: Cursor, pending: int = 0) -> Checkpoint:
    """As another process has it."""
    printed = {
        str(uuid.uuid4()): format_time(NOW - timedelta(seconds=n / 2)) for n in range(pending)
    }
    text = SealedCursors([KEY]).seal(USER, Checkpoint(cursor, printed, format_time(NOW)))
    assert len(text) <= LONGEST
    checkpoint = SealedCursors([KEY]).open(USER, text)
    assert checkpoint.pending in ({}, printed)
    return checkpoint


async def write(connection: asyncpg.Connection, count: int) -> None:
    """Rows, each in a transaction of its own, and some of somebody else between."""
    await connection.execute(
        f"""
        DO $$ BEGIN
            FOR n IN 1..{count} LOOP
                INSERT INTO audit_logs (id, user_id, activity_type, occurred_at)
                    VALUES (gen_random_uuid(), '{USER}', 'X', now() AT TIME ZONE 'UTC');
                COMMIT;
                FOR m IN 1..(random() * 4)::int LOOP
                    INSERT INTO audit_logs (id, user_id, activity_type, occurred_at)
                        VALUES (gen_random_uuid(), gen_random_uuid(), 'X', now());
                    COMMIT;
                END LOOP;
            END LOOP;
        END $$
        """  # noqa: S608
    )


@pytest.mark.parametrize("may_ask", [True, False])
async def test_while_a_transaction_with_savepoints_is_open_nothing_is_lost(
    history: PostgresHistory,
    connection: asyncpg.Connection,
    other: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    may_ask: bool,
) -> None:
    """Nor repeated, but where the role may not ask which transactions have ended, and then by
    a read that says so."""
    if not may_ask:
        monkeypatch.setattr(snapshots, "FAR_APART", 10**9)
    cursor = await begin(history)
    late = [entity(USER, occurred_at=NOW - timedelta(hours=9)) for _ in range(ROUNDS)]
    await connection.execute("BEGIN")
    found: list[str] = []
    was_exact = []
    for new in late:
        await connection.execute("SAVEPOINT one")
        await connection.execute(INSERT, *row(new))
        await write(other, EACH)
        chunks = await changes(history, cursor)
        was_exact.append(chunks[-1].exact)
        found += ids(chunks)
        opened = carried(chunks[-1].cursor, pending=9).cursor
        assert opened is not None
        cursor = opened
    await connection.execute("COMMIT")
    chunks = await changes(history, cursor)
    assert {str(one.id) for one in late} <= set(ids(chunks))
    assert len(set(found + ids(chunks))) == ROUNDS * EACH + ROUNDS
    if may_ask:
        assert all(was_exact) and len(found + ids(chunks)) == ROUNDS * EACH + ROUNDS
    else:
        assert was_exact[0] and not was_exact[-1]


@pytest.mark.parametrize("count", [40, 400])
async def test_a_table_of_many_partitions(
    history: PostgresHistory, connection: asyncpg.Connection, count: int
) -> None:
    """With other tables made between them, as the months go by."""
    await connection.execute(
        f"""
        DROP TABLE audit_logs;
        CREATE TABLE audit_logs (
            id uuid, user_id uuid NOT NULL, activity_type varchar NOT NULL,
            occurred_at timestamp NOT NULL, entity_id uuid, entity_type varchar, meta jsonb
        ) PARTITION BY HASH (user_id);
        DO $$ BEGIN
            FOR n IN 0..{count - 1} LOOP
                EXECUTE format('CREATE TABLE part_%s PARTITION OF audit_logs '
                    'FOR VALUES WITH (MODULUS {count}, REMAINDER %s)', n, n);
                FOR m IN 0..(random() * 3)::int LOOP
                    EXECUTE format('CREATE TYPE other_%s_%s AS (n int)', n, m);
                END LOOP;
            END LOOP;
        END $$;
        GRANT SELECT ON audit_logs TO reader;
        """
    )
    cursor = await begin(history)
    await write(connection, 5)
    chunks = await changes(history, cursor)
    assert len(ids(chunks)) == 5
    checkpoint = carried(chunks[-1].cursor, pending=9)
    assert checkpoint.cursor is not None and len(checkpoint.pending) == 9
    [after] = await changes(history, checkpoint.cursor)
    assert (after.rows, after.exact) == ((), True)


async def received(reader: HubReader) -> list[str]:
    """The entries that come next."""
    while not (found := [line.id for line in (await reader.next()).lines if line.id is not None]):
        pass
    return found


async def test_a_reader_of_a_hub_goes_on_from_memory_or_on_another_hub(
    redis_server: RedisServer,
    postgres_reader_url: str,
    connection: asyncpg.Connection,
    other: asyncpg.Connection,
) -> None:
    """The text has fewer witnesses than the place: the hub knows it all the same."""

    async def record() -> str:
        new = entity(USER)
        await connection.execute(INSERT, *row(new))
        with redis_server.client() as client:
            client.publish(f"auditlog:{USER}", wire(new))
        return str(new.id)

    for _ in range(4):
        await write(other, 20)
    settings = Settings(redis_server.url, postgres_reader_url)
    here, elsewhere = SealedCursors([KEY]), SealedCursors([KEY])
    async with asyncio.timeout(30), make_hub(settings) as hub, make_hub(settings) as another:
        async with hub.reader(USER) as stays:
            await stays.begun()
            async with hub.reader(USER, last=1) as reader:
                assert len(await received(reader)) == 1
                first = await record()
                assert await received(reader) == [first]
                assert reader.checkpoint is not None
                text = here.seal(USER, reader.checkpoint)
            new = await record()
            while new not in await received(stays):
                pass
            async with hub.reader(USER, resume=here.open(USER, text)) as reader:
                assert await reader.begun() == Begun("memory", True, True)
                assert await received(reader) == [new]
            async with another.reader(USER, resume=elsewhere.open(USER, text)) as reader:
                assert await reader.begun() == Begun("database", True, True)
                assert await received(reader) == [new]
