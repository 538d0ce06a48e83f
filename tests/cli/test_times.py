"""A time without a zone is read in the zone that times are shown in."""

import asyncio
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.configuration.profiles import config_path
from tests.builders import entity, insert
from tests.cli_process import LykkeProcess, call_lykke, run_lykke

USER = uuid.UUID(int=21)
MOMENT = datetime(2026, 7, 1, 10, 30, tzinfo=UTC)
IN_UTC, IN_NEW_YORK, IN_BERLIN = "10:30", "06:30", "12:30"


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    asyncio.run(insert(sqlite_url, [entity(USER, "X", MOMENT)]))
    return {"DATABASE_URL": sqlite_url, "TZ": "America/New_York"}


def around(clock: str) -> list[str]:
    hour = int(clock[:2])
    return ["--since", f"2026-07-01 {hour:02}:00", "--until", f"20260701T{hour + 1:02}00"]


@pytest.mark.parametrize(
    ("arguments", "clock", "zone"),
    [
        ([], IN_NEW_YORK, "UTC-04:00"),
        (["--utc"], IN_UTC, "UTC"),
        (["--local"], IN_NEW_YORK, "UTC-04:00"),
        (["--tz", "Europe/Berlin"], IN_BERLIN, "UTC+02:00"),
    ],
)
def test_on_a_terminal(env: dict[str, str], arguments: list[str], clock: str, zone: str) -> None:
    options = [*around(clock), *arguments, "--color", "never"]
    for command in (["backfill", USER], ["users"]):
        with LykkeProcess(*command, *options, env=env, terminal=100) as lykke:
            screen = lykke.finish().stdout.decode()
        assert re.search(rf"\b{clock}:00", screen), screen
        assert re.search(rf"{re.escape(zone)}(?![+-])", screen), screen


@pytest.mark.parametrize(
    ("arguments", "clock"),
    [
        ([], IN_UTC),
        (["--utc"], IN_UTC),
        (["--local"], IN_NEW_YORK),
        (["--tz", "Europe/Berlin"], IN_BERLIN),
    ],
)
def test_in_a_pipe(env: dict[str, str], arguments: list[str], clock: str) -> None:
    for command in (["backfill", USER], ["users"], ["stats", USER]):
        result = run_lykke(*command, *around(clock), *arguments, env=env)
        assert result.status == 0
        assert b"2026-07-01T10:30:00" in result.stdout
    table = run_lykke("backfill", USER, *around(clock), *arguments, "-o", "table", env=env)
    assert f"{clock}:00".encode() in table.stdout


def test_the_profile_names_the_zone_too(env: dict[str, str]) -> None:
    path: Path = config_path()
    path.parent.mkdir(parents=True)
    path.write_text('current = "a"\n[profiles.a]\nutc = true\n')
    arguments = ("backfill", USER, *around(IN_UTC))
    with LykkeProcess(*arguments, env=env, terminal=100) as lykke:
        assert b"TIME UTC" in lykke.finish().stdout


@pytest.mark.parametrize("clock", [IN_UTC, IN_NEW_YORK])
def test_record_reads_it_likewise(env: dict[str, str], clock: str) -> None:
    """With a server that is away: what was committed is printed all the same."""
    options = ("--occurred-at", f"2026-07-01 {clock}", "--redis-url", "redis://127.0.0.1:1")
    command = ("record", uuid.uuid4(), "X", *options)
    if clock == IN_UTC:
        shown = run_lykke(*command, env=env).stdout
    else:
        with LykkeProcess(*command, env=env, terminal=200) as lykke:
            shown = lykke.finish().stdout
    assert b'"2026-07-01T10:30:00' in shown


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--since", "20260101123"], "has no unit"),
        (["--until", "soon"], "is not a time"),
        (["--tz", "Berlin"], "Europe/Berlin"),
        (["--tz", "UTC", "--utc"], "--tz"),
    ],
)
def test_a_mistake_is_told(env: dict[str, str], arguments: list[str], part: str) -> None:
    for command in (["backfill", USER], ["tail", USER], ["users"], ["stats", USER]):
        result = call_lykke(*command, *arguments, env=env)
        assert result.status == ExitCode.USAGE
        assert part in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_bare_date_is_that_day(env: dict[str, str]) -> None:
    result = run_lykke("backfill", USER, "--since", "20260701", "--until", "20260702", env=env)
    assert len(result.rows) == 1
    assert run_lykke("backfill", USER, "--since", "20260702", env=env).rows == []
