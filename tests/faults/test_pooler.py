"""Behind PgBouncer, in either of its modes: it is restarted, and its connections are few."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli_process import run_lykke
from tests.faults.pooler import Mode, PgBouncer, needs_pgbouncer
from tests.faults.test_faults import fill, outages
from tests.faults.writer import Writer, everything
from tests.servers import PostgresServer, RedisServer

pytestmark = needs_pgbouncer


@pytest.fixture(params=["session", "transaction"])
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen: Mode = request.param
    return chosen


def test_it_is_restarted_while_a_tail_follows(
    postgres_server: PostgresServer, postgres_database: str, own_redis: RedisServer, mode: Mode
) -> None:
    with (
        PgBouncer(postgres_server, mode) as pooler,
        Writer(postgres_server, postgres_database, own_redis, lose=0.3) as writer,
    ):
        env = {"DATABASE_URL": pooler.url(postgres_database), "REDIS_URL": own_redis.url}
        with everything(writer, env) as tail:
            tail.wait_for("following")
            outages(2, pooler, writer, tail, down="live goes on", up="database is back")
            writer.stop()
            own_redis.cut_subscribers()  # those back-dated wait for a full read
            writer.assert_printed_exactly_once(tail)


@pytest.fixture
def crowded(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """With one connection for all, each for a transaction."""
    with PgBouncer(postgres_server, "transaction", size=1) as pooler:
        yield pooler


def test_many_share_one_connection_by_the_transaction(
    postgres_url: str, postgres_database: str, redis_url: str, crowded: PgBouncer
) -> None:
    """Whatever one of them prepares, the next finds in its place."""
    users = [uuid.uuid4() for _ in range(3)]
    for user in users:
        fill(postgres_url, user, 2_000)
    env = {"DATABASE_URL": crowded.url(postgres_database), "REDIS_URL": redis_url}

    def read(number: int) -> int:
        user = users[number % len(users)]
        command = ("backfill", user, "--since", "30d"), ("stats", user, "-o", "json")
        result = run_lykke(*command[number % 2], env=env, timeout=60)
        assert result.status == 0, result.stderr
        return result.stdout.count(b"FILLED")

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(read, range(12)))
    assert found == [2_000, 1] * 6
