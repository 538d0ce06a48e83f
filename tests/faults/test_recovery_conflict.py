"""A standby that cancels whoever reads what its primary has removed (SQLSTATE 40001)."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lykke_cli.infrastructure.postgresql.history import PostgresHistory
from tests.faults.standby import Standby
from tests.faults.test_faults import fill as fill_past
from tests.faults.writer import Writer, everything
from tests.integration.infrastructure.database.test_handover import (
    ROWS,
    Read,
    by_begin,
    by_changes,
    by_lines,
    by_stream,
    fill,
)
from tests.servers import READER_PASSWORD, PostgresServer, RedisServer, wait_until

PAUSE = 0.05  # seconds between two conflicts


@pytest.fixture
def database(own_postgres: PostgresServer) -> str:
    return own_postgres.make_database()


@pytest.fixture
def standby(own_postgres: PostgresServer, database: str) -> Iterator[Standby]:
    """Waits for nobody."""
    own_postgres.execute("CREATE TABLE removed (n int)", database)
    with Standby(own_postgres) as made:
        made.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        made.execute("SELECT pg_reload_conf()")
        yield made


def cancelled(standby: Standby, database: str) -> int:
    """How many transactions it has cancelled."""
    query = "SELECT confl_snapshot FROM pg_stat_database_conflicts WHERE datname = '{}'"
    return int(standby.fetch_value(query.format(database)))


def conflict(primary: PostgresServer, database: str) -> None:
    primary.execute("INSERT INTO removed VALUES (1)", database)
    primary.execute("DELETE FROM removed", database)
    primary.execute("VACUUM removed", database)


@pytest.mark.parametrize("read", [by_stream, by_lines, by_begin, by_changes])
async def test_a_long_read_goes_on_by_its_place(
    own_postgres: PostgresServer,
    standby: Standby,
    database: str,
    read: Read,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lykke_cli.infrastructure.postgresql.lines.FIRST_ROWS", 2)
    monkeypatch.setattr("lykke_cli.infrastructure.postgresql.lines.MOST_ROWS", 4)
    expected = await fill(own_postgres.url(database))
    await asyncio.to_thread(standby.catch_up)
    url = standby.url(database, "reader", READER_PASSWORD)
    found: list[str] = []
    ends = [1, 20, 40, ROWS + 1]
    async with PostgresHistory(url, chunk_rows=3) as history:
        async for ids in read(history):
            found += ids
            if len(found) >= ends[0]:
                ends.pop(0)
                await asyncio.to_thread(conflict, own_postgres, database)
                await asyncio.to_thread(standby.catch_up)
    assert sorted(found) == expected
    # It counts them when the connection is gone.
    await asyncio.to_thread(wait_until, lambda: cancelled(standby, database), "one is cancelled")


@contextmanager
def conflicts(primary: PostgresServer, database: str) -> Iterator[None]:
    """One after the other for as long as the block lasts."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(PAUSE):
            conflict(primary, database)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_tail_goes_on_by_its_place(
    own_postgres: PostgresServer, standby: Standby, database: str, own_redis: RedisServer
) -> None:
    """From its first read on, and with the notice that entries may come later."""
    with Writer(own_postgres, database, own_redis, lose=0.3) as writer:
        fill_past(own_postgres.url(database), writer.user, 20_000)
        standby.catch_up()
        env = {
            "DATABASE_URL": standby.url(database, "reader", READER_PASSWORD),
            "REDIS_URL": own_redis.url,
        }
        with everything(writer, env) as tail:
            with conflicts(own_postgres, database):
                tail.wait_for("following")
                for number in range(2):
                    writer.wait_for(50)
                    own_redis.cut_subscribers()
                    tail.wait_for("connected again", times=number + 1)
                wait_until(lambda: cancelled(standby, database), "some read is cancelled")
            writer.stop()
            standby.catch_up()
            own_redis.cut_subscribers()  # those back-dated wait for a full read
            writer.assert_printed_exactly_once(tail)
