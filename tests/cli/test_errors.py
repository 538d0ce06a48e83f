"""Every way a server can be missing: one line, the server without its password, the remedy."""

import subprocess
import uuid
from pathlib import Path

import pytest

from lykke_cli.__main__ import main
from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import Result, call_lykke, environment, run_lykke
from tests.programs import program
from tests.servers import PostgresServer, RedisServer

NOWHERE = "127.0.0.1:1"
USER = uuid.UUID(int=1)


def assert_one_line(result: Result, code: ExitCode, *parts: str) -> None:
    assert result.status == code, result.stderr
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    for part in parts:
        assert part in lines[0]
    assert "Traceback" not in result.stderr
    assert "s3cret" not in result.stderr


@pytest.mark.parametrize("command", [["tail"], ["publish"]])
def test_redis_is_not_there(command: list[str]) -> None:
    result = run_lykke(*command, USER, env={"REDIS_URL": f"redis://:s3cret@{NOWHERE}/2"})
    assert_one_line(result, ExitCode.UNAVAILABLE, f"redis://{NOWHERE}/2", "REDIS_URL", "refused")


@pytest.mark.parametrize(
    "command",
    [
        *(["backfill", "-o", form] for form in ("json", "csv", "table")),
        ["backfill", "-o", "json", "--since", "1h"],
        ["record"],
        ["tail", "-o", "json"],
    ],
)
def test_the_database_is_not_there(redis_server: RedisServer, command: list[str]) -> None:
    url = f"postgresql://me:s3cret@{NOWHERE}/audit"
    more = ["X"] if command == ["record"] else []
    result = run_lykke(
        *command, USER, *more, env={"DATABASE_URL": url, "REDIS_URL": redis_server.url}
    )
    assert_one_line(result, ExitCode.UNAVAILABLE, f"me@{NOWHERE}/audit", "DATABASE_URL")
    assert result.stdout == b""  # which nobody takes for an empty result


@pytest.mark.parametrize("options", [[], ["--since", "1h"]])
def test_no_entries_are_an_empty_result(sqlite_url: str, options: list[str]) -> None:
    result = call_lykke("backfill", USER, "-o", "json", *options, env={"DATABASE_URL": sqlite_url})
    assert (result.status, result.stdout) == (0, b"[]\n")


def test_ctrl_c_before_anything_runs_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("lykke_cli.cli.app.run", interrupted)
    monkeypatch.setattr("sys.argv", ["lykke", "tail"])
    assert main() == ExitCode.INTERRUPTED


@pytest.mark.parametrize("command", [["backfill"], ["record"]])
def test_the_database_refuses_the_password(
    postgres_server: PostgresServer, redis_server: RedisServer, command: list[str]
) -> None:
    url = postgres_server.url("postgres", "reader", "s3cret")
    more = ["X"] if command == ["record"] else []
    result = run_lykke(
        *command, USER, *more, env={"DATABASE_URL": url, "REDIS_URL": redis_server.url}
    )
    assert_one_line(result, ExitCode.UNAVAILABLE, "reader@", "password")


@pytest.mark.parametrize(
    "command",
    ["backfill", "record {} X", "tail", "tail {} --since 1h", "tail {} -n 5", "expect {} -- true"],
)
def test_the_table_is_missing(
    postgres_server: PostgresServer, redis_server: RedisServer, command: str
) -> None:
    env = {"DATABASE_URL": postgres_server.url("template1"), "REDIS_URL": redis_server.url}
    arguments = (command if "{}" in command else f"{command} {{}}").format(USER).split()
    result = run_lykke(*arguments, env=env, timeout=20)
    assert result.status == ExitCode.UNAVAILABLE
    assert "audit_logs" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", [["backfill"], ["record"]])
def test_a_column_is_missing(
    postgres_server: PostgresServer,
    postgres_database: str,
    redis_server: RedisServer,
    command: list[str],
) -> None:
    postgres_server.execute("ALTER TABLE audit_logs DROP COLUMN meta", postgres_database)
    env = {
        "DATABASE_URL": postgres_server.url(postgres_database),
        "REDIS_URL": redis_server.url,
    }
    more = ["X"] if command == ["record"] else []
    assert_one_line(run_lykke(*command, USER, *more, env=env), ExitCode.UNAVAILABLE, "meta")


@pytest.mark.parametrize("url", ["redis://", "http://h", "redis://h:port", "localhost:6379", "x"])
def test_a_malformed_redis_url(url: str) -> None:
    assert_one_line(call_lykke("publish", USER, "--redis-url", url), ExitCode.USAGE, "redis://")


@pytest.mark.parametrize("url", ["mysql://h/d", "postgresql://h:port/d", "x", "sqlite://"])
def test_a_malformed_database_url(url: str) -> None:
    result = call_lykke("backfill", USER, "--database-url", url)
    assert_one_line(result, ExitCode.USAGE, "The database URL", "://")


@pytest.mark.parametrize("type", ["", "*", "a b", "a\n", "a?", "a[b]", "a\\", "\x1b", "\u00a0"])
def test_what_is_no_type_of_channels(type: str) -> None:
    for command in (["tail", USER], ["publish", USER], ["expect", USER]):
        result = call_lykke(*command, "--channel", type)
        assert_one_line(result, ExitCode.USAGE, " is no type of channels: write a name such as")


def test_debug_shows_the_traceback_without_the_password() -> None:
    result = run_lykke("--debug", "publish", USER, "--redis-url", f"redis://:s3cret@{NOWHERE}")
    assert result.status == ExitCode.UNAVAILABLE
    assert "Traceback" in result.stderr
    assert "s3cret" not in result.stderr


def test_an_unknown_command_suggests_the_one_meant() -> None:
    result = run_lykke("tial", USER)
    assert result.status == ExitCode.USAGE
    assert "tail" in result.stderr


def test_no_arguments_show_the_help() -> None:
    result = run_lykke()
    assert result.status == ExitCode.USAGE
    assert "tail" in result.stdout.decode() + result.stderr


NAMES = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME", "XDG_CONFIG_HOME", "PGUSER")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["tail", USER, "--redis-url", f"redis://{NOWHERE}"], 3, "refused"),
        (["profile", "list"], 0, "no profile yet"),
        (["backfill", USER, "--database-url", f"postgresql://u@{NOWHERE}/x"], 3, "refused"),
        (["backfill", USER, "--database-url", f"postgresql://{NOWHERE}/x"], 2, "names no user"),
        (["record", USER, "X", "--database-url", "postgresql:///x"], 2, "names no user"),
    ],
)
def test_a_user_that_nobody_knows_without_a_home(
    tmp_path: Path, arguments: list[object], status: int, text: str
) -> None:
    env = {name: value for name, value in environment().items() if name not in NAMES}
    done = subprocess.run(
        [*program("lykke_of_an_unknown_user"), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=env | {"XDG_STATE_HOME": str(tmp_path / "state")},
        timeout=60,
    )
    assert_one_line(Result(b"", done.stderr, done.returncode), ExitCode(status), text)
    assert not list(tmp_path.glob("~*"))
