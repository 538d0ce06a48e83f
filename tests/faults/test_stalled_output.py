"""Whoever reads the output has stopped, as a pager does: the application must not notice."""

import asyncio
import uuid

import pytest

from tests.builders import entity, insert
from tests.cli_process import LykkeProcess
from tests.servers import PostgresServer, RedisServer, wait_until

USER = uuid.uuid4()
ROWS = 1_200
LARGE = {"text": "x" * 10_000}
LOCKS = "SELECT count(*) FROM pg_locks WHERE relation = 'audit_logs'::regclass"
STALLED = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE relation = 'audit_logs'::regclass AND state = 'idle in transaction'
    AND state_change < clock_timestamp() - interval '1 s'
"""

pytestmark = pytest.mark.long


@pytest.mark.parametrize("command", ["backfill", "tail"])
def test_a_stopped_reader_holds_no_lock_and_goes_on(
    postgres_server: PostgresServer,
    postgres_database: str,
    postgres_reader_url: str,
    redis_server: RedisServer,
    command: str,
) -> None:
    entities = [entity(USER, meta=LARGE) for _ in range(ROWS)]
    asyncio.run(insert(postgres_server.url(postgres_database), entities))
    env = {"DATABASE_URL": postgres_reader_url, "REDIS_URL": redis_server.url}
    with LykkeProcess(command, USER, "--since", "1h", env=env, reading=False) as process:

        def count(query: str) -> int:
            return int(postgres_server.fetch_value(query, postgres_database))

        wait_until(lambda: count(STALLED) > 0, "it waits for its reader")
        wait_until(lambda: count(LOCKS) == 0, "it has let go of the table")
        postgres_server.execute(
            "SET lock_timeout = '5s';"
            "ALTER TABLE audit_logs ADD extra int; ALTER TABLE audit_logs DROP extra",
            postgres_database,
        )
        process.resume_reading()
        ids = [process.row()["id"] for _ in range(ROWS)]
        if command == "tail":
            process.send()
        process.finish()
        assert sorted(ids) == sorted(str(one.id) for one in entities)
