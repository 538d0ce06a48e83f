"""The promise for the clients of the bridge: each is sent every entry of its user exactly once.

What each client has is compared with the table, entry by entry.
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from lykke_cli.application.journal import JOURNAL_LINES
from tests.builders import INSERT, entity, insert, row
from tests.faults.audience import Audience
from tests.faults.proxy import Proxy
from tests.faults.writer import Writer
from tests.servers import PostgresServer, RedisServer, free_port, run_apart, wait_until
from tests.serving import TOKENS, Serving

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

CLIENTS = 200
USERS = 10
OPTIONS = ("--reconcile", "1s", "--health-interval", "500ms", "--drain", "1s")
LARGE = {"text": "x" * 20_000}  # more of them than a socket's buffers hold
DEADLINE = 60.0  # seconds for something to reach the last client


@pytest.fixture
def writer(own_postgres: PostgresServer, own_redis: RedisServer) -> Iterator[Writer]:
    database = own_postgres.make_database()
    with Writer(own_postgres, database, own_redis, lose=0.3, users=USERS) as writer:
        yield writer


@pytest.fixture
def env(writer: Writer, own_redis: RedisServer) -> dict[str, str]:
    return TOKENS | {"DATABASE_URL": writer.url, "REDIS_URL": own_redis.url}


@pytest.fixture
def bridges(env: dict[str, str]) -> Iterator[list[Serving]]:
    with serving(env) as one, serving(env) as other:
        yield [one, other]


def serving(env: dict[str, str]) -> Serving:
    return Serving("--port", free_port(), *OPTIONS, env=env)


def ports(bridges: list[Serving]) -> list[int]:
    return [bridge.address.port for bridge in bridges]


def assert_each_has_everything_once(
    writer: Writer, audience: Audience, redis_server: RedisServer
) -> None:
    """After the writer has stopped, and one more full read, which follows a lost connection.

    It finds what was back-dated by days and not broadcast.
    """
    writer.stop()
    redis_server.cut_subscribers()
    committed = {user: writer.committed(user) for user in writer.users}
    owed = sum(committed[client.user].total() for client in audience.clients)
    assert owed
    try:
        wait_until(lambda: audience.failures or audience.received >= owed, "all have all", DEADLINE)
    finally:
        wrong: list[Any] = [
            (number, dict(committed[c.user] - c.received), dict(c.received - committed[c.user]))
            for number, c in enumerate(audience.clients)
            if c.received != committed[c.user]
        ]
        assert not audience.failures
        assert not wrong, (len(wrong), wrong[:3])
    assert not any(client.is_inexact for client in audience.clients)


def test_redis_is_killed_three_times_and_postgres_restarted(
    own_redis: RedisServer, own_postgres: PostgresServer, writer: Writer, bridges: list[Serving]
) -> None:
    with Audience(writer.users, CLIENTS, ports(bridges)) as audience:
        for _ in range(3):
            writer.wait_for(100)
            own_redis.kill()
            writer.wait_for(50)
            own_redis.start()
        writer.wait_for(50)
        own_postgres.restart()
        writer.wait_for(100)
        assert_each_has_everything_once(writer, audience, own_redis)


def test_bridges_are_killed_and_clients_move_between_them(
    own_redis: RedisServer, writer: Writer, bridges: list[Serving]
) -> None:
    with Audience(writer.users, CLIENTS, ports(bridges)) as audience:
        for bridge in (*bridges, bridges[0]):
            writer.wait_for(100)
            bridge.kill()
            writer.wait_for(50)
            bridge.start()
        writer.wait_for(50)
        assert_each_has_everything_once(writer, audience, own_redis)


def test_a_bridge_that_is_told_to_end_closes_in_order(
    own_redis: RedisServer, writer: Writer, bridges: list[Serving]
) -> None:
    with Audience(writer.users, CLIENTS, ports(bridges[:1])) as audience:
        writer.wait_for(100)
        wait_until(lambda: all(c.received for c in audience.clients), "all follow", DEADLINE)
        assert bridges[0].stop().status == 0
        wait_until(
            lambda: all(c.codes == {1012: 1} for c in audience.clients), "all were told", DEADLINE
        )
        bridges[0].start()
        writer.wait_for(50)
        assert_each_has_everything_once(writer, audience, own_redis)


def test_clients_that_are_away_or_read_nothing_for_longer_than_a_journal_holds(
    own_redis: RedisServer, writer: Writer, bridges: list[Serving]
) -> None:
    with Audience(writer.users, CLIENTS, ports(bridges)) as audience:
        writer.wait_for(100)
        wait_until(lambda: all(c.received for c in audience.clients), "all follow", DEADLINE)
        away, stopped = audience.clients[::USERS], audience.clients[1::USERS]
        audience.each("stay_away", away)
        audience.each("stop_reading", stopped)
        many = [entity(writer.users[0]) for _ in range(2 * JOURNAL_LINES)]
        large = [entity(writer.users[1], meta=LARGE) for _ in range(2 * JOURNAL_LINES)]
        run_apart(lambda: insert(writer.url, [*many, *large]))
        writer.wait_for(300)  # in which they are found
        audience.each("come_back", away)
        audience.each("read_on", stopped)
        writer.wait_for(50)
        assert_each_has_everything_once(writer, audience, own_redis)


def test_transactions_are_open_across_outages_and_the_death_of_a_bridge(
    own_redis: RedisServer, writer: Writer, bridges: list[Serving]
) -> None:
    """One plain, one with a SAVEPOINT that is back-dated; neither is ever broadcast."""

    async def scenario() -> None:
        first, last = writer.users[0], writer.users[-1]
        dated = entity(last, occurred_at=datetime.now(UTC) - timedelta(days=30))
        plain, nested = [await asyncpg.connect(writer.url) for _ in range(2)]
        async with plain.transaction(), nested.transaction():
            await plain.execute(INSERT, *row(entity(first)))
            async with nested.transaction():
                await nested.execute(INSERT, *row(dated))
            await asyncio.to_thread(writer.wait_for, 100)
            await asyncio.to_thread(own_redis.restart)
            await asyncio.to_thread(bridges[0].kill)
            await asyncio.to_thread(writer.wait_for, 100)
            await asyncio.to_thread(bridges[0].start)
        await plain.close()
        await nested.close()

    with Audience(writer.users, CLIENTS, ports(bridges)) as audience:
        run_apart(scenario)
        writer.wait_for(50)
        assert_each_has_everything_once(writer, audience, own_redis)


def test_the_network_between_bridge_and_redis_falls_silent(
    own_redis: RedisServer, writer: Writer, env: dict[str, str]
) -> None:
    with Proxy(own_redis.port) as proxy:
        through = env | {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}"}
        with (
            serving(through) as bridge,
            Audience(writer.users, CLIENTS, ports([bridge])) as audience,
        ):
            writer.wait_for(100)
            proxy.swallow()
            writer.wait_for(200)
            proxy.restore()
            writer.wait_for(50)
            assert_each_has_everything_once(writer, audience, own_redis)
