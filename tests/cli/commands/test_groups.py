"""`lykke groups`: what is known of the groups of `lykke consume`."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest
import redis

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.redis.consumer import RedisGroupConsumer
from lykke_cli.infrastructure.redis.urls import parse_redis_url
from tests.cli_process import LykkeProcess, call_lykke, run_lykke
from tests.servers import RedisServer
from tests.streams import fill, stream_entries


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def client(own_server: RedisServer) -> Iterator[redis.Redis]:
    with own_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def env(own_server: RedisServer) -> dict[str, str]:
    return {"REDIS_URL": own_server.url}


def leave_pending(server: RedisServer, group: str, taken: int, acknowledged: int) -> None:
    """A member takes so many entries, and goes."""

    async def take() -> None:
        address = parse_redis_url(server.url)
        async with RedisGroupConsumer(
            address, "auditlog", group=group, consumer="c", batch=1
        ) as consumer:
            entries = [await anext(consumer.__aiter__()) for _ in range(taken)]
            await consumer.ack(*entries[:acknowledged])

    asyncio.run(take())


def test_groups_members_pending_and_lag_are_listed(
    own_server: RedisServer, client: redis.Redis, env: dict[str, str]
) -> None:
    fill(client, stream_entries(10, uuid.uuid4()))
    leave_pending(own_server, "billing", 4, 3)
    result = run_lykke("groups", env=env)
    [row] = result.rows
    [member] = row.pop("members")
    assert row == {
        "group": "billing",
        "pending": 1,
        "lag": 6,
        "lag_is_least": False,
        "dead_letters": 0,
    }
    assert (member["consumer"], member["pending"]) == ("c", 1)
    assert member["idle_seconds"] >= 0


def test_lag_is_what_the_streams_have_though_some_was_trimmed(
    own_server: RedisServer, client: redis.Redis, env: dict[str, str]
) -> None:
    fill(client, stream_entries(10, uuid.uuid4()))
    leave_pending(own_server, "billing", 2, 2)
    for name in client.keys("auditlog:{*}"):
        client.xtrim(name, maxlen=3, approximate=False)
    assert [row["lag"] for row in run_lykke("groups", env=env).rows] == [3]


def test_a_table_shows_them_and_watch_draws_it_again(
    own_server: RedisServer, client: redis.Redis, env: dict[str, str]
) -> None:
    fill(client, stream_entries(10))
    leave_pending(own_server, "billing", 3, 2)
    with LykkeProcess("groups", "--watch", "--every", "100ms", env=env, terminal=80) as groups:
        groups.wait_for("billing")
        leave_pending(own_server, "another", 1, 1)
        groups.wait_for("another")
        assert groups.stop().status == ExitCode.INTERRUPTED


def test_a_long_name_is_cut_and_not_the_numbers(
    own_server: RedisServer, client: redis.Redis, env: dict[str, str]
) -> None:
    fill(client, stream_entries(1, uuid.uuid4()))
    leave_pending(own_server, "x" * 300, 1, 0)
    for columns in (60, 80, 200):
        with LykkeProcess("groups", env=env, terminal=columns) as groups:
            result = groups.finish()
        shown = result.stdout.decode()
        assert all(word in shown for word in ("x…", "PENDING", "LAG", "SEEN"))


def test_watch_in_a_pipe_prints_what_changes(
    own_server: RedisServer, client: redis.Redis, env: dict[str, str]
) -> None:
    fill(client, stream_entries(10, uuid.uuid4()))
    leave_pending(own_server, "billing", 1, 1)
    with LykkeProcess("groups", "--watch", "--every", "100ms", env=env) as groups:
        assert groups.row()["lag"] == 9
        fill(client, stream_entries(1))
        row = groups.row()
        assert (row["lag"], row["group"]) == (10, "billing")
        assert "at" in row


def test_json_is_one_value(client: redis.Redis, env: dict[str, str]) -> None:
    fill(client, stream_entries(1))
    assert run_lykke("groups", "-o", "json", env=env).rows == [{"groups": []}]


def test_no_group_is_said_and_names_are_harmless(
    own_server: RedisServer, client: redis.Redis, env: dict[str, str]
) -> None:
    fill(client, stream_entries(1))
    assert b"no group consumes auditlog" in run_lykke("groups", "-o", "table", env=env).stdout
    leave_pending(own_server, "\x1b[2Jred\n", 1, 0)
    assert b"\x1b" not in run_lykke("groups", "-o", "table", env=env).stdout


def test_without_streams_one_line_says_who_fills_them(
    client: redis.Redis, env: dict[str, str]
) -> None:
    result = run_lykke("groups", env=env)
    assert result.status == ExitCode.UNAVAILABLE
    assert "Start `lykke relay`" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--every", "2s"), "--every goes with --watch"),
        (("--watch", "-o", "json"), "use -o ndjson"),
        (("--watch", "-o", "table"), "on a terminal only"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    result = call_lykke("groups", *arguments)
    assert result.status == ExitCode.USAGE
    assert complaint in result.stderr
