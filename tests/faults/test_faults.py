"""The promise under faults: servers are killed, frozen and cut off while a writer goes on."""

import asyncio
import select
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.builders import INSERT, entity, row, wire
from tests.cli_process import DEADLINE, LykkeProcess
from tests.faults.proxy import Proxy
from tests.faults.writer import Writer, everything
from tests.servers import PostgresServer, RedisServer, Server, run_apart, wait_until


@pytest.fixture
def writer(
    postgres_server: PostgresServer, postgres_database: str, own_redis: RedisServer
) -> Iterator[Writer]:
    with Writer(postgres_server, postgres_database, own_redis) as writer:
        yield writer


@pytest.fixture
def env(postgres_url: str, own_redis: RedisServer) -> dict[str, str]:
    return {"DATABASE_URL": postgres_url, "REDIS_URL": own_redis.url}


@pytest.fixture
def mortal_writer(own_postgres: PostgresServer, own_redis: RedisServer) -> Iterator[Writer]:
    """Writes into a PostgreSQL that may be killed."""
    with Writer(own_postgres, own_postgres.make_database(), own_redis) as writer:
        yield writer


@pytest.fixture
def mortal_env(mortal_writer: Writer, own_redis: RedisServer) -> dict[str, str]:
    return {"DATABASE_URL": mortal_writer.url, "REDIS_URL": own_redis.url}


def outages(
    number: int, server: Server, writer: Writer, tail: LykkeProcess, *, down: str, up: str
) -> None:
    """So many, one after the other; `down` and `up` are what the tail says of each.

    The writer goes on before, in and after each of them.
    """
    for times in range(1, number + 1):
        writer.wait_for(30)
        server.kill()
        tail.wait_for(down, times=times)
        writer.wait_for(30)
        server.start()
        tail.wait_for(up, times=times)
    writer.wait_for(30)


def test_redis_killed_and_restarted_three_times(
    own_redis: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    with everything(writer, env) as tail:
        tail.wait_for("following")
        outages(3, own_redis, writer, tail, down="trying again", up="connected again")
        writer.assert_printed_exactly_once(tail)


@pytest.mark.timeout(300)
def test_the_address_leads_to_a_redis_that_nobody_publishes_to(
    own_redis: RedisServer, redis_server: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    with Proxy(redis_server.port) as proxy:
        wrong = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}"}
        with everything(writer, env | wrong) as tail:
            tail.wait_for("following")
            proxy.lead_to(own_redis.port)
            tail.wait_for("Entries were committed and none came by")
            tail.wait_for("connected again")
            with own_redis.client() as client:
                wait_until(
                    lambda: client.pubsub_numsub(f"auditlog:{writer.user}")[0][1] == 1, "it follows"
                )
            writer.assert_printed_exactly_once(tail)


def test_redis_frozen_for_longer_than_the_time_outs(
    own_redis: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    with everything(writer, env) as tail:
        tail.wait_for("following")
        writer.wait_for(20)
        own_redis.freeze()
        tail.wait_for("no sign of life")
        own_redis.thaw()
        tail.wait_for("connected again")
        writer.wait_for(20)
        writer.assert_printed_exactly_once(tail)


def test_the_connection_cut_by_client_kill(
    own_redis: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    with everything(writer, env) as tail:
        tail.wait_for("following")
        for number in range(3):
            writer.wait_for(20)
            own_redis.cut_subscribers()
            tail.wait_for("connected again", times=number + 1)
        writer.wait_for(20)
        writer.assert_printed_exactly_once(tail)


def test_cut_off_for_being_slow_while_stdout_is_blocked(
    own_redis: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    own_redis.client().config_set("client-output-buffer-limit", "pubsub 64kb 64kb 1")
    with everything(writer, env, reading=False) as tail:
        tail.wait_for("following")
        burst = wire(entity(writer.user, meta={"filling": "x" * 10_000}))
        with own_redis.client() as client:
            killed = client.info("stats").get("client_output_buffer_limit_disconnections", 0)
            deadline = time.monotonic() + 30
            while client.pubsub_numsub(f"auditlog:{writer.user}")[0][1]:
                client.publish(f"auditlog:{writer.user}", b'{"filling":"%s"}' % (b"x" * 10_000))
                assert time.monotonic() < deadline, (killed, len(burst))
        writer.wait_for(20)
        tail.resume_reading()
        tail.wait_for("connected again")
        writer.wait_for(20)
        writer.stop()
        committed = writer.committed()
        seen: set[str] = set()
        deadline = time.monotonic() + 30
        while seen != set(committed):
            assert time.monotonic() < deadline
            line = tail.row()
            if "id" in line:
                assert line["id"] not in seen
                seen.add(line["id"])


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_postgres_goes_while_idle(
    own_postgres: PostgresServer, mortal_writer: Writer, mortal_env: dict[str, str], how: str
) -> None:
    writer = mortal_writer
    with everything(writer, mortal_env) as tail:
        tail.wait_for("following")
        writer.wait_for(30)
        getattr(own_postgres, how)()
        tail.wait_for("live goes on")
        own_postgres.start()
        tail.wait_for("database is back")
        writer.wait_for(30)
        writer.assert_printed_exactly_once(tail)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_postgres_goes_during_catch_up(
    own_postgres: PostgresServer, mortal_writer: Writer, mortal_env: dict[str, str], how: str
) -> None:
    writer = mortal_writer
    fill(writer.url, writer.user, 10_000)
    with everything(writer, mortal_env, reading=False) as tail:
        tail.wait_for("following")
        # Nobody reads stdout: the catch-up has begun and cannot end.
        wait_for_catch_up(writer.url)
        # A server that goes before anything was read ends a tail.
        assert select.select([tail.descriptor], [], [], DEADLINE)[0]
        getattr(own_postgres, how)()
        own_postgres.start()
        tail.resume_reading()
        writer.wait_for(30)
        writer.assert_printed_exactly_once(tail, deadline=40)


def test_a_half_open_connection_is_noticed(
    own_redis: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    with Proxy(own_redis.port) as proxy:
        through = env | {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}"}
        with everything(writer, through) as tail:
            tail.wait_for("following")
            writer.wait_for(20)
            proxy.swallow()
            tail.wait_for("no sign of life", 15)  # without --health-interval it takes 20 seconds
            proxy.restore()
            tail.wait_for("connected again")
            writer.wait_for(20)
            writer.assert_printed_exactly_once(tail)


def test_lost_broadcasts_are_found_while_connected(
    postgres_server: PostgresServer,
    postgres_database: str,
    own_redis: RedisServer,
    env: dict[str, str],
) -> None:
    with (
        Writer(postgres_server, postgres_database, own_redis, lose=0.3) as writer,
        everything(writer, env) as tail,
    ):
        tail.wait_for("following")
        tail.wait_for("recovered from the database", times=2)
        # Those back-dated beyond the look-back window wait for a full read: a reconnect makes one.
        writer.wait_for(20)
        own_redis.cut_subscribers()
        tail.wait_for("connected again")
        writer.stop()
        own_redis.cut_subscribers()
        writer.assert_printed_exactly_once(tail)


@asynccontextmanager
async def open_transaction(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


def test_transactions_open_across_the_outage(
    own_redis: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    """One plain, one with SAVEPOINTs, one back-dated by 30 days; none is ever broadcast."""
    url, user = writer.url, writer.user
    back_dated = datetime.now(UTC) - timedelta(days=30)

    async def scenario(tail: LykkeProcess) -> None:
        async with (
            open_transaction(url) as plain,
            open_transaction(url) as nested,
            open_transaction(url) as dated,
        ):
            await plain.execute(INSERT, *row(entity(user)))
            await nested.execute(INSERT, *row(entity(user)))
            async with nested.transaction():
                await nested.execute(INSERT, *row(entity(user)))
            await dated.execute(INSERT, *row(entity(user, occurred_at=back_dated)))
            await asyncio.to_thread(writer.wait_for, 20)
            await asyncio.to_thread(own_redis.restart)
            await asyncio.to_thread(tail.wait_for, "connected again")
            async with nested.transaction():
                await nested.execute(INSERT, *row(entity(user)))
            await asyncio.to_thread(writer.wait_for, 20)
        await asyncio.to_thread(own_redis.restart)
        await asyncio.to_thread(tail.wait_for, "connected again", times=2)

    with everything(writer, env) as tail:
        tail.wait_for("following")
        run_apart(lambda: scenario(tail))
        writer.assert_printed_exactly_once(tail)


def test_two_tails_of_one_user_at_once(
    own_redis: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    with everything(writer, env) as one, everything(writer, env) as two:
        one.wait_for("following")
        two.wait_for("following")
        writer.wait_for(20)
        own_redis.restart()
        one.wait_for("connected again")
        two.wait_for("connected again")
        writer.assert_printed_exactly_once(one, two)


@pytest.mark.parametrize("offset", [-3600, 3600])
def test_the_tailing_hosts_clock_an_hour_off(
    own_redis: RedisServer, writer: Writer, env: dict[str, str], offset: int
) -> None:
    with everything(writer, env, clock_offset=offset) as tail:
        tail.wait_for("following")
        writer.wait_for(30)
        own_redis.restart()
        tail.wait_for("connected again")
        writer.wait_for(30)
        writer.assert_printed_exactly_once(tail)


def fill(url: str, user: uuid.UUID, rows: int) -> None:
    """So many entries of an hour ago and before."""

    async def insert() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(
                """
                INSERT INTO audit_logs
                SELECT gen_random_uuid(), $1, 'FILLED', now() AT TIME ZONE 'UTC'
                    - interval '1 hour' - n * interval '1 second', NULL, 'x', '{}'::jsonb
                FROM generate_series(1, $2::int) n
                """,
                user,
                rows,
            )
        finally:
            await connection.close()

    run_apart(insert)


def wait_for_catch_up(url: str) -> None:
    """Wait until lykke is in the middle of a read."""

    async def wait() -> None:
        connection = await asyncpg.connect(url)
        try:
            async with asyncio.timeout(20):
                reading = False
                while not reading:
                    reading = await connection.fetchval(
                        "SELECT pg_sleep(0.02) IS NOT NULL AND count(*) > 0 FROM pg_stat_activity "
                        "WHERE application_name = 'lykke' AND state = 'idle in transaction'"
                    )
        finally:
            await connection.close()

    run_apart(wait)
