"""A partitioned table: by range and by hash, its partitions come and go, rows move."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from lykke_cli.application.gateways.history_protocol import Cursor, Selection
from lykke_cli.infrastructure.postgresql.cursor import Understood
from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from lykke_cli.infrastructure.postgresql.witnesses import understood
from tests.builders import INSERT, entity, insert, row
from tests.databases import page_by_page
from tests.servers import READER_PASSWORD, PostgresServer

USER = uuid.uuid4()
SELECTION = Selection(user_ids={USER})
NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=400)
BY_RANGE, BY_HASH = ("occurred_at", "RANGE"), ("user_id", "HASH")
DEFINITION = """
    DROP TABLE audit_logs;
    CREATE TABLE audit_logs (
        id uuid, user_id uuid NOT NULL, activity_type varchar NOT NULL,
        occurred_at timestamp NOT NULL, entity_id uuid, entity_type varchar, meta jsonb,
        PRIMARY KEY (id, {key})
    ) PARTITION BY {how} ({key});
    GRANT SELECT ON audit_logs TO reader;
"""


def around(moment: datetime, days: int) -> str:
    """The bounds of a partition by range."""
    first, last = moment - timedelta(days=days), moment + timedelta(days=days)
    return f"FOR VALUES FROM ('{first:%Y-%m-%d}') TO ('{last:%Y-%m-%d}')"


def by_remainder(number: int, of: int = 3) -> str:
    """The bounds of a partition by hash."""
    return f"FOR VALUES WITH (MODULUS {of}, REMAINDER {number})"


RECENT_BOUNDS, OLD_BOUNDS = around(NOW, 100), around(OLD, 9)
DETACH_OLD = "ALTER TABLE audit_logs DETACH PARTITION old"


class Table:
    """The partitioned table, as its owner."""

    def __init__(self, connection: asyncpg.Connection, url: str) -> None:
        self.execute = connection.execute
        self.url = url

    async def write(self, occurred_at: datetime = NOW, into: str = "audit_logs") -> str:
        """An entry of its own transaction; returns its id."""
        new = entity(USER, occurred_at=occurred_at)
        await self.execute(INSERT.replace("audit_logs", into), *row(new))
        return str(new.id)

    async def partition(self, name: str, bounds: str) -> None:
        await self.execute(f"CREATE TABLE {name} PARTITION OF audit_logs {bounds}")

    async def attach(self, name: str, bounds: str) -> None:
        await self.execute(f"ALTER TABLE audit_logs ATTACH PARTITION {name} {bounds}")


async def partitioned(url: str, key: str, how: str) -> AsyncIterator[Table]:
    connection = await asyncpg.connect(url)
    await connection.execute(DEFINITION.format(key=key, how=how))
    yield Table(connection, url)
    await connection.close()


@pytest.fixture
async def by_range(postgres_url: str) -> AsyncIterator[Table]:
    """With a partition for this year."""
    async for table in partitioned(postgres_url, *BY_RANGE):
        await table.partition("recent", RECENT_BOUNDS)
        yield table


@pytest.fixture
async def by_hash(postgres_url: str) -> AsyncIterator[Table]:
    async for table in partitioned(postgres_url, *BY_HASH):
        for number in range(3):
            await table.partition(f"part_{number}", by_remainder(number))
        yield table


@pytest.fixture
async def by_inheritance(postgres_url: str) -> AsyncIterator[Table]:
    """With a table that inherits from it, as before there were partitions."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE child () INHERITS (audit_logs)")
    yield Table(connection, postgres_url)
    await connection.close()


class Follower:
    """Reads what was committed since its last read."""

    def __init__(self, history: PostgresHistory, *, in_portions: bool = False) -> None:
        self._history = history
        self._in_portions = in_portions
        self.cursor: Cursor

    async def begin(self) -> None:
        chunks = [chunk async for chunk in self._history.begin(SELECTION)]
        assert not [row for chunk in chunks for row in chunk.rows]
        self.cursor = chunks[-1].cursor

    async def read(self, *, recent_only: bool = True) -> list[str]:
        """And whatever it says that there is more to look at."""
        found, goes_on = list[str](), True
        while goes_on:
            changes = self._history.changes(
                SELECTION, self.cursor, recent_only=recent_only, portion=self._in_portions
            )
            async for chunk in changes:
                found += [row.id for row in chunk.rows]
                self.cursor = chunk.cursor
            recent_only, goes_on = False, chunk.goes_on
        return sorted(found)


@pytest.fixture(params=["whole", "in portions", "in slices"])
async def follower(
    request: pytest.FixtureRequest, postgres_reader_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Follower]:
    """With no right but to read the table itself."""
    if request.param == "in slices":
        page_by_page(monkeypatch)
    async with PostgresHistory(postgres_reader_url, chunk_rows=2) as history:
        yield Follower(history, in_portions=request.param != "whole")


async def test_what_is_written_into_a_new_partition_is_read_once(
    by_range: Table, follower: Follower
) -> None:
    await by_range.write()
    await follower.begin()
    await by_range.partition("old", OLD_BOUNDS)
    new = [await by_range.write(), await by_range.write(OLD)]
    assert await follower.read() == sorted(new)
    newer = await by_range.write(OLD)
    assert await follower.read(recent_only=False) == [newer]
    assert await follower.read(recent_only=False) == []


@pytest.mark.parametrize("recent_only", [True, False])
async def test_an_attached_partition_is_noticed_and_its_old_rows_are_read_once(
    by_range: Table, follower: Follower, recent_only: bool
) -> None:
    """Long committed, and long ago: neither its transactions nor its times are new."""
    await by_range.execute("CREATE TABLE archive (LIKE audit_logs)")
    archived = [await by_range.write(OLD, "archive") for _ in range(5)]
    await by_range.write()
    await follower.begin()
    new = [await by_range.write()]
    assert await follower.read() == new
    await by_range.attach("archive", OLD_BOUNDS)
    new = [await by_range.write()]
    assert await follower.read(recent_only=recent_only) == sorted([*archived, *new])
    for recent in (True, False):
        assert await follower.read(recent_only=recent) == []


async def test_a_read_that_ends_within_an_attached_partition_goes_on_there(
    by_range: Table, postgres_reader_url: str
) -> None:
    await by_range.execute("CREATE TABLE archive (LIKE audit_logs)")
    expected = [
        await by_range.write(OLD + timedelta(minutes=minute), "archive") for minute in range(7)
    ]
    async with PostgresHistory(postgres_reader_url, chunk_rows=2) as history:
        follower = Follower(history)
        await follower.begin()
        expected += [await by_range.write() for _ in range(7)]
        await by_range.attach("archive", OLD_BOUNDS)
        parts = [chunk async for chunk in history.changes(SELECTION, follower.cursor)]
        assert len(parts) > 7
        for stop, part in enumerate(parts):
            before = [row.id for chunk in parts[: stop + 1] for row in chunk.rows]
            follower.cursor = part.cursor
            assert sorted([*before, *await follower.read()]) == sorted(expected)
            assert await follower.read(recent_only=False) == []


async def test_a_partition_that_was_away_is_read_from_where_it_left(
    by_range: Table, follower: Follower
) -> None:
    """Detached, written to, and attached again: what it had is not read a second time."""
    await by_range.partition("old", OLD_BOUNDS)
    await by_range.write(OLD)
    await follower.begin()
    had = await by_range.write(OLD)
    assert await follower.read(recent_only=False) == [had]
    for _ in range(2):
        await by_range.execute(DETACH_OLD)
        new = [await by_range.write()]
        assert await follower.read() == new
        late = await by_range.write(OLD, "old")
        assert await follower.read(recent_only=False) == []
        await by_range.attach("old", OLD_BOUNDS)
        assert await follower.read() == [late]
        assert await follower.read(recent_only=False) == []


async def test_what_is_detached_once_a_snapshot_was_taken_does_not_count_as_read(
    by_range: Table, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot shows a partition that no statement reads any more."""
    await by_range.partition("old", OLD_BOUNDS)
    await follower.begin()
    missed = await by_range.write(OLD)

    async def meanwhile(*args: Any) -> Understood:
        with suppress(asyncpg.LockNotAvailableError):
            await by_range.execute("SET LOCAL lock_timeout = '1s'; " + DETACH_OLD)
        return await understood(*args)

    with monkeypatch.context() as patch:
        patch.setattr("lykke_cli.infrastructure.postgresql.changes.understood", meanwhile)
        assert await follower.read(recent_only=False) == [missed]


async def test_what_inherits_no_more_once_a_snapshot_was_taken_does_not_count_as_read(
    by_inheritance: Table, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with partitions; but it waits for nobody who reads the table that it inherits from."""
    await follower.begin()
    missed = await by_inheritance.write(OLD, into="child")

    async def meanwhile(*args: Any) -> Understood:
        with suppress(asyncpg.LockNotAvailableError):
            await by_inheritance.execute(
                "SET LOCAL lock_timeout = '1s'; ALTER TABLE child NO INHERIT audit_logs"
            )
        return await understood(*args)

    with monkeypatch.context() as patch:
        patch.setattr("lykke_cli.infrastructure.postgresql.changes.understood", meanwhile)
        assert await follower.read(recent_only=False) == [missed]


async def test_what_is_being_detached_does_not_count_as_read(
    by_range: Table, follower: Follower
) -> None:
    """It waits for others, who still see it."""
    await by_range.partition("old", OLD_BOUNDS)
    await follower.begin()
    missed = await by_range.write(OLD)
    sees_it, detaches = [await asyncpg.connect(by_range.url) for _ in range(2)]
    await sees_it.execute("BEGIN; SELECT FROM audit_logs")
    detaching = asyncio.create_task(detaches.execute(DETACH_OLD + " CONCURRENTLY"))
    async with asyncio.timeout(20):
        pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending"
        while not await sees_it.fetchval(pending):
            pass
    assert await follower.read(recent_only=False) == []
    await sees_it.close()
    await detaching
    await detaches.close()
    await by_range.attach("old", OLD_BOUNDS)
    assert await follower.read() == [missed]


async def test_the_table_becomes_a_partition_of_another(
    by_range: Table, follower: Follower
) -> None:
    """As a table is partitioned that was not: its rows are not new."""
    await by_range.execute("DROP TABLE audit_logs")
    await by_range.execute(
        "CREATE TABLE audit_logs (id uuid, user_id uuid NOT NULL, activity_type varchar NOT NULL,"
        "occurred_at timestamp NOT NULL, entity_id uuid, entity_type varchar, meta jsonb);"
        "GRANT SELECT ON audit_logs TO reader"
    )
    await by_range.write()
    await follower.begin()
    await by_range.execute(
        """
        ALTER TABLE audit_logs RENAME TO before;
        CREATE TABLE audit_logs (LIKE before) PARTITION BY RANGE (occurred_at);
        CREATE TABLE beyond PARTITION OF audit_logs DEFAULT;
        ALTER TABLE audit_logs ATTACH PARTITION before FOR VALUES FROM ('2000-01-01') TO (MAXVALUE);
        GRANT SELECT ON audit_logs TO reader;
        """
    )
    new = await by_range.write()
    assert await follower.read() == [new]


async def test_rows_in_partitions_by_hash_are_read_once(by_hash: Table, follower: Follower) -> None:
    await by_hash.write()
    await follower.begin()
    others = [entity(uuid.uuid4()) for _ in range(20)]
    await insert(by_hash.url, others)
    new = [await by_hash.write() for _ in range(20)]
    assert await follower.read() == sorted(new)
    for number in range(3):
        await by_hash.execute(f"ALTER TABLE audit_logs DETACH PARTITION part_{number}")
        assert await follower.read(recent_only=False) == []
        await by_hash.attach(f"part_{number}", by_remainder(number))
        assert await follower.read(recent_only=False) == []


@pytest.mark.parametrize("how", ["by_range", "by_hash"])
async def test_what_was_back_dated_before_the_start_is_not_new_after_a_restart(
    request: pytest.FixtureRequest, own_postgres: PostgresServer, how: str
) -> None:
    """It was written last, and occurred long before the newest."""
    database = own_postgres.make_database()
    url = own_postgres.url(database)
    async for table in partitioned(url, *(BY_RANGE if how == "by_range" else BY_HASH)):
        if how == "by_range":
            await table.partition("recent", RECENT_BOUNDS)
            await table.partition("old", OLD_BOUNDS)
        else:
            await table.partition("part_0", by_remainder(0, of=1))
        await table.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        for _ in range(20):
            await table.write()
        await table.write(OLD)
    reader = own_postgres.url(database, "reader", READER_PASSWORD)
    async with PostgresHistory(reader) as history:
        follower = Follower(history)
        await follower.begin()
    own_postgres.restart()
    new = entity(USER)
    await insert(url, [new])
    async with PostgresHistory(reader) as history:
        follower._history = history
        assert await follower.read(recent_only=False) == [str(new.id)]
