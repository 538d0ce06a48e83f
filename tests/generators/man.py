"""The manual pages: one for each command, from its help."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from typer.core import TyperArgument, TyperOption

from lykke_cli import __version__
from lykke_cli.cli.arguments.plain_help import explanation, grouped
from lykke_cli.cli.arguments.topics import EXIT_CODES
from tests.generators import commands
from tests.generators.commands import Command

FOLDER = Path("completions/man")


def files() -> dict[Path, str]:
    """What each file should hold."""
    root = commands.lykke()
    return {
        FOLDER / f"{_page(command)}.1": "\n".join(_lines(command, root)) + "\n"
        for command in root.walk()
    }


def _page(command: Command) -> str:
    return command.name.replace(" ", "-")


def _lines(command: Command, root: Command) -> Iterator[str]:
    summary, *description = (command.command.help or "").split("\n\n")
    title = _page(command).upper()
    yield f'.TH {_roff(title)} 1 "" "lykke {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"{_roff(_page(command))} \\- {_roff(commands.plain(summary).rstrip('.'))}"
    yield ".SH SYNOPSIS"
    usage = command.command.collect_usage_pieces(command.context)
    yield f"{_bold(command.name)} {_roff(' '.join(usage))}"
    if description:
        yield ".SH DESCRIPTION"
        for paragraph in description:
            yield ".PP"
            yield _roff(commands.plain(paragraph))
    if command.arguments:
        yield ".SH ARGUMENTS"
        yield from _entries(command, command.arguments)
    if command.subcommands:
        yield ".SH COMMANDS"
        for below in command.subcommands.values():
            yield from (".TP", f"{_bold(_page(below))}(1)")
            yield _roff(commands.plain((below.command.help or "").split("\n\n")[0]))
    yield ".SH OPTIONS"
    groups = grouped(command.command, command.context)
    for title, options in groups.items():
        yield from [f".SS {_roff(title)}"] * (len(groups) > 1)
        yield from _entries(command, options)
    if command is root:
        yield from _environment_and_exit_codes(root)
    if command.command.epilog:
        _, *examples = command.command.epilog.splitlines()
        yield from (".SH EXAMPLES", ".nf", *map(_roff, filter(None, examples)), ".fi")
    if command is not root:
        parents = command.name.split()[:-1]
        pages = ["-".join(parents[: length + 1]) for length in range(len(parents))]
        yield ".SH SEE ALSO"
        yield ", ".join(f"{_bold(page)}(1)" for page in pages)


def _entries(
    command: Command, parameters: Iterable[TyperOption] | Iterable[TyperArgument]
) -> Iterator[str]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption):
            names = ", ".join(map(_bold, commands.names(parameter)))
            value = "" if parameter.is_flag else f" {_roff(str(parameter.metavar))}"
        else:
            names, value = _bold(str(parameter.metavar)), ""
        yield from (".TP", names + value, _roff(explanation(parameter, command.context)))


def _environment_and_exit_codes(root: Command) -> Iterator[str]:
    options: dict[str, set[str]] = {}
    for option in (option for command in root.walk() for option in command.options):
        for variable in re.findall(r"\[env: (\w+)\]", option.help or ""):
            options.setdefault(variable, set()).add(commands.names(option)[0])
    yield ".SH ENVIRONMENT"
    for variable, names in sorted(options.items()):
        yield from (".TP", _bold(variable), f"See {', '.join(map(_bold, sorted(names)))}.")
    yield from (".SH FILES", ".TP", r"\fI~/.config/lykke/config.toml\fR")
    yield "The profiles; see \\fBlykke\\-profile\\fR(1)."
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES.items():
        yield from (".TP", _bold(code), _roff(meaning))


def _bold(text: str) -> str:
    return f"\\fB{_roff(text)}\\fR"


def _roff(text: str) -> str:
    """`text` as roff shows it letter by letter."""
    for character, name in (("\\", "\\e"), ("-", "\\-"), ("^", "\\(ha"), ("~", "\\(ti")):
        text = text.replace(character, name)
    text = text.replace("`", "\\(ga").replace("'", "\\(aq")
    return f"\\&{text}" if text.startswith(".") else text
