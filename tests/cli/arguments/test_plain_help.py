"""Help that helps: what belongs together, the environment, examples that work, what was meant."""

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lykke_cli.application.times import parse_moment
from lykke_cli.cli.arguments.topics import TOPICS
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
    "--config": "LYKKE_CONFIG",
    "--color": "NO_COLOR",
}


def shown(command: Command) -> str:
    words = command.name.split()[1:]
    result = call_lykke(*words, "--help", env={"COLUMNS": "120"})
    assert result.status == 0
    return result.stdout.decode()


def headings(text: str) -> list[str]:
    return re.findall(r"^(\w.*):$", text, re.MULTILINE)


@pytest.mark.parametrize("name", BY_NAME)
def test_help_names_the_environment_and_its_examples_exist(name: str) -> None:
    text = shown(BY_NAME[name])
    if not name.startswith("lykke profile"):  # there a flag is what is written to the file
        for option, variable in VARIABLES.items():
            assert (f"{option} " in text) == (f"[env: {variable}]" in text)
    for line in map(str.strip, text.partition("Examples:\n")[2].partition("\n\n")[0].splitlines()):
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


def test_commands_are_grouped() -> None:
    titles = headings(shown(BY_NAME["lykke"]))
    assert titles[:3] == ["Follow and recover", "Write", "Set up and try"]


@pytest.mark.parametrize("name", BY_NAME)
def test_five_options_lead_and_three_examples_follow_them(name: str) -> None:
    text = shown(BY_NAME[name])
    titles = headings(text)
    options = set(titles) - {"Examples"}
    if options & {"Options"}:  # so few that they all lead
        assert len(BY_NAME[name].options) <= 7
    else:
        assert titles[:2] == ["Most used", "Examples"]
        leading = text.partition("Most used:\n")[2].partition("\n\n")[0]
        assert len(re.findall(r"^ +(?:-\w, )?--\w", leading, re.MULTILINE)) == 5
        others = text.partition("Others:\n")[2].split()
        assert [word for word in others if word.startswith("-")] == ["-h,", "--help"]
    examples = text.partition("Examples:\n")[2].partition("\n\n")[0]
    assert len(examples.splitlines()) == 3


@pytest.mark.parametrize("columns", [48, 60, 80, 120, 200])
def test_help_fits_and_its_choices_cost_no_width(columns: int) -> None:
    text = call_lykke("tail", "--help", env={"COLUMNS": str(columns)}).stdout.decode()
    example = text.partition("Examples:")[2].partition("\n\n")[0].splitlines()
    lines = [line for line in text.splitlines() if line not in example]
    assert max(map(len, lines)) <= min(columns, 100)
    options = text.partition("Output:\n")[2]
    beside = {len(line) - len(line.lstrip()) for line in options.splitlines() if "|raw]" in line}
    assert beside <= {0, 8, 34}


def test_help_in_a_pipe_fits_into_most_terminals() -> None:  # such as into less
    lines = call_lykke("profile", "--help").stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_is_explained_in_eighty_columns(topic: str) -> None:
    result = call_lykke("help", topic)
    assert (result.status, result.stderr) == (0, "")
    assert max(map(len, result.stdout.decode().splitlines())) <= 80


def test_each_exit_code_is_explained() -> None:
    text = call_lykke("help", "exit-codes").stdout.decode()
    assert all(re.search(rf"^  (\d+, )*{code:d}\b", text, re.MULTILINE) for code in ExitCode)


def test_each_way_to_write_a_time_that_help_tells_of_is_understood() -> None:
    for line in TOPICS["times"].split("\n\n")[2].splitlines():
        for text in line[:25].split(","):
            parse_moment(text.strip(), datetime.now(UTC))


@pytest.mark.parametrize("words", [["tail"], ["profile", "add"], []])
def test_help_of_a_command_is_its_help(words: list[str]) -> None:
    result = call_lykke("help", *words)
    assert result.status == 0
    assert result.stdout == call_lykke(*words, "--help").stdout


@pytest.mark.parametrize("before", [["--no-defaults"], ["--config", "help"]])
def test_help_of_a_command_may_follow_options(before: list[str]) -> None:
    for words in (["tail"], []):
        assert call_lykke(*before, "help", *words).stdout == call_lykke(*words, "--help").stdout


def test_help_on_what_does_not_exist_names_the_topics() -> None:
    result = call_lykke("help", "time\x1b[31m")
    assert result.status == ExitCode.USAGE
    assert "no topic 'time\\x1b[31m'. Topics are times, filters" in result.stderr
    assert len(result.stderr.splitlines()) == 1


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
