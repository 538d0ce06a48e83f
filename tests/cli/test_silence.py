"""Where nothing comes because of a mistake, a line says so."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.cli.runs.silence import LIVE_ONLY
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


def test_what_prints_entries_has_no_mistake(env: dict[str, str]) -> None:
    arguments = (USER, "--activity-type", "TASK_COMPLETED", "--activity-type", "Nonsense")
    assert "Nonsense" not in run_lykke("backfill", *arguments, "--since", "60d", env=env).stderr


def test_tail(env: dict[str, str], redis_url: str) -> None:
    env = {**env, "REDIS_URL": redis_url}
    with LykkeProcess("tail", STRANGER, "--activity-type", "task_completd", env=env) as tail:
        tail.wait_for(TYPO)
        assert NOBODY + TYPO in tail.stop().stderr


def test_tail_without_a_database(redis_url: str) -> None:
    env = {"REDIS_URL": redis_url}
    arguments = ("tail", USER, "--timeout", "0.2s")
    assert f"\nlykke: {LIVE_ONLY}\n" in run_lykke(*arguments, env=env).stderr
    for meant in ("--live-only", "-q", "--channel=notification"):
        assert "live only" not in run_lykke(*arguments, meant, env=env).stderr
