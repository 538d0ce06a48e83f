"""The commands as the command line has them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from lykke_cli.cli.app import make_app


@dataclass(frozen=True)
class Command:
    """One command, with the context that its parts are asked with."""

    command: TyperCommand | TyperGroup
    context: typer.Context

    @property
    def name(self) -> str:
        """All its words, such as `lykke profile add`."""
        return self.context.command_path

    @property
    def options(self) -> list[TyperOption]:
        """The options that help shows, --help among them."""
        parameters = self.command.get_params(self.context)
        return [p for p in parameters if isinstance(p, TyperOption) and not p.hidden]

    @property
    def arguments(self) -> list[TyperArgument]:
        """The arguments, in order."""
        return [p for p in self.command.params if isinstance(p, TyperArgument)]

    @property
    def subcommands(self) -> "dict[str, Command]":
        """The commands of a group, in the order in which help shows them."""
        if not isinstance(self.command, TyperGroup):
            return {}
        return {
            name: _command(command, name, self.context)
            for name, command in self.command.commands.items()
            if isinstance(command, TyperCommand | TyperGroup) and not command.hidden
        }

    def walk(self) -> "Iterator[Command]":
        """This command, and those below it."""
        yield self
        for command in self.subcommands.values():
            yield from command.walk()


def lykke() -> Command:
    """The command line itself."""
    command = typer.main.get_command(make_app())
    assert isinstance(command, TyperGroup)
    return _command(command, "lykke", None)


def _command(
    command: TyperCommand | TyperGroup, name: str, parent: typer.Context | None
) -> Command:
    settings = command.context_settings
    return Command(command, typer.Context(command, parent=parent, info_name=name, **settings))


def names(option: TyperOption) -> list[str]:
    """The option's names, the long ones first; typer keeps those of --help in no order."""
    return [
        *sorted(option.opts, key=lambda name: (not name.startswith("--"), name)),
        *option.secondary_opts,
    ]


def plain(text: str | None) -> str:
    """A help text on one line."""
    return " ".join((text or "").split())


def first_sentence(text: str | None) -> str:
    """The beginning of a help text."""
    return re.split(r"(?<=[.;])\s|\s\[", plain(text))[0].rstrip(".;")
