"""The transport on the command line: what it does, and what it does not go with."""

import uuid

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import LykkeProcess, call_lykke, run_lykke
from tests.servers import RedisServer

USER = uuid.UUID(int=7)
SHARDED = ("--transport", "sharded")


def test_the_transport_is_how_messages_travel(redis_server: RedisServer) -> None:
    env = {"REDIS_URL": redis_server.url}
    tail = LykkeProcess("tail", USER, *SHARDED, "--live-only", "--count", 1, env=env)
    with tail:
        tail.wait_for("following")
        plainly = run_lykke("publish", USER, "-o", "json", env=env)
        assert plainly.rows[0]["subscribers"] == 0
        sharded = env | {"LYKKE_TRANSPORT": "sharded"}
        [row] = run_lykke("channels", "-o", "ndjson", env=sharded).rows
        assert row["channel"] == f"auditlog:{USER}"
        run_lykke("publish", USER, "--require-subscribers", 1, env=sharded)
        assert tail.finish().status == ExitCode.DONE


@pytest.mark.parametrize(
    "command",
    [
        ["tail", USER],
        ["tail", USER, "--live-only"],
        ["publish", USER],
        ["record", USER, "X"],
        ["expect", USER, "--count", 1, "--", "true"],
        ["backfill", USER, "--since", "1h", "--replay"],
        ["channels"],
        ["doctor"],
        ["serve"],
    ],
    ids=str,
)
def test_the_url_and_the_option_that_differ_are_a_mistake(command: list[object]) -> None:
    name, *rest = command
    env = {"REDIS_URL": "redis://:s3cret@h?transport=pubsub", "DATABASE_URL": "sqlite:////x"}
    result = call_lykke(name, *SHARDED, *rest, env=env)
    assert (result.status, result.stdout) == (ExitCode.USAGE, b"")
    [line] = result.stderr.splitlines()
    assert "transport=pubsub, and --transport says sharded" in line
    assert "s3cret" not in line


def test_a_bridge_has_a_transport_of_its_own() -> None:
    result = call_lykke("tail", USER, "--from", "https://h", *SHARDED)
    assert result.status == ExitCode.USAGE
    assert "--transport does not go with --from" in result.stderr
