"""Whatever fails, the streams hold each committed entry exactly once."""

import asyncio
import json
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterator

import asyncpg
import pytest

from lykke_cli.infrastructure.redis.stream_layout import (
    PARTITIONS,
    partition_of,
    place_name,
    stream_name,
)
from tests.builders import INSERT, entity, row
from tests.cli_process import LykkeProcess
from tests.faults.cluster import RedisCluster
from tests.faults.proxy import Proxy
from tests.faults.sentinels import Watched
from tests.faults.writer import Writer
from tests.servers import PostgresServer, RedisServer, run_apart, wait_until

pytestmark = pytest.mark.long
SOON = 60.0  # seconds, on a machine that has much else to do
USERS = 40


def streamed(*servers: RedisServer) -> Counter[str]:
    """The ids in all streams, each of which is on one of the servers."""
    found = Counter[str]()
    for server in servers:
        with server.client() as client:
            for name in sorted(client.scan_iter("auditlog:{*}", _type="stream")):
                for _, fields in client.xrange(name):
                    user = uuid.UUID(fields[b"u"].decode())
                    assert stream_name("auditlog", partition_of(user, PARTITIONS)) == name.decode()
                    found[json.loads(fields[b"e"])["id"]] += 1
    return found


def committed(url: str) -> Counter[str]:
    async def read() -> Counter[str]:
        connection = await asyncpg.connect(url)
        try:
            return Counter(r[0] for r in await connection.fetch("SELECT id::text FROM audit_logs"))
        finally:
            await connection.close()

    return run_apart(read)


def assert_all_there_once(url: str, *servers: RedisServer) -> None:
    table = committed(url)
    assert table
    wait_until(lambda: len(streamed(*servers)) >= len(table), "everything is relayed", SOON)
    assert streamed(*servers) == table


def relay(url: str, redis_url: str, *options: object) -> LykkeProcess:
    return LykkeProcess("relay", *options, env={"DATABASE_URL": url, "REDIS_URL": redis_url})


@pytest.fixture
def writer(
    postgres_server: PostgresServer, postgres_database: str, own_redis: RedisServer
) -> Iterator[Writer]:
    with Writer(postgres_server, postgres_database, own_redis, lose=1, users=USERS) as writer:
        writer.wait_for(20)
        yield writer


def test_one_that_is_killed_before_the_reply_to_what_it_wrote(
    writer: Writer, own_redis: RedisServer
) -> None:
    with Proxy(own_redis.port) as proxy:
        with relay(writer.url, f"redis://{proxy.HOST}:{proxy.port}") as killed:
            killed.wait_for("relaying into", SOON)
            wait_until(lambda: len(streamed(own_redis)) > 20, "it has begun", SOON)
            is_written = threading.Event()
            proxy.call_at(b"EXEC", is_written.set, passes=True)
            assert is_written.wait(SOON)
            killed.send(signal.SIGKILL)
            killed.finish()
    with relay(writer.url, own_redis.url) as other:
        other.wait_for("standing by", SOON)
        other.wait_for("relaying into", SOON)
        writer.wait_for(20)
        writer.stop()
        assert_all_there_once(writer.url, own_redis)


def test_of_two_one_stands_by_and_takes_over(writer: Writer, own_redis: RedisServer) -> None:
    with relay(writer.url, own_redis.url) as first:
        first.wait_for("relaying into", SOON)
        wait_until(lambda: len(streamed(own_redis)) > 20, "it has begun", SOON)
        with relay(writer.url, own_redis.url) as second:
            second.wait_for("another relay is active: standing by", SOON)
            first.send(signal.SIGSTOP)
            second.wait_for("relaying into", SOON)
            writer.wait_for(20)
            first.send(signal.SIGCONT)
            writer.wait_for(20)
            writer.stop()
            assert_all_there_once(writer.url, own_redis)


def test_one_that_ends_in_order_is_not_waited_for(writer: Writer, own_redis: RedisServer) -> None:
    for _ in range(2):
        with relay(writer.url, own_redis.url) as process:
            process.wait_for("relaying into", SOON)
            writer.wait_for(20)
            result = process.stop(signal.SIGTERM)
            assert "standing by" not in result.stderr
            assert "Traceback" not in result.stderr
    with relay(writer.url, own_redis.url):
        writer.stop()
        assert_all_there_once(writer.url, own_redis)


def test_a_stream_that_is_deleted_is_written_again(writer: Writer, own_redis: RedisServer) -> None:
    with relay(writer.url, own_redis.url) as process:
        process.wait_for("relaying into", SOON)
        wait_until(lambda: len(streamed(own_redis)) > 20, "it has begun", SOON)
        number = partition_of(writer.user, PARTITIONS)
        with own_redis.client() as client:
            client.delete(stream_name("auditlog", number))
            writer.wait_for(20)
            client.delete(stream_name("auditlog", number), place_name("auditlog", number))
        writer.stop()
        assert_all_there_once(writer.url, own_redis)


def test_postgresql_is_started_again(own_postgres: PostgresServer, own_redis: RedisServer) -> None:
    with (
        Writer(own_postgres, own_postgres.make_database(), own_redis, users=USERS) as writer,
        relay(writer.url, own_redis.url) as process,
    ):
        writer.wait_for(20)
        process.wait_for("relaying into", SOON)
        wait_until(lambda: len(streamed(own_redis)) > 20, "it has begun", SOON)
        own_postgres.kill()
        process.wait_for("Trying again", SOON)
        own_postgres.start()
        process.wait_for("it is there again", SOON)
        writer.wait_for(20)
        writer.stop()
        assert_all_there_once(writer.url, own_redis)


def test_redis_is_started_again_without_its_last_writes(
    writer: Writer, own_redis: RedisServer
) -> None:
    with relay(writer.url, own_redis.url) as process:
        process.wait_for("relaying into", SOON)
        wait_until(lambda: len(streamed(own_redis)) > 20, "it has begun", SOON)
        with own_redis.client() as client:
            client.save()
        saved = len(streamed(own_redis))
        wait_until(lambda: len(streamed(own_redis)) > saved + 20, "it goes on", SOON)
        own_redis.kill()
        own_redis.start()
        process.wait_for("it is there again", SOON)
        writer.stop()
        assert_all_there_once(writer.url, own_redis)


def test_a_transaction_that_is_open_for_the_whole_run(
    writer: Writer, own_redis: RedisServer
) -> None:
    async def hold() -> None:
        connection = await asyncpg.connect(writer.url)
        try:
            transaction = connection.transaction()
            await transaction.start()
            for number in range(20):
                await connection.execute(INSERT, *row(entity(writer.user, meta={"held": number})))
            await asyncio.to_thread(write_beside_it)
            await transaction.commit()
        finally:
            await connection.close()

    def write_beside_it() -> None:
        for _ in range(2):
            with relay(writer.url, own_redis.url) as process:
                process.wait_for("relaying into", SOON)
                writer.wait_for(30)
                process.stop()

    run_apart(hold)
    with relay(writer.url, own_redis.url):
        writer.stop()
        assert_all_there_once(writer.url, own_redis)


def test_a_replica_that_lagged_takes_over(
    postgres_server: PostgresServer, postgres_database: str
) -> None:
    with (
        Watched() as watched,
        Writer(postgres_server, postgres_database, watched.primary, lose=1, users=USERS) as writer,
        relay(writer.url, watched.url) as process,
    ):
        writer.wait_for(20)
        process.wait_for("relaying into", SOON)
        wait_until(lambda: len(streamed(watched.primary)) > 20, "it has begun", SOON)
        watched.replica.freeze()
        written = len(streamed(watched.primary))
        wait_until(lambda: len(streamed(watched.primary)) > written + 20, "it goes on", SOON)
        watched.primary.kill()
        watched.replica.thaw()
        watched.wait_for_fail_over(watched.replica)
        process.wait_for("it is there again", SOON)
        writer.wait_for(20)
        writer.stop()
        assert_all_there_once(writer.url, watched.replica)


def test_in_a_cluster_one_shard_fails_over(
    cluster: RedisCluster, postgres_server: PostgresServer, postgres_database: str
) -> None:
    nodes = cluster.primaries
    with (
        Writer(postgres_server, postgres_database, nodes[1], lose=1, users=USERS) as writer,
        relay(writer.url, cluster.url) as process,
    ):
        writer.wait_for(20)
        process.wait_for("relaying into", SOON)
        wait_until(lambda: len(streamed(*nodes)) > 20, "it has begun", SOON)
        cluster.replicas[0].freeze()
        written = len(streamed(*nodes))
        wait_until(lambda: len(streamed(*nodes)) > written + 20, "it goes on", SOON)
        nodes[0].kill()
        cluster.replicas[0].thaw()
        process.wait_for("it is there again", SOON)
        writer.wait_for(20)
        writer.stop()
        assert_all_there_once(writer.url, cluster.replicas[0], *nodes[1:])
