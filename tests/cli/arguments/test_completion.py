"""Tab in real shells; and what it offers, which a shell reads and must not be able to run."""

import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lykke_cli.cli.arguments.completion import answer
from lykke_cli.infrastructure.configuration.profiles import config_path
from lykke_cli.infrastructure.files import recent
from tests.builders import entity, wire
from tests.cli_process import LykkeProcess, environment, run_lykke
from tests.servers import RedisServer
from tests.shell import Shell

SCRIPTS = Path(__file__).parents[3] / "completions"
USER = uuid.UUID("3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10")


def offered(line: str) -> list[str]:
    """The values for the end of `line`."""
    answered = answer(
        {
            "_LYKKE_COMPLETE": "complete_fish",
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
    )
    assert answered is not None
    return [item.partition("\t")[0] for item in answered[0].splitlines()]


def profile(name: str) -> None:
    config_path().parent.mkdir(parents=True, exist_ok=True)
    with config_path().open("a") as file:
        file.write(f"[profiles.{name}]\n")


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("lykke ta", ["tail"]),
        ("lykke profile re", ["remove"]),
        ("lykke tail --act", ["--activity-type"]),
        ("lykke tail --output ", ["table", "ndjson", "json", "csv", "raw"]),
        ("lykke tail -o n", ["ndjson"]),
        ("lykke tail --output=n", ["--output=ndjson"]),
        ("lykke tail --color n", ["never"]),
        ("lykke tail --since 15m --channel d", ["domain-events"]),
        ("lykke tail --activity-type TASK_P", ["TASK_PUNTED"]),
        ("lykke record x MESSAGE_S", ["MESSAGE_SENT"]),
        ("lykke tail --query 'a b' --output t", ["table"]),
        ("lykke tail --query 'a b", []),
        ("lykke nothing --such x y ", []),
        ("lykke publish x -- --da", []),
    ],
)
def test_what_is_offered(line: str, values: list[str]) -> None:
    assert offered(line) == values


def test_recent_users_are_offered_where_a_user_is_meant() -> None:
    other = uuid.UUID(int=1)
    recent.remember([other], "publish")
    recent.remember([USER], "tail")
    for line in ("lykke tail ", "lykke backfill --since 2h ", "lykke tail --all -n 5 "):
        assert offered(line) == [str(USER), str(other)]
    assert offered("lykke tail 3f") == [str(USER)]
    assert offered(f"lykke record {USER} ")[0] == "TASK_COMPLETED"


def test_profiles_are_offered() -> None:
    profile("staging")
    profile("prod")
    assert offered("lykke tail --profile s") == ["staging"]
    assert offered("lykke profile use ") == ["staging", "prod"]
    config_path().write_text("no TOML")
    assert offered("lykke tail --profile s") == []


def test_a_run_remembers_its_user_and_the_types_that_came(redis_server: RedisServer) -> None:
    channel = f"auditlog:{USER}"
    with LykkeProcess("tail", USER, "--count", 1, env={"REDIS_URL": redis_server.url}) as tail:
        tail.wait_for("following")
        with redis_server.client() as client:
            client.publish(channel, wire(entity(USER, activity_type="Task.Moved")))
        assert tail.finish().status == 0
    assert offered("lykke tail ") == [str(USER)]
    assert offered("lykke tail --activity-type T")[0] == "Task.Moved"
    assert recent.recent_path().stat().st_mode & 0o777 == 0o600


def test_the_list_of_recents_is_bounded_and_newest_first() -> None:
    users = [uuid.uuid4() for _ in range(recent.LIMIT + 10)]
    for user in users:
        recent.remember([user], "tail", [f"T{user.int}"])
    assert list(recent.users()) == [str(user) for user in reversed(users)][: recent.LIMIT]
    assert len(recent.activity_types()) == recent.LIMIT


def test_recents_that_cannot_be_read_or_written_are_no_error() -> None:
    folder = recent.recent_path().parent
    folder.parent.mkdir(parents=True)
    folder.write_text("not a folder")
    recent.remember([USER], "tail")
    assert recent.users() == {}
    folder.unlink()
    recent.remember([USER], "tail")
    for damaged in (b"", b"[]", b"{}", b'{"users": {"x": 1}}', b"\xff"):
        recent.recent_path().write_bytes(damaged)
        assert recent.users() == {}


HOSTILE = [
    "$(touch hacked)",
    "`touch hacked`",
    "a'; touch hacked;'",
    "\\$(touch hacked)",
    "-x",
    "*",
]


def test_what_a_shell_would_run_is_neither_kept_nor_offered() -> None:
    recent.remember([USER], "tail", HOSTILE)
    assert b"hacked" not in recent.recent_path().read_bytes()
    recent.recent_path().write_text(
        f'{{"users": {{"{USER}": "$(touch hacked)", "$(touch hacked)": "tail 2026-01-01"}},'
        ' "activity_types": ["$(touch hacked)"]}'
    )
    assert recent.users() == {}
    assert recent.activity_types() == []


@pytest.fixture
def shell_env(tmp_path: Path) -> dict[str, str]:
    """Where `lykke` is a command, with a user, a type and a profile to be offered."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / "lykke"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m lykke_cli "$@"\n')
    command.chmod(0o755)
    recent.remember([USER], "tail", ["TaskMoved"])
    profile("staging")
    return environment({"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "TERM": "dumb"})


def need(shell: str) -> str:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


LINES = [
    ("lykke prof", "profile"),
    ("lykke tail --outp", "--output"),
    ("lykke tail 3f2b", str(USER)),
    ("lykke tail --profile st", "staging"),
    ("lykke tail --activity-type TaskM", "TaskMoved"),
]


def test_bash(shell_env: dict[str, str]) -> None:
    asked = "\n".join(
        f"COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        '_lykke_completion lykke; echo "${COMPREPLY[*]}"'
        for line in [line for line, _ in LINES] + ["lykke tail --output = n"]
    )
    script = f". {SCRIPTS / 'lykke.bash'}\n{asked}\n"
    done = subprocess.run(
        [need("bash"), "-c", script], capture_output=True, text=True, env=shell_env, check=True
    )
    assert done.stdout.splitlines() == [expected for _, expected in LINES] + ["ndjson"]
    assert done.stderr == ""


def test_fish(shell_env: dict[str, str]) -> None:
    asked = "; ".join(f"complete -C {shlex.quote(line)}" for line, _ in LINES[1:4])
    done = subprocess.run(
        [need("fish"), "--no-config", "-c", f"source {SCRIPTS / 'lykke.fish'}; {asked}"],
        capture_output=True,
        text=True,
        env=shell_env,
        check=True,
    )
    found = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert found == [expected for _, expected in LINES[1:4]]


@pytest.fixture
def zsh(shell_env: dict[str, str], tmp_path: Path) -> Iterator[Shell]:
    """At its prompt; it loads the script on the first Tab."""
    path = need("zsh")
    (tmp_path / ".zshrc").write_text(
        f"PS1='ready> '\nfpath=({shlex.quote(str(SCRIPTS))} $fpath)\n"
        "autoload -Uz compinit; compinit -u -D\n"
        'show() { print -r -- "<$BUFFER>"; zle kill-whole-line }; zle -N show; bindkey "^X" show\n'
    )
    with Shell([path, "-i"], shell_env | {"ZDOTDIR": str(tmp_path)}) as shell:
        shell.wait_for("ready>")
        yield shell


def test_zsh(zsh: Shell) -> None:
    for line, expected in LINES[1:4]:
        zsh.type(f"{line}\t\x18")
        zsh.wait_for(f"<{line.rpartition(' ')[0]} {expected} >")


def test_other_requests_are_left_to_typer() -> None:
    result = run_lykke(env={"_LYKKE_COMPLETE": "source_fish"})
    assert result.stdout.startswith(b"complete --command lykke")
