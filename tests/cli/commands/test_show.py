"""`lykke show`: one entry in full."""

import asyncio
import re
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.builders import add_users, entity, insert
from tests.cli_process import LykkeProcess, call_lykke

USER, TASK = uuid.UUID(int=1), uuid.UUID(int=2)
ID = uuid.UUID("4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11")
OTHER = uuid.UUID("4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e12")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
EMAIL = "anna\x1b[31m@example.com"
META = {"title": "x\x1b[2J\u202e", "nested": {"list": [1, 2]}}


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    rows = [
        entity(USER, "TASK_FAILED", NOON, META, id=ID, entity_id=TASK, entity_type="task"),
        entity(USER, "TASK_MOVED", NOON + timedelta(minutes=5), id=OTHER, entity_id=TASK),
        entity(USER, "OLD", NOON - timedelta(hours=5), entity_id=TASK),
    ]
    asyncio.run(insert(sqlite_url, rows))
    add_users(sqlite_url, (USER, EMAIL))
    return {"DATABASE_URL": sqlite_url, "TZ": "Asia/Tokyo"}


def change(env: dict[str, str], sql: str, *values: str) -> None:
    path = env["DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(sql, values)
        connection.commit()


def test_in_a_pipe_it_is_the_line_that_every_command_prints(env: dict[str, str]) -> None:
    shown = call_lykke("show", ID, env=env)
    assert (shown.status, shown.stderr) == (ExitCode.DONE, "")
    history = call_lykke("backfill", USER, "--entity-type", "task", "--since", "9999d", env=env)
    assert shown.stdout == history.stdout
    for spelling in (ID.hex, str(ID).upper(), str(ID)[:-1] + "1"):
        assert call_lykke("show", spelling, "-o", "json", env=env).stdout == shown.stdout


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_on_a_terminal_it_is_everything_that_is_known(env: dict[str, str], width: int) -> None:
    zone = ["--tz", "Europe/Berlin"]
    with LykkeProcess("show", ID, *zone, env=env, terminal=width) as process:
        screen = process.finish().stdout.decode()
    assert "\x1b[31;1mTASK_FAILED\x1b[0m" in screen
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen.replace("\r", ""))
    for part in (
        *("2026-05-01 14:00:00.000000 UTC+02:00", "2026-05-01 12:00:00.000000 UTC\n"),
        *(str(ID), str(USER), str(TASK), "task", "anna\\x1b[31m@example.com"),
        *('"title": "x\\u001b[2J\\u202e"', '"list": [', "What else happened", "TASK_MOVED"),
    ):
        assert part in text
    assert "OLD" not in text
    assert text.replace("\n", "").isprintable()


def test_several_are_listed_and_a_usage_mistake(env: dict[str, str]) -> None:
    shown = call_lykke("show", "4a1d6cc5-3b", env=env)
    assert (shown.status, shown.stdout) == (ExitCode.USAGE, b"")
    first, second, last = shown.stderr.splitlines()
    assert first == f"{ID}  2026-05-01T12:00:00.000000Z  TASK_FAILED"
    assert second.startswith(str(OTHER))
    assert last.startswith("lykke: Several entries have an id that begins with '4a1d6cc53b'")


def test_of_several_no_more_is_told_than_a_person_reads(env: dict[str, str]) -> None:
    change(env, "UPDATE audit_logs SET activity_type = ?", "X" * 100_000)
    assert len(call_lykke("show", "4a1d6cc5-3b", env=env).stderr) < 1_000


def test_none_is_bad_input(env: dict[str, str]) -> None:
    shown = call_lykke("show", "ffff", env=env)
    assert (shown.status, shown.stdout) == (ExitCode.BAD_INPUT, b"")
    assert shown.stderr.count("\n") == 1


@pytest.mark.parametrize("text", ["", "4g", "4a1d%", "\x1b[2J", "'", "4" * 33])
def test_what_is_no_id_is_a_usage_mistake(env: dict[str, str], text: str) -> None:
    shown = call_lykke("show", text, env=env)
    assert (shown.status, shown.stdout) == (ExitCode.USAGE, b"")
    assert "4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11" in shown.stderr


def test_an_entry_outside_of_the_calendar_is_shown_as_it_is_stored(env: dict[str, str]) -> None:
    change(env, "UPDATE audit_logs SET occurred_at = '0044-03-15 12:00:00 BC'")
    shown = call_lykke("show", ID, "-o", "table", env=env)
    text = shown.stdout.decode()
    assert (shown.status, shown.stderr) == (ExitCode.DONE, "")
    assert "0044-03-15 12:00:00 BC" in text and '"list": [' in text and str(TASK) in text


def test_without_the_table_of_users_there_is_just_no_address(env: dict[str, str]) -> None:
    change(env, "DROP TABLE users")
    shown = call_lykke("show", ID, "-o", "table", env=env)
    assert (shown.status, shown.stderr) == (ExitCode.DONE, "")
    assert b"e-mail" not in shown.stdout


def test_it_needs_a_database() -> None:
    shown = call_lykke("show", ID)
    assert (shown.status, "DATABASE_URL" in shown.stderr) == (ExitCode.USAGE, True)
