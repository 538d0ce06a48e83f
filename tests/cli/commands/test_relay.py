"""`lykke relay`, as a person or a service manager runs it."""

import json
import re
import signal
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.redis.stream_layout import stream_names
from tests.cli_process import LykkeProcess, call_lykke, run_lykke
from tests.servers import RedisServer, wait_until

SOON = 30.0  # seconds


@pytest.fixture
def relay_env(own_redis: RedisServer, postgres_url: str) -> dict[str, str]:
    return {"REDIS_URL": own_redis.url, "DATABASE_URL": postgres_url}


def record(env: Mapping[str, str], *, user: uuid.UUID) -> None:
    assert run_lykke("record", user, "TASK_COMPLETED", env=env).status == 0


def streamed(redis: RedisServer, partitions: int = 16) -> list[dict[bytes, bytes]]:
    with redis.client() as client:
        return [
            fields
            for name in stream_names("auditlog", partitions)
            for _, fields in client.xrange(name)
        ]


def test_what_was_recorded_is_in_the_stream_of_its_user(
    own_redis: RedisServer, relay_env: dict[str, str]
) -> None:
    user = uuid.uuid4()
    record(relay_env, user=user)
    with LykkeProcess("relay", "--partitions", 4, env=relay_env) as relay:
        relay.wait_for(
            "relaying into 4 streams; 4 of them are new, and begin with the start of the table",
            SOON,
        )
        [entry] = wait_until(lambda: streamed(own_redis, 4), "it is relayed")
        assert entry[b"u"] == str(user).encode()
        assert b'"activity_type":"TASK_COMPLETED"' in entry[b"e"]
        result = relay.stop(signal.SIGTERM)
    assert result.stdout == b""
    assert result.status == 128 + signal.SIGTERM
    refused = run_lykke("relay", "--partitions", 8, env=relay_env)
    assert refused.status == ExitCode.USAGE
    assert "have 4 partitions, not 8" in refused.stderr


def test_since_leaves_out_what_is_older(own_redis: RedisServer, relay_env: dict[str, str]) -> None:
    user = uuid.uuid4()
    old = ("record", user, "OLD", "--occurred-at", "2d")
    assert run_lykke(*old, env=relay_env).status == 0
    record(relay_env, user=user)
    with LykkeProcess("relay", "--since", "1d", env=relay_env):
        [entry] = wait_until(lambda: streamed(own_redis), "the new one is relayed")
    assert b"TASK_COMPLETED" in entry[b"e"]


def test_what_nobody_published_is_published(
    own_redis: RedisServer, relay_env: dict[str, str]
) -> None:
    away = relay_env | {"REDIS_URL": "redis://127.0.0.1:1"}  # where nobody hears it
    told, lost = uuid.uuid4(), uuid.uuid4()
    with (
        LykkeProcess("tail", "--all", "--live-only", "-o", "ndjson", env=relay_env) as tail,
        LykkeProcess("relay", "--also", "pubsub", env=relay_env) as relay,
    ):
        tail.wait_for("following", SOON)
        relay.wait_for("relaying into", SOON)
        record(relay_env, user=told)
        assert tail.row(SOON)["user_id"] == str(told)
        wait_until(lambda: streamed(own_redis), "it has caught up")
        run_lykke("record", lost, "TASK_COMPLETED", env=away)
        assert tail.row(SOON)["user_id"] == str(lost)


def test_figures_are_told_as_prometheus_reads_them(
    own_redis: RedisServer, relay_env: dict[str, str]
) -> None:
    record(relay_env, user=uuid.uuid4())
    with LykkeProcess("relay", "--metrics-port", 0, env=relay_env) as relay:
        relay.wait_for("/metrics", SOON)
        [address] = re.findall(r"http://\S+", relay.stderr)

        def figures() -> dict[str, float]:
            with urllib.request.urlopen(address, timeout=SOON) as answer:
                lines = answer.read().decode().splitlines()
            parts = (line.split() for line in lines if not line.startswith("#"))
            return {name: float(value) for name, value in parts}

        wait_until(lambda: figures()["lykke_relay_lag_seconds"] < 10, "it has caught up", SOON)
        assert figures()["lykke_relay_entries_total"] == 1
        assert figures()["lykke_relay_active"] == 1
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address.removesuffix("metrics"), timeout=SOON)


def test_doctor_tells_whether_one_runs(relay_env: dict[str, str]) -> None:
    def check() -> dict[str, str]:
        report = run_lykke(
            "doctor", "--transport", "stream", "-o", "json", env=relay_env, timeout=SOON
        )
        checks = json.loads(report.stdout)["checks"]
        [found] = [check for check in checks if check["id"] == "redis.relay"]
        assert isinstance(found, dict)
        return found

    assert check()["status"] == "failed"
    with LykkeProcess("relay", env=relay_env) as relay:
        relay.wait_for("relaying into", SOON)
        wait_until(lambda: check()["status"] == "ok", "it has written its place", 2 * SOON)
        assert "s behind" in check()["detail"]
        relay.stop()
    assert "no relay runs, the last one wrote" in check()["detail"]


@pytest.mark.parametrize("columns", [60, 200])
def test_a_terminal_shows_how_it_stands(relay_env: dict[str, str], columns: int) -> None:
    record(relay_env, user=uuid.uuid4())
    with LykkeProcess("relay", env=relay_env, terminal=columns) as relay:
        relay.wait_for("● relaying · 1 entry", SOON)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--partitions", "0"], "at least 1"),
        (["--keep", "0"], "at least 1"),
        (["--interval", "0s"], "no interval"),
        (["--also", "kafka"], "pubsub"),
        (["--metrics-host", "0.0.0.0"], "--metrics-port"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: list[str], problem: str) -> None:
    env = {"DATABASE_URL": "sqlite:///none.db"}
    result = call_lykke("relay", *arguments, env=env)
    assert result.status == ExitCode.USAGE
    assert problem in result.stderr


def test_it_needs_the_database() -> None:
    result = call_lykke("relay")
    assert result.status == ExitCode.USAGE
    assert "DATABASE_URL" in result.stderr


def test_a_server_that_is_away_is_told(own_redis: RedisServer) -> None:
    for redis_url, database in (
        ("redis://127.0.0.1:1", "postgresql://u@127.0.0.1:1/none"),
        (own_redis.url, "postgresql://u@127.0.0.1:1/none"),
    ):
        env = {"REDIS_URL": redis_url, "DATABASE_URL": database}
        result = run_lykke("relay", env=env)
        assert result.status == ExitCode.UNAVAILABLE
        assert "127.0.0.1:1" in result.stderr
