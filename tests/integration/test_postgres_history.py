"""What only PostgreSQL has: snapshots, subtransactions, transaction ids on a circle."""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from lykke_cli.application.gateways.history_protocol import Cursor, HistoryChunk, Selection
from lykke_cli.infrastructure.database.postgres_history import PostgresHistory
from tests.builders import INSERT, entity, insert, row
from tests.servers import PostgresServer

USER = uuid.uuid4()
SELECTION = Selection(user_id=USER)


@pytest.fixture
async def history(postgres_reader_url: str) -> AsyncIterator[PostgresHistory]:
    async with PostgresHistory(postgres_reader_url) as history:
        yield history


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def begin(history: PostgresHistory) -> HistoryChunk:
    return [chunk async for chunk in history.begin(SELECTION)][-1]


async def changes(history: PostgresHistory, cursor: Cursor) -> list[HistoryChunk]:
    return [chunk async for chunk in history.changes(SELECTION, cursor)]


def ids(chunks: list[HistoryChunk]) -> set[str]:
    return {row.entry.id for chunk in chunks for row in chunk.rows}


async def test_a_row_under_a_savepoint_is_not_lost(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str
) -> None:
    """The snapshot does not list the subtransaction, whose id is below the snapshot's xmax."""
    late = entity(USER)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(INSERT, *row(entity(uuid.uuid4())))
    async with connection.transaction():
        await connection.execute(INSERT, *row(late))
    await insert(postgres_url, [entity(USER)])  # moves xmax beyond the subtransaction

    first = await begin(history)
    visible = await connection.fetchval(
        "SELECT pg_visible_in_snapshot(xmin::text::xid8, pg_current_snapshot()) "
        "FROM audit_logs WHERE id = $1",
        late.id,
    )
    assert visible, "the trap this test is about"
    await transaction.commit()
    assert str(late.id) in ids(await changes(history, first.cursor))


async def test_what_is_in_doubt_is_told_until_it_is_settled(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(INSERT, *row(entity(uuid.uuid4())))
    known = entity(USER)
    await insert(postgres_url, [known])

    first = await begin(history)
    assert [(seen.entry.id, seen.settled) for seen in first.seen] == [(str(known.id), False)]
    [again, last] = await changes(history, first.cursor)
    assert [(r.entry.id, r.settled) for r in again.rows] == [(str(known.id), False)]

    await transaction.commit()
    [settled, last] = await changes(history, last.cursor)
    assert [(r.entry.id, r.settled) for r in settled.rows] == [(str(known.id), True)]
    assert ids(await changes(history, last.cursor)) == set()


async def test_freezing_changes_nothing(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str
) -> None:
    await insert(postgres_url, [entity(USER)])
    first = await begin(history)
    await connection.execute("VACUUM (FREEZE) audit_logs")
    assert ids(await changes(history, first.cursor)) == set()


@pytest.mark.parametrize(
    ("change", "notice"),
    [
        (lambda data: data | {"database": "elsewhere/1"}, "another database"),
        (lambda data: data | {"regions": [[2**40, *data["regions"][0][1:]]]}, "ahead of this"),
        (lambda data: data | {"regions": [[3 - 2**31, *data["regions"][0][1:]]]}, "two billion"),
        (lambda data: data | {"regions": "nonsense"}, "cannot be read"),
    ],
)
async def test_a_place_that_does_not_fit_is_told_and_read_again_by_time(
    history: PostgresHistory, postgres_url: str, change: object, notice: str
) -> None:
    now = datetime.now(UTC)
    recent = entity(USER, occurred_at=now - timedelta(minutes=10))
    await insert(postgres_url, [recent, entity(USER, occurred_at=now - timedelta(hours=3))])
    first = await begin(history)
    cursor = Cursor(change(first.cursor.data))  # type: ignore[operator]
    chunks = await changes(history, cursor)
    assert notice in str(chunks[0].notice)
    assert ids(chunks) == {str(recent.id)}
    assert (await changes(history, chunks[-1].cursor))[-1].notice is None


async def test_another_database_of_the_same_server_is_another(
    postgres_server: PostgresServer,
    make_postgres_database: Callable[..., str],
    history: PostgresHistory,
) -> None:
    """A dump restored under another name: transaction ids of the same server, other rows."""
    first = await begin(history)
    async with PostgresHistory(postgres_server.url(make_postgres_database())) as other:
        chunks = await changes(other, first.cursor)
        assert "another database" in str(chunks[0].notice)


async def test_reading_leaves_no_trace(
    history: PostgresHistory, connection: asyncpg.Connection, postgres_url: str
) -> None:
    """Read-only, no named statements, no session settings: PgBouncer may be between."""
    await insert(postgres_url, [entity(USER)])
    own = history._connection
    reads = history.begin(SELECTION, last=1)
    async for _ in reads:  # looked at in the middle of a read too
        own = history._connection
        assert (
            await own.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name > ''") == 0
        )
        assert await own.fetchval("SHOW transaction_read_only") == "on"
    assert await own.fetchval("SHOW TimeZone") == await connection.fetchval("SHOW TimeZone")
    assert await own.fetchval("SHOW statement_timeout") == "0"
