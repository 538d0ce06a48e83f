"""A pager for what may be longer than a screen: there for a person only, and never in the way."""

import asyncio
import io
import os
import re
import signal
import sys
import uuid
from pathlib import Path

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.cli.output.pager import paged
from lykke_cli.cli.output.terminal import Terminal
from tests.builders import entity, insert
from tests.cli_process import LykkeProcess, Result, run_lykke
from tests.servers import RedisServer

USER, ENTRY = uuid.UUID(int=7), uuid.UUID(int=8)
MARKS = "sed -u s/^/PAGED:/"  # a pager that shows what went through it


@pytest.fixture
def env(sqlite_url: str) -> dict[str, str]:
    asyncio.run(insert(sqlite_url, [entity(USER, id=ENTRY), *(entity(USER) for _ in range(59))]))
    return {"DATABASE_URL": sqlite_url, "LYKKE_PAGER": MARKS, "NO_COLOR": "1"}


def on_a_terminal(*arguments: object, env: dict[str, str], columns: int = 90) -> Result:
    with LykkeProcess(*arguments, env=env, terminal=columns) as process:
        return process.finish()


def lines(result: Result) -> list[str]:
    return result.stdout.decode().replace("\r", "").splitlines()


@pytest.mark.parametrize(
    ("command", "after"),
    [
        (["backfill", USER, "--limit", 60], []),
        (["users"], []),
        (["show", ENTRY], []),
        (["doctor"], ["lykke: 1 of 23 checks failed."]),
    ],
)
def test_what_is_said_goes_through_the_pager_as_to_a_terminal(
    command: list[object], after: list[str], env: dict[str, str]
) -> None:
    env |= {"REDIS_URL": "redis://127.0.0.1:1"}
    paged, plain = (on_a_terminal(*command, *more, env=env) for more in ([], ["--no-pager"]))
    assert paged.status == plain.status
    assert [line for line in lines(paged) if not line.startswith("PAGED:")] == after
    assert "PAGED:" not in plain.stdout.decode()
    tables = [[line.removeprefix("PAGED:")[:40] for line in lines(r)][:1] for r in (paged, plain)]
    assert tables[0] == [re.sub(r".*\x1b\[2K", "", line) for line in tables[1]]


def test_a_pipe_has_no_pager(env: dict[str, str]) -> None:
    result = run_lykke("backfill", USER, "--limit", 60, env=env)
    assert len(result.rows) == 60
    assert "PAGED" not in result.stderr


def test_what_goes_on_from_a_stored_place_is_not_paged(env: dict[str, str]) -> None:
    assert "PAGED:" not in on_a_terminal("backfill", USER, env=env).stdout.decode()


@pytest.mark.parametrize("pager", ["", "cat", "/nowhere/at-all", "'", "/etc/passwd"])
def test_a_pager_that_cannot_be_had_is_none(pager: str, env: dict[str, str]) -> None:
    result = on_a_terminal("backfill", USER, "--limit", 60, env=env | {"LYKKE_PAGER": pager})
    assert result.status == ExitCode.DONE
    assert sum("TASK_COMPLETED" in line for line in lines(result)) == 60


@pytest.mark.parametrize("named", ["PAGER", "LYKKE_PAGER"])
def test_the_pager_is_lykkes_own_or_that_of_all_programs(
    named: str, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LYKKE_PAGER")
    env |= {"PAGER": "cat", named: env.pop("LYKKE_PAGER")}
    assert lines(on_a_terminal("users", env=env))[0].startswith("PAGED:")


def test_the_pager_may_be_a_shells_command(env: dict[str, str]) -> None:
    env |= {"LYKKE_PAGER": "MARK=SHELL sed -u s/^/PAGED:/ | sed -u s/^/AGAIN:/"}
    assert lines(on_a_terminal("users", env=env))[0].startswith("AGAIN:PAGED:")


@pytest.mark.parametrize(("theirs", "passed"), [({}, "-R FX"), ({"LESS": "-S"}, "-R -S")])
def test_less_passes_colours_whatever_else_is_set(
    theirs: dict[str, str], passed: str, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LESS", raising=False)
    env |= theirs | {"LYKKE_PAGER": 'cat > /dev/null; echo "$LESS"'}
    assert lines(on_a_terminal("users", env=env)) == [passed]


def test_a_pager_that_is_left_early_ends_the_command(env: dict[str, str]) -> None:
    env |= {"LYKKE_PAGER": "head -n 2"}
    result = on_a_terminal("backfill", USER, "--limit", 60, env=env)
    assert result.status == ExitCode.DONE
    assert len(lines(result)) == 2


class Screen(io.BytesIO):
    def isatty(self) -> bool:
        return True


async def test_the_event_loop_goes_on_while_a_person_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pager, next_page, shown = tmp_path / "pager", tmp_path / "next-page", tmp_path / "shown"
    os.mkfifo(next_page)
    pager.write_text(f"#!/bin/sh\ncat {next_page}\ncat > {shown}\n")
    pager.chmod(0o755)
    monkeypatch.setenv("LYKKE_PAGER", str(pager))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Screen()))
    much = b"0123456789abcde\n" * 100_000
    with paged():
        terminal = Terminal.of_process()
        assert terminal.stdout_is_tty
        sending = asyncio.create_task(terminal.send(much))
        done, _ = await asyncio.wait({sending}, timeout=0.1)
        assert not done  # and the loop got here
        await asyncio.to_thread(next_page.write_text, "")
        await sending
    assert shown.read_bytes() == much


def test_ctrl_c_is_the_pagers_when_all_is_said(env: dict[str, str], tmp_path: Path) -> None:
    pager, read_enough = tmp_path / "pager", tmp_path / "read-enough"
    os.mkfifo(read_enough)
    pager.write_text(f"#!/bin/sh\ncat\necho all is said\ncat {read_enough}\necho ended\n")
    pager.chmod(0o755)
    env |= {"LYKKE_PAGER": str(pager)}
    with LykkeProcess("users", env=env, terminal=80) as process:
        process.wait_for("all is said")
        process.send(signal.SIGINT)
        read_enough.write_text("")
        result = process.finish()
    assert (result.status, lines(result)[-1]) == (ExitCode.DONE, "ended")


def test_ctrl_c_ends_the_command_and_leaves_the_pager_to_the_person(
    env: dict[str, str], own_redis: RedisServer, tmp_path: Path
) -> None:
    own_redis.freeze()
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho started\ncat\necho ended\n")
    pager.chmod(0o755)
    env |= {"LYKKE_PAGER": str(pager), "REDIS_URL": own_redis.url}
    with LykkeProcess("doctor", "--timeout", "20s", env=env, terminal=80) as process:
        process.wait_for("started")
        result = process.stop(signal.SIGINT)
    assert result.status == ExitCode.INTERRUPTED
    assert lines(result)[-1] == "ended"
