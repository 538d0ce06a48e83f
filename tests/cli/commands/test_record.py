"""`lykke record`: an entry is committed, then broadcast."""

import uuid

import pytest

from lykke_cli.application.messages import Entry, decode
from tests.cli_process import LykkeProcess, run_lykke


def test_record_commits_then_broadcasts(owner_env: dict[str, str]) -> None:
    user, thing = uuid.uuid4(), uuid.uuid4()
    with LykkeProcess("tail", user, "--live-only", env=owner_env) as tail:
        tail.wait_for("following")
        result = run_lykke(
            *("record", user, "TaskCompletedEvent", "--meta", '{"n": 1}'),
            *("--entity-id", thing, "--entity-type", "task", "--occurred-at", "2026-01-01"),
            env=owner_env,
        )
        live = tail.row()
    assert result.status == 0
    assert result.rows == [live]
    assert live["occurred_at"] == "2026-01-01T00:00:00.000000Z"
    history = run_lykke("backfill", user, "--limit", 9, env=owner_env)
    assert history.rows == [live]


def test_details_are_given_one_by_one(owner_env: dict[str, str]) -> None:
    given = ["title=a=b: {c}", "zip=0123", "n:=3", "tags:=[1, 0.10, 18446744073709551615, 1e20]"]
    given += ['{"n": 4, "x": null}']
    words = [word for text in given for word in ("--meta", text)]
    result = run_lykke("record", uuid.uuid4(), "X", *words, env=owner_env)
    assert result.status == 0, result.stderr
    tags = [1, 0.1, 2**64 - 1, 1e20]
    meta = {"title": "a=b: {c}", "zip": "0123", "n": 4, "tags": tags, "x": None}
    assert result.rows[0]["meta"] == meta


def test_record_without_redis_is_committed_and_says_so(owner_env: dict[str, str]) -> None:
    user = uuid.uuid4()
    result = run_lykke("record", user, "X", "--redis-url", "redis://127.0.0.1:1", env=owner_env)
    assert result.status == 0
    [line] = result.stderr.splitlines()
    assert line.startswith("lykke: The audit log entry ")
    assert "was committed, but its broadcast failed" in line
    assert isinstance(decode(result.stdout.strip()), Entry)
    assert len(run_lykke("backfill", user, "--limit", 9, env=owner_env).rows) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["X", "--meta", "[1]"], 5, "--meta"),
        (["X", "--meta", "{"], 5, "--meta '{' is not JSON"),
        (["X", "--meta", "title"], 5, "'title' is neither key=value"),
        (["X", "--meta", "=1"], 5, "'=1' is neither key=value"),
        (["X", "--meta", "n:=x"], 5, "'n:=x' is not JSON"),
        (["X", "--meta", "t=\udcff"], 5, "is not UTF-8"),
        (["X", "--meta", "n:=123456789012345678901234567890"], 5, "1.2345678901234568e+29"),
        (["X", "--meta", '{"a": [3.141592653589793238]}'], 5, "3.141592653589793;"),
        (["X", "--meta", "n:=1e-400"], 5, "the number 1e-400 would become 0.0"),
        (["X", "--meta", "n:=1e-99999999999999999999"], 5, "would become 0.0"),
        (["X", "--meta", "n:=" + "[" * 300 + "]" * 300], 5, "nested too deeply"),
        (["X", "--meta", "n:=" + "[" * 600 + "]" * 600], 5, "nested too deeply"),
        ([""], 5, "activity_type"),
        (["X", "--entity-id", "7"], 2, "'7' is not a UUID"),
    ],
)
def test_bad_input_to_record(
    owner_env: dict[str, str], arguments: list[str], status: int, message: str
) -> None:
    result = run_lykke("record", uuid.uuid4(), *arguments, env=owner_env)
    assert (result.status, len(result.stderr.splitlines())) == (status, 1)
    assert message in result.stderr


def test_record_needs_a_database(env: dict[str, str]) -> None:
    result = run_lykke("record", uuid.uuid4(), "X", env=env)
    assert result.status == 2
    assert "DATABASE_URL" in result.stderr


def test_a_reader_may_not_record(database_env: dict[str, str]) -> None:
    result = run_lykke("record", uuid.uuid4(), "X", env=database_env)
    assert result.status == 3
    assert "permission denied" in result.stderr.lower()
