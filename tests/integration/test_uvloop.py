"""A process whose event loop is uvloop's follows a user as any other does."""

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest

from tests.builders import entity, insert, wire
from tests.cli_process import environment
from tests.programs import program
from tests.servers import RedisServer, run_apart


@contextmanager
def lykke(*arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*program("lykke_on_uvloop"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(env),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_tail_goes_from_history_to_live_and_through_a_cut_connection(
    database: str, request: pytest.FixtureRequest, own_redis: RedisServer
) -> None:
    url, user = request.getfixturevalue(database), uuid.uuid4()
    stored, live, recovered = (entity(user, meta={"n": n}) for n in range(3))
    run_apart(lambda: insert(url, [stored]))
    env = {"REDIS_URL": own_redis.url, "DATABASE_URL": url}
    words = ("tail", str(user), "--since", "1h", "--count", "3", "-o", "ndjson")
    with lykke(*words, env=env) as tail:
        assert tail.stderr is not None and tail.stdout is not None
        while "following" not in tail.stderr.readline():
            assert tail.poll() is None
        with own_redis.client() as client:
            assert client.publish(f"auditlog:{user}", wire(live)) == 1
            run_apart(lambda: insert(url, [live, recovered]))
            client.client_kill_filter(_type="pubsub")
        lines = [orjson.loads(line) for line in tail.stdout]
        assert tail.wait() == 0
    assert [line["meta"]["n"] for line in lines] == [0, 1, 2]
