"""Where nothing comes because of a mistake, a line says so."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.cli.runs.silence import KEPT_IN_STREAMS, LIVE_ONLY
from tests.builders import entity, insert
from tests.cli_process import LykkeProcess, run_lykke

USER, STRANGER = uuid.UUID(int=31), uuid.UUID(int=32)
NOBODY = f"lykke: {STRANGER} has no entry in this database yet, of any time\n"
TYPO = "lykke: no user has an entry of the type task_completd yet; did you mean TASK_COMPLETED?\n"
ODD = "lykke: no user has an entry of the type Nonsense yet\n"


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    long_ago = datetime.now(UTC) - timedelta(days=30)
    asyncio.run(insert(sqlite_url, [entity(USER, "TASK_COMPLETED", long_ago)]))
    return {"DATABASE_URL": sqlite_url}


CASES = [
    ([STRANGER], NOBODY),
    ([USER], ""),
    ([USER, "--activity-type", "TASK_COMPLETED"], ""),
    ([USER, "--activity-type", "task_completd"], TYPO),
    ([USER, "--activity-type", "Nonsense", "--activity-type", "NO*"], ODD),
    ([STRANGER, "--activity-type", "task_completd"], NOBODY + TYPO),
]


@pytest.mark.parametrize(("arguments", "told"), CASES)
def test_backfill_and_stats(env: dict[str, str], arguments: list[object], told: str) -> None:
    backfill = run_lykke("backfill", *arguments, "--since", "1h", env=env)
    assert (backfill.status, backfill.stdout) == (ExitCode.DONE, b"")
    assert backfill.stderr.startswith(told + "lykke: 0 printed in ")
    assert run_lykke("stats", *arguments, "--since", "1h", env=env).stderr == told
    for command in ("backfill", "stats"):
        assert run_lykke(command, *arguments, "--since", "1h", "-q", env=env).stderr == ""


@pytest.mark.parametrize("command", ["backfill", "stats"])
def test_of_what_is_printed_only_a_type_among_others_can_be_a_mistake(
    env: dict[str, str], command: str
) -> None:
    arguments = (command, USER, "--since", "60d", "--activity-type", "TASK_COMPLETED")
    assert "no user" not in run_lykke(*arguments, env=env).stderr
    assert ODD in run_lykke(*arguments, "--activity-type", "Nonsense", env=env).stderr


def test_the_nearest_type_is_one_of_the_database(env: dict[str, str]) -> None:
    asyncio.run(insert(env["DATABASE_URL"], [entity(STRANGER, "InvoiceSent")]))
    told = run_lykke("backfill", USER, "--activity-type", "invoice_sent", env=env).stderr
    assert "the type invoice_sent yet; did you mean InvoiceSent?" in told


def test_tail(env: dict[str, str], redis_url: str) -> None:
    env = {**env, "REDIS_URL": redis_url}
    with LykkeProcess("tail", STRANGER, "--activity-type", "task_completd", env=env) as tail:
        tail.wait_for(TYPO)
        assert NOBODY + TYPO in tail.stop().stderr


def test_tail_tells_of_a_type_though_others_are_printed(
    env: dict[str, str], redis_url: str
) -> None:
    arguments = (USER, "--activity-type", "TASK_COMPLETED", "--activity-type", "Nonsense")
    servers = {**env, "REDIS_URL": redis_url}
    result = run_lykke("tail", *arguments, "-n", 1, "--no-follow", env=servers)
    assert len(result.rows) == 1
    assert ODD in result.stderr
    quiet = run_lykke("tail", *arguments, "-n", 1, "--no-follow", "-q", env=servers)
    assert (len(quiet.rows), quiet.stderr) == (1, "")


def test_expect(env: dict[str, str], redis_url: str) -> None:
    env = {**env, "REDIS_URL": redis_url}
    arguments = ("expect", STRANGER, "--none", "--timeout", "0.1s", "--activity-type")
    told = run_lykke(*arguments, "task_completd", "--", "echo", "the command", env=env).stderr
    assert NOBODY + TYPO in told.partition("the command")[0]
    assert "no entry" not in run_lykke(*arguments, "task_completd", "-q", env=env).stderr


def test_expect_without_a_database(redis_url: str) -> None:
    arguments = ("expect", USER, "--none", "--timeout", "0.1s")
    env = {"REDIS_URL": redis_url}
    assert f"\nlykke: {LIVE_ONLY}\n" in run_lykke(*arguments, env=env).stderr
    for meant in ("--live-only", "-q", "--channel=notification"):
        assert "live only" not in run_lykke(*arguments, meant, env=env).stderr


def test_tail_without_a_database(redis_url: str) -> None:
    env = {"REDIS_URL": redis_url}
    arguments = ("tail", USER, "--idle", "0.1s")
    assert f"\nlykke: {LIVE_ONLY}\n" in run_lykke(*arguments, env=env).stderr
    for meant in ("--live-only", "-q", "--channel=notification"):
        assert "live only" not in run_lykke(*arguments, meant, env=env).stderr


@pytest.mark.parametrize("command", ["tail", "expect"])
def test_streams_without_a_database(redis_url: str, command: str) -> None:
    arguments = (command, USER, "--transport", "stream")
    end = ("--none", "--timeout", "0.2s") if command == "expect" else ("--idle", "0.2s")
    told = run_lykke(*arguments, *end, env={"REDIS_URL": redis_url}).stderr
    assert f"\nlykke: {KEPT_IN_STREAMS}\n" in told
    assert LIVE_ONLY not in told
