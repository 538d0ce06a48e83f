"""`lykke serve` as a process: its start, its mistakes, its signals, its end."""

import asyncio
import itertools
import os
import re
import resource
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.cli.runs import serve
from tests.bridge_clients import assert_each_got_all_once, following
from tests.cli_process import LykkeProcess, Result, call_lykke, run_lykke
from tests.faults.writer import Writer
from tests.servers import PostgresServer, RedisServer, free_port, wait_until
from tests.serving import TOKEN, TOKENS, Serving

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def env(redis_url: str, sqlite_url: str) -> dict[str, str]:
    return {"REDIS_URL": redis_url, "DATABASE_URL": sqlite_url}


# Mistakes


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def mistake(result: Result) -> str:
    """The one line of an error; notices may stand before it."""
    assert "Traceback" not in result.stderr and result.stdout == b""
    *notices, line = result.stderr.splitlines()
    assert len(notices) <= 3
    assert line.startswith("lykke: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: .*set LYKKE_SERVE_TOKEN"),
        (["--host", "a..b"], "no such host"),
        (["--port", "70000"], "it must be at most 65535"),
        (["--workers", "0"], "it must be at least 1"),
        (["--drain", "soon"], "'soon' is not a duration"),
        (["--origin", "*"], "'\\*' is not an origin"),
        (["--origin", "*", "--workers", "2"], "'\\*' is not an origin"),
        (["--hostname", "http://x"], "'http://x' is not a host"),
        (["--database-connections", "0"], "it must be at least 1"),
    ],
)
def test_a_wrong_argument_is_told_of_in_a_line(
    arguments: list[str], said: str, env: dict[str, str]
) -> None:
    result = run_lykke("serve", "--port", "0", *arguments, env=env)
    assert result.status == ExitCode.USAGE
    assert re.search(said, mistake(result))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"LYKKE_CURSOR_KEY": "s3cret"}, "LYKKE_CURSOR_KEY"),
        ({"LYKKE_SERVE_TOKEN": "s3cret"}, "LYKKE_SERVE_TOKEN has less than"),
        ({"LYKKE_SERVE_TOKEN": "s3cret" * 9, "LYKKE_JWT_KEY": "s3cret"}, "leave one"),
        ({"LYKKE_JWT_KEY": "s3cret" * 9}, "LYKKE_JWT_AUDIENCE"),
    ],
)
def test_a_wrong_variable_is_named_and_not_shown(
    variables: dict[str, str], said: str, env: dict[str, str]
) -> None:
    result = run_lykke("serve", "--port", "0", env=env | variables)
    assert result.status == ExitCode.USAGE
    assert said in mistake(result)
    assert "s3cret" not in result.stderr


def test_it_needs_a_database() -> None:
    result = call_lykke("serve")
    assert result.status == ExitCode.USAGE
    assert "set DATABASE_URL" in mistake(result)


def test_it_needs_its_libraries(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    result = call_lykke("serve", env=env)
    assert result.status == ExitCode.USAGE
    assert "pip install 'lykke-cli[serve]'" in mistake(result)


def test_a_port_that_is_taken_is_named(env: dict[str, str]) -> None:
    with taken_port() as port:
        result = run_lykke("serve", "--port", port, env=env)
    assert result.status == ExitCode.USAGE
    assert f"--port {port}: another program has it" in mistake(result)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("absent", ["REDIS_URL", "DATABASE_URL"])
def test_a_server_that_is_away_at_the_start_is_told_of_once(
    absent: str, workers: int, env: dict[str, str]
) -> None:
    scheme = {"REDIS_URL": "redis", "DATABASE_URL": "postgresql"}[absent]
    env = env | {absent: f"{scheme}://ann:s3cret@{NOWHERE}/0"}
    result = run_lykke("serve", "--port", "0", "--workers", workers, env=env)
    assert result.status == ExitCode.UNAVAILABLE
    assert NOWHERE in mistake(result)
    assert "s3cret" not in result.stderr


# Who may


def test_without_tokens_it_makes_one_and_tells_it_once(env: dict[str, str]) -> None:
    with Serving(env=env) as bridge:
        (token,) = re.findall(rf"{bridge.url}/#token=([\w-]{{43}})$", bridge.said, re.MULTILINE)
        path = f"/history/{uuid.uuid4()}"
        assert bridge.get(path)[0] == 401
        assert bridge.get(path, token)[0] == 200
        result = bridge.stop()
    assert result.stderr.count(token) == 1
    assert "LYKKE_CURSOR_KEY" in result.stderr


def test_a_token_that_is_set_is_never_told(env: dict[str, str]) -> None:
    more = ("--host", "0.0.0.0", "--hostname", "0.0.0.0")
    with Serving(*more, env=env | TOKENS) as bridge:
        assert bridge.get(f"/history/{uuid.uuid4()}", TOKEN)[0] == 200
        result = bridge.stop()
    assert result.stderr == (
        f"lykke: serving {bridge.url} with /ws/USER_ID, /events/USER_ID, /history/USER_ID, "
        "/metrics; Ctrl-C ends it\n"
    )


def test_debugging_tells_no_token_no_cursor_and_nothing_of_users_unescaped(
    env: dict[str, str],
) -> None:
    process = LykkeProcess("--debug", "serve", "--port", "0", env=env | TOKENS)
    with process:
        process.wait_for("serving http")
        port = int(re.findall(r"serving http://127.0.0.1:(\d+)", process.stderr)[0])
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(
                f"GET /events/{uuid.uuid4()}?cursor=s3cret%1b[2J HTTP/1.1\r\n"
                f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode()
            )
            assert client.recv(1 << 16)
        said = process.stop(signal.SIGTERM).stderr
    assert "s3cret" not in said and TOKEN not in said and "\x1b" not in said


# What it serves


@pytest.mark.parametrize(("more", "status"), [([], 200), (["--no-metrics"], 404)])
def test_the_figures_can_be_hidden(more: list[str], status: int, env: dict[str, str]) -> None:
    with Serving(*more, env=env | TOKENS) as bridge:
        assert bridge.get("/metrics")[0] == status
        assert ("/metrics" in bridge.said) == (status == 200)


def test_it_tells_what_goes_away_and_comes_back(
    own_redis: RedisServer, own_postgres: PostgresServer
) -> None:
    url = own_postgres.url(own_postgres.make_database())
    env = TOKENS | {"REDIS_URL": own_redis.url, "DATABASE_URL": url}
    with Serving("--reconcile", "200ms", env=env) as bridge:
        assert bridge.get("/readyz")[0] == 200
        own_redis.kill()
        bridge.process.wait_for("was lost")
        own_redis.start()
        bridge.process.wait_for("Subscribed again")
        own_postgres.kill()
        bridge.process.wait_for("Cannot reach the database")
        own_postgres.start()
        bridge.process.wait_for("The database is back")
        assert bridge.get("/readyz")[0] == 200
        assert bridge.stop().status == ExitCode.DONE


def test_more_clients_than_it_may_have_files_are_told_of_in_a_line(env: dict[str, str]) -> None:
    with Serving(env=env | TOKENS) as bridge, ExitStack() as clients:
        assert bridge.get(f"/history/{uuid.uuid4()}", TOKEN)[0] == 200
        pid = bridge.process.process.pid
        few = len(os.listdir(f"/proc/{pid}/fd")) + 5
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (few, limits[1]))
        for _ in range(20):
            clients.enter_context(socket.create_connection(("127.0.0.1", bridge.address.port)))
        bridge.process.wait_for("more clients come than can be taken: Too many open files")
        clients.close()
        assert bridge.get("/healthz")[0] == 200
        assert len(bridge.stop().stderr.splitlines()) == 2


# Its end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(number: int, env: dict[str, str]) -> None:
    with Serving(env=env | TOKENS) as bridge:
        result = bridge.stop(number)
    expected = ExitCode.DONE if number == signal.SIGTERM else ExitCode.INTERRUPTED
    assert result.status == expected
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_sends_all_away_one_after_the_other(
    workers: int, env: dict[str, str]
) -> None:
    drain = 6.0
    with Serving("--drain", drain, "--workers", workers, env=env | TOKENS) as bridge:
        async with following(
            bridge.address, uuid.uuid4(), TOKEN, sockets=8, streams=4
        ) as followers:
            bridge.process.send(signal.SIGTERM)
            result = await asyncio.to_thread(bridge.process.finish)
            assert "sending clients away, over 6 s" in result.stderr
            for follower in followers:
                await follower.until_cut_off()
            ends = [follower.closes[0] for follower in followers]
            assert all("reconnect" in follower.told for follower in followers[:8])
    assert result.status == ExitCode.DONE
    assert {code for _, code in ends[:8]} == {1012}
    times = sorted(moment for moment, _ in ends)
    assert times[-1] - times[0] > drain / 2
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.75 * drain
    if workers == 1:  # another one may hear of the end later, and let them in until then
        assert {follower.connections for follower in followers} == {1}, "nobody was let in again"


async def test_a_second_ctrl_c_ends_it_at_once(env: dict[str, str]) -> None:
    with Serving(env=env | TOKENS) as bridge:
        async with following(
            bridge.address, uuid.uuid4(), TOKEN, sockets=4, streams=0
        ) as followers:
            bridge.process.send(signal.SIGTERM)
            await asyncio.to_thread(_until_closed, bridge.address.port)
            bridge.process.send(signal.SIGINT)
            started = time.monotonic()
            result = await asyncio.to_thread(bridge.process.finish)
            assert time.monotonic() - started < 20  # of a drain of 30
            assert followers
    assert result.status == ExitCode.INTERRUPTED


def _until_closed(port: int) -> None:
    def is_closed() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(is_closed, "nobody is let in")


@pytest.fixture
def postgres_env(postgres_reader_url: str, redis_url: str) -> dict[str, str]:
    return TOKENS | {"REDIS_URL": redis_url, "DATABASE_URL": postgres_reader_url}


@pytest.fixture
def writer(
    postgres_server: PostgresServer, postgres_database: str, redis_server: RedisServer
) -> Iterator[Writer]:
    with Writer(postgres_server, postgres_database, redis_server, lose=0.3) as writing:
        yield writing


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_clients_go_on_without_loss_where_another_process_serves(
    number: int, postgres_env: dict[str, str], writer: Writer, redis_server: RedisServer
) -> None:
    port = free_port()
    arguments = ("--port", port, "--drain", "1s")
    with Serving(*arguments, env=postgres_env) as first:
        async with following(first.address, writer.user, TOKEN, sockets=3, streams=2) as followers:
            await asyncio.to_thread(writer.wait_for, 50)
            first.process.send(number)
            await asyncio.to_thread(first.process.finish)
            await asyncio.to_thread(writer.wait_for, 20)
            with Serving(*arguments, env=postgres_env):
                for follower in followers:
                    await follower.until_connected(2)
                await asyncio.to_thread(writer.wait_for, 20)
                await assert_each_got_all_once(followers, writer, redis_server)


# Workers


async def test_a_worker_that_is_killed_costs_its_clients_nothing(
    postgres_env: dict[str, str], writer: Writer, redis_server: RedisServer
) -> None:
    with Serving("--workers", 2, "--drain", "1s", env=postgres_env) as bridge:
        async with following(bridge.address, writer.user, TOKEN, sockets=6, streams=2) as followers:
            await asyncio.to_thread(writer.wait_for, 50)
            before = bridge.workers
            assert len(before) == 2
            for worker in before:
                os.kill(worker, signal.SIGKILL)
            for follower in followers:
                await follower.until_connected(2)
            await asyncio.to_thread(writer.wait_for, 20)
            assert not {*before} & {*bridge.workers}
            await assert_each_got_all_once(followers, writer, redis_server)
        said = bridge.stop().stderr
    assert said.count("it ended with -9; another begins") == 2


def test_any_worker_tells_the_figures_of_all(env: dict[str, str]) -> None:
    with Serving("--workers", 2, env=env | TOKENS) as bridge:
        text = bridge.get("/metrics")[1]
        assert {'lykke_users{worker="0"} 0.0', 'lykke_users{worker="1"} 0.0'} <= {*text.split("\n")}


def test_a_parent_that_is_killed_leaves_no_worker_and_no_port_behind(env: dict[str, str]) -> None:
    port = free_port()
    arguments = ("--workers", 2, "--drain", "1s", "--port", port)
    with Serving(*arguments, env=env | TOKENS) as bridge:
        workers = bridge.workers
        assert bridge.stop(signal.SIGKILL).status == -signal.SIGKILL
        for worker in workers:
            wait_until(lambda worker=worker: not _is_alive(worker), "a worker is gone")  # type: ignore[misc]
    with Serving(*arguments, env=env | TOKENS) as bridge:
        assert bridge.get("/readyz")[0] == 200


def _is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError, FileNotFoundError):
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False
