"""`lykke stats`: what is drawn, what is printed, what is written."""

import asyncio
import errno
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import orjson
import pytest
from rich.cells import cell_len

from lykke_cli.cli.exit_codes import ExitCode
from tests.builders import entity, insert
from tests.cli_process import LykkeProcess, call_lykke, run_lykke

USER = uuid.UUID(int=1)
MONDAY = datetime(2026, 5, 4, tzinfo=UTC)
RANGE = ["--since", "2026-05-04", "--until", "2026-05-06"]
HOSTILE = [
    "日本語のタスク",
    "👩‍💻✍🏽 shipped",
    "\x1b[31m[/red]\u202e",
    "A&B<b>" + "x" * 90,
    "+1\n2",
]
_COLORS = re.compile(r"\x1b\[[0-9;]*m")


def store(url: str, *types_and_hours: tuple[str, float]) -> None:
    rows = [entity(USER, kind, MONDAY + timedelta(hours=hours)) for kind, hours in types_and_hours]
    asyncio.run(insert(url, rows))


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    return {"DATABASE_URL": sqlite_url, "TZ": "UTC"}


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


def assert_counts(env: dict[str, str]) -> None:
    result = call_lykke("stats", USER, *RANGE, "--utc", env=env)
    assert result.status == ExitCode.DONE, result.stderr
    report = orjson.loads(result.stdout)
    assert list(report) == [
        *("user_id", "since", "until", "time_zone", "entries", "first", "last", "bucket"),
        *("over_time", "types", "by_type", "by_hour"),
    ]
    assert report["user_id"] == str(USER)
    assert report["since"] == "2026-05-04T00:00:00.000000Z"
    assert report["until"] == "2026-05-06T00:00:00.000000Z"
    assert (report["entries"], report["types"], report["time_zone"]) == (3, 2, "UTC")
    assert report["first"] == "2026-05-04T01:30:00.000000Z"
    assert (report["bucket"], len(report["over_time"])) == ("hour", 48)
    assert [bar for bar in report["over_time"] if bar["entries"]] == [
        {"start": "2026-05-04T01:00:00+00:00", "entries": 1},
        {"start": "2026-05-05T02:00:00+00:00", "entries": 2},
    ]
    assert report["by_type"] == [
        {"activity_type": "A", "entries": 2, "last": "2026-05-05T02:00:00.000000Z"},
        {"activity_type": "B", "entries": 1, "last": "2026-05-05T02:30:00.000000Z"},
    ]
    assert sum(map(sum, report["by_hour"])) == 3
    assert (report["by_hour"][0][1], report["by_hour"][1][2]) == (1, 2)


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
def test_a_range_is_counted(database: str, request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue(database)
    store(url, ("A", 1.5), ("A", 26), ("B", 26.5), ("A", -1), ("B", 48))
    if database == "postgres_url":
        url = request.getfixturevalue("postgres_reader_url")
    assert_counts({"DATABASE_URL": url})


@pytest.mark.usefixtures("new_york")
def test_times_are_local_where_that_is_asked_for(sqlite_url: str) -> None:
    store(sqlite_url, ("A", 1.5))  # Sunday evening there
    between = ("--since", "2026-05-04T00:00Z", "--until", "2026-05-06T00:00Z")
    result = call_lykke("stats", USER, *between, "--local", env={"DATABASE_URL": sqlite_url})
    report = orjson.loads(result.stdout)
    assert report["time_zone"] == "EDT"
    assert report["over_time"][0]["start"] == "2026-05-03T20:00:00-04:00"
    assert report["by_hour"][6][21] == 1
    arguments = ("stats", USER, *between, "--local", "-o", "table")
    shown = call_lykke(*arguments, env={"DATABASE_URL": sqlite_url})
    assert "2026-05-03 20:00 to 2026-05-05 20:00 EDT" in shown.stdout.decode()


@pytest.mark.parametrize("color", ["always", "never"])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_drawing_fits_and_its_columns_are_straight(
    env: dict[str, str], sqlite_url: str, width: int, color: str
) -> None:
    store(sqlite_url, *((kind, n * 1.5) for n, kind in enumerate(HOSTILE * 3)))
    arguments = ["stats", USER, *RANGE, "-o", "table", "--color", color]
    shown = call_lykke(*arguments, env=env | {"COLUMNS": str(width)}).stdout.decode()
    assert ("\x1b[" in shown) == (color == "always")
    lines = _COLORS.sub("", shown).splitlines()
    assert not re.search(r"[\x00-\x1f\x7f\u202e]", "".join(lines))
    assert max(map(cell_len, lines)) <= width
    ends = {cell_len(line[: line.index("20.0%")]) for line in lines if "20.0%" in line}
    assert len(ends) == 1
    assert sum("20.0%" in line for line in lines) == len(HOSTILE)
    days = [line for line in lines if re.match("(Mon|Tue|Wed|Thu|Fri|Sat|Sun) ", line)]
    assert len({cell_len(line) for line in days}) == 1
    assert len(days) == 7


def test_the_range_that_is_told_is_the_one_that_was_asked_for(
    env: dict[str, str], sqlite_url: str
) -> None:
    store(sqlite_url, ("A", 0))
    edges = "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"
    arguments = (
        "stats",
        USER,
        "--since",
        edges[0],
        "--until",
        edges[1],
        "--tz",
        "Pacific/Auckland",
    )
    report = orjson.loads(call_lykke(*arguments, env=env).stdout)
    assert report["entries"] == 1
    assert (report["since"], report["until"]) == tuple(e.replace("Z", ".000000Z") for e in edges)
    assert call_lykke(*arguments, "-o", "table", env=env).status == ExitCode.DONE


def test_no_entries_are_told_of(env: dict[str, str]) -> None:
    result = call_lykke("stats", USER, "-o", "table", env=env)
    assert result.status == ExitCode.DONE
    assert result.stdout.decode().splitlines() == [f"User {USER}", "no entries in this range"]
    report = orjson.loads(call_lykke("stats", USER, env=env).stdout)
    assert (report["entries"], report["first"], report["over_time"]) == (0, None, [])
    assert report["by_hour"] == [[0] * 24] * 7


def test_one_entry_is_drawn(env: dict[str, str], sqlite_url: str) -> None:
    asyncio.run(insert(sqlite_url, [entity(USER)]))
    result = call_lykke("stats", USER, "-o", "table", env=env)
    assert result.status == ExitCode.DONE
    shown = result.stdout.decode()
    assert re.search(r"^1 entry of 1 type, the last one (now|\d+s ago)$", shown, re.MULTILINE)
    for text in ("one bar for each minute", "100.0%", "█ to 1"):
        assert text in shown


def test_filters_and_many_types(env: dict[str, str], sqlite_url: str) -> None:
    store(sqlite_url, *((f"T{n}", n / 10) for n in range(30)))
    only = [part for n in range(25) for part in ("--activity-type", f"T{n}")]
    shown = call_lykke("stats", USER, *only, "-o", "table", env=env).stdout.decode()
    assert "25 entries of 25 types" in shown
    assert re.search(r"and 5 more +5 +20\.0%", shown)
    report = orjson.loads(call_lykke("stats", USER, "--entity-type", "x", env=env).stdout)
    assert report["entries"] == 0


@pytest.mark.parametrize(
    ("patterns", "entries"),
    [(["T1*"], 11), (["T[12]", "T3?"], 2), (["T?", "T10"], 11), (["t*"], 0), (["*_"], 0)],
)
def test_types_are_found_by_patterns(
    env: dict[str, str], sqlite_url: str, patterns: list[str], entries: int
) -> None:
    store(sqlite_url, *((f"T{n}", n / 10) for n in range(30)))
    arguments = [part for pattern in patterns for part in ("--activity-type", pattern)]
    report = orjson.loads(call_lykke("stats", USER, *arguments, env=env).stdout)
    assert report["entries"] == entries


def test_on_a_terminal_it_is_drawn(env: dict[str, str], sqlite_url: str) -> None:
    store(sqlite_url, ("A", 1))
    with LykkeProcess("stats", USER, env=env, terminal=80) as stats:
        result = stats.finish()
    assert result.status == ExitCode.DONE
    assert "By hour of the week" in result.stdout.decode()


def test_pictures_are_whole_and_harmless(
    env: dict[str, str], sqlite_url: str, tmp_path: Path
) -> None:
    store(sqlite_url, *((kind, n) for n, kind in enumerate(HOSTILE)))
    svg, png = tmp_path / "a.svg", tmp_path / "a.png"
    result = call_lykke("stats", USER, *RANGE, "--svg", svg, "--png", png, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    assert result.stderr.splitlines() == [f"lykke: wrote {svg}", f"lykke: wrote {png}"]
    text = svg.read_text("utf-8")
    texts = [each.text or "" for each in ElementTree.fromstring(text).iter()]
    assert "日本語のタスク" in texts
    assert any(each.startswith("A&B<b>xxx") for each in texts)
    assert "\\x1b[31m[/red]\\u202e" in texts
    assert not re.search("href|url[(]|@import|<script", text)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert sorted(tmp_path.glob("*a.*")) == [png, svg]


def test_an_empty_report_is_a_picture_too(env: dict[str, str], tmp_path: Path) -> None:
    svg = tmp_path / "a.svg"
    assert call_lykke("stats", USER, "--svg", svg, "-q", env=env).stderr == ""
    assert "no entries in this range" in svg.read_text()


def test_without_the_library_png_says_what_to_install(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    result = call_lykke("stats", USER, "--png", tmp_path / "a.png", env=env)
    assert result.status == ExitCode.USAGE
    assert "pip install resvg-py" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_png_is_the_same_whatever_fonts_a_machine_has(
    env: dict[str, str], sqlite_url: str, tmp_path: Path
) -> None:
    store(sqlite_url, ("TASK_COMPLETED", 1), ("Übergabe", 2), ("Задача", 3))
    (tmp_path / "no-fonts.conf").write_text("<fontconfig/>")
    bare = env | {"FONTCONFIG_FILE": str(tmp_path / "no-fonts.conf")}
    pictures: list[bytes] = []
    for user, environment in ((USER, env), (USER, bare), (uuid.UUID(int=2), bare)):
        path = tmp_path / f"{len(pictures)}.png"
        result = run_lykke("stats", user, *RANGE, "--png", path, env=environment)
        assert result.status == ExitCode.DONE, result.stderr
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1]
    assert pictures[1] != pictures[2]  # as letters are drawn


def test_a_picture_that_cannot_be_written_leaves_the_old_one(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    svg = tmp_path / "a.svg"
    svg.write_text("old, drawn by lykke stats")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    result = call_lykke("stats", USER, "--svg", svg, env=env)
    assert result.status == ExitCode.BAD_INPUT
    assert result.stderr == f"lykke: Cannot write {svg}: No space left on device.\n"
    assert svg.read_text() == "old, drawn by lykke stats"
    assert list(tmp_path.glob("*a.svg*")) == [svg]


@pytest.mark.parametrize("path", ["/dev/stdout", "{folder}", "{folder}/none/a.svg"])
def test_a_picture_is_written_to_files_only(env: dict[str, str], tmp_path: Path, path: str) -> None:
    result = call_lykke("stats", USER, "--svg", path.format(folder=tmp_path), env=env)
    assert result.status in (ExitCode.BAD_INPUT, ExitCode.USAGE)
    assert len(result.stderr.splitlines()) == 1


def test_a_type_has_the_colour_that_it_has_in_the_table(
    env: dict[str, str], sqlite_url: str, tmp_path: Path
) -> None:
    store(sqlite_url, ("LOGIN_FAILED", 1), ("TASK_COMPLETED", 2))
    arguments = ["-o", "table", "--color", "always", "--svg", tmp_path / "a.svg"]
    shown = call_lykke("stats", USER, *RANGE, *arguments, env=env).stdout.decode()
    picture = (tmp_path / "a.svg").read_text("utf-8")
    for name, code, fill in (("LOGIN_FAILED", 31, "cf222e"), ("TASK_COMPLETED", 32, "1a7f37")):
        line = next(line for line in shown.splitlines() if name in line)
        assert line.startswith(f"\x1b[{code}m{name}") and f"\x1b[{code}m█" in line
        assert picture.count(f"fill:#{fill}") == 1
