"""`lykke backfill`: which part of history a range is."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.builders import entity, insert
from tests.cli_process import call_lykke, run_lykke

USER = uuid.UUID(int=41)


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    """Of a database with an entry for each of the last ten minutes, the newest the ninth."""
    now = datetime.now(UTC)
    entries = [
        entity(
            USER,
            "EVEN" if number % 2 == 0 else "ODD",
            now - timedelta(minutes=10 - number),
            {"n": number, "is": "small" if number < 5 else "large"},
        )
        for number in range(10)
    ]
    asyncio.run(insert(sqlite_url, entries))
    return {"DATABASE_URL": sqlite_url}


@pytest.mark.parametrize("newest", ["-n", "--last", "--limit"])
@pytest.mark.parametrize(
    ("filters", "matching"),
    [
        ([], range(10)),
        (["--since", "1h"], range(10)),
        (["--until", "4.5m"], range(6)),
        (["--grep", "small"], range(5)),
        (["--since", "1h", "--not-grep", "large"], range(5)),
        (["--query", "meta.n > `3`", "--activity-type", "EVEN"], [4, 6, 8]),
        (["--exclude", "E*"], [1, 3, 5, 7, 9]),
        (["--exclude", "[E]*", "--grep", "small"], [1, 3]),
    ],
)
def test_the_newest_or_the_oldest_that_match(
    env: dict[str, str], newest: str, filters: list[str], matching: list[int]
) -> None:
    """Whatever the filter is decided by, and in order."""

    def numbers(option: str, number: int) -> list[int]:
        result = run_lykke("backfill", USER, option, number, *filters, env=env)
        assert result.status == ExitCode.DONE, result.stderr
        return [row["meta"]["n"] for row in result.rows]

    assert numbers(newest, 3) == list(matching)[-3:]
    if newest == "-n":
        assert numbers("--first", 3) == list(matching)[:3]
        assert numbers("-n", 99) == numbers("--first", 99) == list(matching)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-n", "1", "--first", "1"], "--first is the oldest N, --last the newest"),
        (["-n", "1", "--to-file", "x"], "leave --last and --first out"),
        (["--first", "1", "--to-file", "x"], "leave --last and --first out"),
        (["-n", "0"], "it must be at least 1"),
    ],
)
def test_a_wrong_argument_is_one_line(options: list[str], message: str) -> None:
    result = call_lykke("backfill", USER, *options)
    assert result.status == ExitCode.USAGE
    assert message in result.stderr and result.stderr.count("\n") == 1
