"""`lykke channels`: who listens, once or as it changes."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from rich.cells import cell_len

from lykke_cli.bootstrap import make_channels
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.configuration.settings import Settings
from lykke_cli.infrastructure.redis import channels as redis_channels
from tests.cli_process import DEADLINE, LykkeProcess, call_lykke, run_lykke
from tests.servers import RedisServer

USER = uuid.UUID(int=1)


@contextmanager
def subscribed(server: RedisServer, *channels: str, pattern: str | None = None) -> Iterator[None]:
    """A subscriber, confirmed by the server."""
    with server.client() as client, client.pubsub() as pubsub:
        if channels:
            pubsub.subscribe(*channels)
        if pattern is not None:
            pubsub.psubscribe(pattern)
        for _ in (*channels, *([pattern] if pattern else [])):
            assert pubsub.get_message(timeout=DEADLINE) is not None
        yield


@pytest.fixture
def kind() -> str:
    """A type of channel that no other test uses; parts of it mean something in a glob."""
    return f"t*[?]{uuid.uuid4().hex}"


async def test_a_census_counts_in_batches_and_takes_no_type_for_a_pattern(
    redis_server: RedisServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_channels, "BATCH", 2)
    names = [f"{kind}:{n}" for n in range(5)]
    other = kind.replace("*", "x")
    with (
        subscribed(redis_server, *names),
        subscribed(redis_server, names[0], f"{other}:1", pattern="auditlog:*"),
    ):
        async with make_channels(Settings(redis_url=redis_server.url)) as channels:
            census = await channels.census([kind, kind])
            assert census.subscribers == {names[0]: 2, **dict.fromkeys(names[1:], 1)}
            assert census.patterns >= 1
            by_pattern = await channels.census([], f"*{kind[-32:]}:[12]")
    assert by_pattern.subscribers == {names[1]: 1, names[2]: 1, f"{other}:1": 1}


def test_each_form(redis_server: RedisServer, env: dict[str, str], kind: str) -> None:
    names = [f"{kind}:{USER}", f"{kind}:日本\x1b[31m"]
    with subscribed(redis_server, *names), subscribed(redis_server, names[1]):
        arguments = ["channels", "--channel", kind]
        shown = call_lykke(*arguments, env=env)
        assert shown.rows == [
            {"channel": names[1], "type": kind, "user_id": None, "subscribers": 2},
            {"channel": names[0], "type": kind, "user_id": str(USER), "subscribers": 1},
        ]
        as_json = orjson.loads(call_lykke(*arguments, "-o", "json", env=env).stdout)
        assert as_json["channels"] == shown.rows
        assert isinstance(as_json["pattern_subscriptions"], int)
        for width in (60, 80, 200):
            columns = env | {"COLUMNS": str(width)}
            text = call_lykke(*arguments, "-o", "table", env=columns).stdout.decode()
            header, *lines = text.splitlines()[:3]
            assert len({cell_len(line) for line in (header, *lines)}) == 1
            assert cell_len(header) <= width
            assert "\x1b" not in text


def test_known_types_are_the_default_and_no_channel_is_told_of(own_redis: RedisServer) -> None:
    env = {"REDIS_URL": own_redis.url}
    result = call_lykke("channels", "-o", "table", env=env)
    assert (result.status, result.stdout) == (0, b"no channel has a subscriber\n")
    with subscribed(own_redis, f"auditlog:{USER}", "domain-events:1", "other:1", pattern="x"):
        result = call_lykke("channels", env=env)
        assert {row["channel"] for row in result.rows} == {f"auditlog:{USER}", "domain-events:1"}
        assert "1 subscription to a pattern" in result.stderr
        assert call_lykke("channels", "-q", env=env).stderr == ""
        assert len(call_lykke("channels", "--pattern", "*", env=env).rows) == 3


def test_watching_in_a_pipe_prints_what_changes(own_redis: RedisServer) -> None:
    env = {"REDIS_URL": own_redis.url}
    with LykkeProcess("channels", "--watch", "--every", "20ms", env=env) as watch:
        with subscribed(own_redis, f"auditlog:{USER}"):
            row = watch.row()
            assert row.pop("at").endswith("Z")
            assert row == {
                "channel": f"auditlog:{USER}",
                "type": "auditlog",
                "user_id": str(USER),
                "subscribers": 1,
                "previous": 0,
            }
        assert watch.row()["subscribers"] == 0
        own_redis.kill()
        watch.wait_for("(connection refused); trying again")
        own_redis.start()
        watch.wait_for("connected again")
        with subscribed(own_redis, pattern="x*"):
            row = watch.row()
        assert (row["pattern_subscriptions"], row["previous"]) == (1, 0)
        assert watch.stop().status == ExitCode.INTERRUPTED


def test_watching_on_a_terminal_redraws_a_table(own_redis: RedisServer) -> None:
    env = {"REDIS_URL": own_redis.url}
    with LykkeProcess("channels", "--watch", "--every", "20ms", env=env, terminal=80) as watch:
        watch.wait_for("no channel has a subscriber")
        with subscribed(own_redis, f"auditlog:{USER}"):
            watch.wait_for(f"auditlog:{USER}")
        own_redis.kill()
        watch.wait_for("trying again")
        result = watch.stop()
    assert result.status == ExitCode.INTERRUPTED
    assert "Traceback" not in result.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--every", "2s"], "--watch"),
        (["--channel", "x", "--pattern", "y"], "Give one of"),
        (["--watch", "-o", "json"], "ndjson"),
        (["--watch", "-o", "table"], "terminal"),
        (["--watch", "--every", "0"], "no interval"),
    ],
)
def test_what_does_not_fit_is_a_usage_mistake(arguments: list[str], part: str) -> None:
    result = call_lykke("channels", *arguments)
    assert (result.status, part in result.stderr) == (ExitCode.USAGE, True)


def test_redis_is_not_there() -> None:
    result = run_lykke("channels", env={"REDIS_URL": "redis://:s3cret@127.0.0.1:1"})
    assert result.status == ExitCode.UNAVAILABLE
    assert len(result.stderr.splitlines()) == 1
    assert "s3cret" not in result.stderr
