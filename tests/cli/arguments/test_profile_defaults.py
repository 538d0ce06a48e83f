"""Options from a profile stand for what is not on the command line, and are told apart from it."""

import asyncio
import os
import uuid
from pathlib import Path

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.configuration.profiles import CONFIG
from tests.builders import entity, insert
from tests.cli_process import Result, call_lykke, run_lykke

USER = uuid.UUID(int=7)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file of one's own, not yet written."""
    path = tmp_path / "own.toml"
    monkeypatch.setenv(CONFIG, str(path))
    return path


@pytest.fixture
def database(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    asyncio.run(insert(sqlite_url, [entity(USER, kind) for kind in ("A", "B", "A", "C")]))
    monkeypatch.setenv("DATABASE_URL", sqlite_url)
    return sqlite_url


def write(file: Path, options: str, command: str = "backfill") -> None:
    file.write_text(f'current = "s"\n[profiles.s]\n[profiles.s.{command}]\n{options}\n')


def types(result: Result) -> list[str]:
    assert result.status == 0, result.stderr
    return [row["activity_type"] for row in result.rows]


@pytest.mark.usefixtures("database")
def test_an_option_of_the_profile_stands_for_one_that_is_not_given(file: Path) -> None:
    write(file, 'activity_type = ["A", "B"]\nlimit = 2\nquiet = true')
    result = run_lykke("backfill", USER)
    assert types(result) == ["B", "A"]
    assert result.stderr == ""
    assert types(run_lykke("backfill", USER, "--activity-type", "C")) == ["C"]
    assert types(run_lykke("backfill", USER, "--limit", 3)) == ["A", "B", "A"]
    assert run_lykke("users").rows[0]["entries"] == 4  # they are of one command


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ('output = "csv"', ["--template", "{activity_type}"]),
        ('template = "{id}"', ["-o", "csv", "--columns", "activity_type"]),
        ('columns = "id"\nquiet = true', ["-o", "ndjson"]),
        ("utc = true", ["--tz", "Europe/Berlin"]),
        ("all = true", []),
    ],
)
def test_what_is_on_the_command_line_drives_out_what_it_excludes(
    file: Path, options: str, words: list[str]
) -> None:
    write(file, options)
    result = run_lykke("backfill", USER, "--limit", 9, *words)
    assert result.status == 0, result.stderr
    assert len(result.stdout.splitlines()) >= 4


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ('sinc = "1h"', "line 4: sinc: there is no such option; did you mean 'since'?"),
        ('redis-url = "redis://h"', "line 4: redis-url: there is no such option"),
        ("yes = true", "line 4: yes: there is no such option"),
        ('output = "jsn"', "line 4: output: it is one of table, ndjson, json, csv, raw."),
        ("replay = 1", "line 4: replay: it is true or false."),
        ("since = true", "line 4: since: it is a text in quotes."),
        ("since = 2026-01-01", "line 4: since: it is a text, a number, true or false."),
        ('since = "soon"', "line 4: since: 'soon')"),
        ('limit = "x"', "line 4: limit: 'x')"),
        ('\nquery = "a b"', "line 5: query: 'a b')"),
        ('since = "1h"\nuntil = "2h"', "line 4: since: '1h'; "),
    ],
)
def test_a_mistake_is_told_with_its_line(file: Path, options: str, told: str) -> None:
    write(file, options)
    result = call_lykke("backfill", USER)
    assert result.status == ExitCode.USAGE
    assert f"{file}, {told}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("database")
def test_one_call_goes_without_the_options_of_the_profile(file: Path) -> None:
    write(file, 'since = "soon"\nexclude = "A"\nquiet = true')
    assert call_lykke("backfill", USER).status == ExitCode.USAGE
    result = run_lykke("--no-defaults", "backfill", USER, "--limit", 9)
    assert types(result) == ["A", "B", "A", "C"]
    assert "4 printed" in result.stderr


def test_a_mistake_in_an_inline_table_is_told_with_its_line(file: Path) -> None:
    file.write_text('current = "s"\n[profiles.s]\nutc = true\nbackfill = { sinc = "1h" }\n')
    assert f"{file}, line 4: sinc: " in call_lykke("backfill", USER).stderr


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("section", ["[profiles.s]", "[profiles.s.backfill]"])
def test_no_color_beats_a_profiles_colour_and_not_the_command_lines(
    file: Path, section: str
) -> None:
    file.write_text(f'current = "s"\n{section}\ncolor = "always"\n')
    table, no_color = ("backfill", USER, "--limit", 9, "-o", "table"), {"NO_COLOR": "1"}
    assert b"\x1b[" in run_lykke(*table, env={"NO_COLOR": ""}).stdout
    assert b"\x1b[" not in run_lykke(*table, env=no_color).stdout
    assert b"\x1b[" in run_lykke(*table, "--color", "always", env=no_color).stdout


def test_a_command_that_there_is_not_is_told_of_and_help_goes_on(file: Path) -> None:
    write(file, 'since = "1h"', command="tial")
    result = call_lykke("backfill", USER)
    assert (
        "line 3: profiles.s.tial: there is no such command; did you mean 'tail'?" in result.stderr
    )
    assert call_lykke("backfill", "--help").status == 0
    assert call_lykke("profile", "list").status == 0


@pytest.mark.usefixtures("database")
def test_a_file_is_named_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "tail"
    write(file, "limit = 1")
    assert types(run_lykke("--config", file, "backfill", USER)) == ["C"]
    shown = run_lykke("--config", file, "profile", "show").stdout.decode().splitlines()
    assert ["backfill.limit", "profile", "s", "1"] in [line.split() for line in shown]
    missing = call_lykke("--config", tmp_path / "none", "backfill", USER)
    assert missing.status == ExitCode.USAGE
    assert f"--config or LYKKE_CONFIG: there is no file {tmp_path / 'none'}." in missing.stderr


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for named in (pipe, "/dev/zero", tmp_path):
        result = call_lykke("--config", named, "profile", "list")
        assert result.status == ExitCode.USAGE
        assert result.stderr == f"lykke: {named} is not a regular file: name one that is.\n"
    assert call_lykke("--config", os.devnull, "profile", "list").status == ExitCode.DONE
