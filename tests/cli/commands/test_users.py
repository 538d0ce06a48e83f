"""`lykke users`, and a USER_ID that is an e-mail address."""

import asyncio
import csv
import io
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from rich.cells import cell_len

from lykke_cli.cli.exit_codes import ExitCode
from tests.builders import add_users, entity, insert
from tests.cli_process import call_lykke

ANNA, BEA = uuid.UUID(int=1), uuid.UUID(int=2)
NOW = datetime.now(UTC)
EMAIL = "=Anna\x1b[31m[/]日本@example.com"


@pytest.fixture
def env(redis_url: str, sqlite_url: str) -> dict[str, str]:
    """With two users active, of whom one has an address."""
    rows = [entity(ANNA, "A", NOW), entity(BEA, "B", NOW - timedelta(hours=2))]
    asyncio.run(insert(sqlite_url, rows))
    add_users(sqlite_url, (ANNA, EMAIL), (ANNA, "anna@example.com"))
    return {"REDIS_URL": redis_url, "DATABASE_URL": sqlite_url}


def test_each_form_has_the_same_users(env: dict[str, str]) -> None:
    shown = call_lykke("users", "--email", "=*", env=env)
    [row] = shown.rows
    assert list(row) == ["user_id", "email", "entries", "last"]
    assert (row["user_id"], row["email"], row["entries"]) == (str(ANNA), EMAIL, 1)
    assert row["last"] == NOW.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert call_lykke("users", "--email", "=*", "-o", "json", env=env).stdout == (
        b"[\n" + shown.stdout.rstrip() + b"\n]\n"
    )
    text = call_lykke("users", "--email", "=*", "-o", "csv", env=env).stdout.decode()
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"user_id": str(ANNA), "email": f"'{EMAIL}", "entries": "1", "last": row["last"]}
    ]


def test_the_latest_come_first_and_no_more_than_asked_for(env: dict[str, str]) -> None:
    def ids(*arguments: str) -> list[str]:
        return [row["user_id"] for row in call_lykke("users", *arguments, env=env).rows]

    assert ids()[-1] == str(BEA)
    assert ids("--limit", "1") == [str(ANNA)]
    assert ids("--activity-type", "B") == ids("--activity-type", "[!A]") == [str(BEA)]
    assert ids("--activity-type", "b*") == []
    assert ids("--until", "1h") == [str(BEA)]
    assert ids("--since", "now") == []


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_has_whole_ids_and_straight_columns(env: dict[str, str], width: int) -> None:
    columns = env | {"COLUMNS": str(width)}
    shown = call_lykke("users", "-o", "table", "--utc", env=columns).stdout.decode()
    header, *lines = shown.splitlines()
    assert {line[:36] for line in lines} == {str(ANNA), str(BEA)}
    assert len({cell_len(line) for line in (header, *lines)}) == 1
    assert cell_len(header) <= width
    assert "\x1b" not in shown
    assert "=Anna\\x1b" in shown


@pytest.mark.parametrize(("width", "beside"), [(80, False), (120, True)])
def test_the_age_stands_beside_the_time_where_there_is_room(
    env: dict[str, str], width: int, beside: bool
) -> None:
    shown = call_lykke("users", "-o", "table", env=env | {"COLUMNS": str(width)}).stdout.decode()
    assert (" AGE " in shown, " 2h ago " in shown) == (beside, beside)


def test_nobody_is_told_of(env: dict[str, str]) -> None:
    result = call_lykke("users", "--since", "now", "-o", "table", env=env)
    assert (result.status, result.stdout) == (0, b"no users with entries in this range\n")
    assert call_lykke("users", "--since", "now", "-o", "json", env=env).stdout == b"[]\n"


@pytest.mark.parametrize(
    "command",
    [
        ["tail", "{}", "-n", "1", "--count", "1"],
        ["tail", "{}", "-n", "1", "--count", "1", "--channel", "auditlog"],
        ["backfill", "{}", "--since", "1h"],
        ["record", "{}", "C"],
        ["stats", "{}"],
        ["publish", "{}", "--json"],
    ],
)
def test_an_address_stands_for_its_user(env: dict[str, str], command: list[str]) -> None:
    arguments = [part.format("ANNA@example.com") for part in command]
    result = call_lykke(*arguments, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    assert str(ANNA) in result.stdout.decode()


@pytest.mark.parametrize("command", [["tail"], ["tail", "--live-only"], ["publish"], ["stats"]])
def test_an_address_that_nobody_has_is_a_usage_mistake(
    env: dict[str, str], command: list[str]
) -> None:
    result = call_lykke(*command, "nobody@example.com", env=env)
    assert result.status == ExitCode.USAGE
    assert result.stderr == (
        "lykke: No user has the e-mail address 'nobody@example.com': "
        "`lykke users --email PATTERN` looks for similar ones.\n"
    )


def test_an_address_needs_a_database() -> None:
    result = call_lykke("publish", "anna@example.com")
    assert (result.status, "DATABASE_URL" in result.stderr) == (ExitCode.USAGE, True)


def test_a_pattern_needs_the_table_of_users(sqlite_url: str) -> None:
    result = call_lykke("users", "--email", "*", env={"DATABASE_URL": sqlite_url})
    assert (result.status, "leave --email out" in result.stderr) == (ExitCode.USAGE, True)
