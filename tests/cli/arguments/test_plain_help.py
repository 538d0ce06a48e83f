"""Help that helps: what belongs together, the environment, examples that work, what was meant."""

import re
import shlex
from pathlib import Path

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests import roff
from tests.cli_process import call_lykke
from tests.generators import commands
from tests.generators.commands import Command

USER = "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10"
COMMANDS = list(commands.lykke().walk())
BY_NAME = {command.name: command for command in COMMANDS}
PAGES = sorted(Path("completions/man").glob("*.1"))
VARIABLES = {
    "--redis-url": "REDIS_URL",
    "--database-url": "DATABASE_URL",
    "--profile": "LYKKE_PROFILE",
    "--color": "NO_COLOR",
}


def shown(command: Command) -> str:
    words = command.name.split()[1:]
    result = call_lykke(*words, "--help", env={"COLUMNS": "120"})
    assert result.status == 0
    return result.stdout.decode()


@pytest.mark.parametrize("name", BY_NAME)
def test_help_names_the_environment_and_ends_with_examples_that_exist(name: str) -> None:
    text = shown(BY_NAME[name])
    if not name.startswith("lykke profile"):  # there a flag is what is written to the file
        for option, variable in VARIABLES.items():
            assert (f"{option} " in text) == (f"[env: {variable}]" in text)
    _, found, examples = text.partition("Examples:")
    assert found
    for line in filter(None, map(str.strip, examples.splitlines())):
        words = shlex.split(line.partition(" -- ")[0])
        command = max(
            (known for known in BY_NAME if words[: len(known.split())] == known.split()), key=len
        )
        options = {option for o in BY_NAME[command].options for option in commands.names(o)}
        assert {word for word in words if word.startswith("-")} <= options
        assert len(line) < 80


@pytest.mark.parametrize("name", BY_NAME)
def test_every_option_and_argument_is_explained(name: str) -> None:
    command = BY_NAME[name]
    assert all(option.help for option in command.options)
    assert all(argument.help for argument in command.arguments)
    for option in command.options:  # a value is named for what it is
        assert option.is_flag or option.metavar or option.type_descriptor.is_choice, option.name


@pytest.mark.parametrize("name", BY_NAME)
def test_help_speaks_of_no_types(name: str) -> None:
    text = shown(BY_NAME[name])
    assert not re.search(r"<(bool|int|str|float|path|file|User|UUID)>", text)
    usage = next(line for line in text.splitlines() if "Usage:" in line)
    assert not re.search(r"[{}]|\[\[", usage)


def test_options_and_commands_are_grouped() -> None:
    for command, groups in {
        "lykke": ["Follow and recover", "Write", "Set up and try"],
        "lykke tail": ["Filters", "Output", "Reliability", "Servers"],
    }.items():
        for group in groups:
            assert f"─ {group} ─" in shown(BY_NAME[command])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["tial"], "Did you mean 'tail'?"),
        (["tail", "--sinc", "1h"], "Did you mean --since?"),
        (["profile", "ad"], "Did you mean 'add'?"),
        (["tail", "-o", "jsn"], "'json'"),
        (["tail", "-n", "x"], "not a whole number"),
        (["users", "--limit", "0"], "it must be at least 1 ("),
        (["expect", USER, "ls", "-l"], "-- stands before the command to run"),
        (["users", "--since", "1h", "--until", "2h"], "--since 1h is not before --until 2h"),
        (["tail", "--all", "--query", "a b"], "(UNQUOTED_IDENTIFIER)\n"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant(typed: list[str], meant: str) -> None:
    result = call_lykke(*typed)
    assert result.status == ExitCode.USAGE
    assert len(result.stderr.splitlines()) == 1
    assert meant in result.stderr


@pytest.mark.parametrize("name", BY_NAME)
def test_a_manual_page_shows_what_the_help_says(name: str) -> None:
    page = Path("completions/man", f"{name.replace(' ', '-')}.1").read_text("utf-8")
    (kind, title), *lines = roff.read(page)
    shown = [text for _, text in lines]
    assert (kind, title.split("\t")[:2]) == ("TH", [name.replace(" ", "-").upper(), "1"])
    assert lines[0] == ("SH", "NAME") and shown[1].startswith(f"{name.replace(' ', '-')} - ")
    assert any(line.startswith(f"{name} ") for line in shown)
    tags = [text for kind, text in lines if kind == "tag"]
    for option in BY_NAME[name].options:
        assert option.hidden or any(set(option.opts) <= set(re.split(", | ", tag)) for tag in tags)
    epilog = (BY_NAME[name].command.epilog or "").splitlines()[1:]
    assert [text for kind, text in lines if kind == "example"] == [e for e in epilog if e]


@pytest.mark.parametrize(
    "line", [".", ".XX", ".SH", "'no", "", " x", "\\x", "\\fBbold", ".TP", ".nf"]
)
def test_what_roff_would_not_show_is_a_fault(line: str) -> None:
    with pytest.raises(roff.Fault):
        list(roff.read(f"text\n{line}\n"))


def test_every_command_has_a_page() -> None:
    assert {page.stem for page in PAGES} == {name.replace(" ", "-") for name in BY_NAME}
