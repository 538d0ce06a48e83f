"""Help that leads: what most calls use comes first, with examples; the rest in groups below.

It is written here and not by Typer, whose panels need rich and give every column the width of its
longest choice.
"""

import os
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from textwrap import wrap
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from lykke_cli.cli.arguments.help_texts import GROUPS
from lykke_cli.cli.output.palette import BOLD, painted
from lykke_cli.cli.output.terminal import TERMINAL_COLUMNS, Terminal

LEADING, ALL, OTHERS = "Most used", "Options", "Others"
_WIDEST = 100  # columns of text: longer lines are hard to read
_NAMES_WIDTH = 30  # what is longer has its explanation below it
_NARROW, _BELOW = 64, 8  # columns; with fewer all explanations stand below, so far in


class PlainCommand(TyperCommand):
    """A command whose help says what a person types."""

    leading: tuple[str, ...] = ()
    """The options that most calls use, by their long names; none: they all lead."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _Page(self, ctx, formatter).write()

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = super().collect_usage_pieces(ctx)
        return [p.strip("{}").replace("[[", "[").replace("]]...", "]") for p in pieces]


class PlainGroup(TyperGroup):
    """A group of commands likewise."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _Page(self, ctx, formatter).write()


def leading_with(*names: str, kind: type[PlainCommand] = PlainCommand) -> type[PlainCommand]:
    """The class of a command in whose help the options of these names come first."""
    return type(kind.__name__, (kind,), {"leading": names})


def grouped(command: TyperCommand | TyperGroup, ctx: Any) -> dict[str, list[TyperOption]]:
    """The options that help shows, under the titles that they stand under there."""
    options = [
        parameter
        for parameter in command.get_params(ctx)
        if isinstance(parameter, TyperOption) and not parameter.hidden
    ]
    leading = getattr(command, "leading", ())
    if not leading:
        return {ALL: options}
    by_name = {name: option for option in options for name in option.opts}
    groups: dict[str, list[TyperOption]] = {LEADING: [by_name[name] for name in leading]}
    groups |= {title: [] for title in (*GROUPS, OTHERS)}
    for option in options:
        if option not in groups[LEADING]:
            groups.setdefault(option.rich_help_panel or OTHERS, []).append(option)
    return {title: group for title, group in groups.items() if group}


def explanation(parameter: TyperOption | TyperArgument, ctx: Any) -> str:
    """What a parameter does, its choices, and what it is where it is not given."""
    text = " ".join((parameter.help or "").split())
    if values := choices(parameter):
        text += f" [{'|'.join(values)}]"
    default = parameter.get_default(ctx)
    if parameter.show_default and default not in (None, False, ()):
        text += f" [default: {default}]"
    return text


def choices(parameter: TyperOption | TyperArgument) -> list[str]:
    """The values that it may have, where they can be listed."""
    annotation = parameter.type_descriptor.annotation
    is_choice = isinstance(annotation, type) and issubclass(annotation, Enum)
    return [str(choice.value) for choice in annotation] if is_choice else []


def flowing(text: str | None) -> str:
    """A docstring's paragraphs, each as one line, which help breaks where the terminal ends."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


class _Page:
    """The help of one command, as wide as the terminal."""

    def __init__(self, command: TyperCommand | TyperGroup, ctx: Any, formatter: Any) -> None:
        terminal = Terminal.of_process()
        ctx.color = terminal.stdout_in_color  # for whoever prints it
        self._command = command
        self._ctx = ctx
        self._write = formatter.write
        is_known = terminal.stdout_is_tty or "COLUMNS" in os.environ
        self._width = min(terminal.width, _WIDEST) if is_known else TERMINAL_COLUMNS
        self._sections = dict(_sections(command, ctx))
        names = [name for rows in self._sections.values() for name, _ in rows]
        fitting = [len(name) for name in names if len(name) <= _NAMES_WIDTH]
        self._column = _BELOW if self._width < _NARROW else max(fitting, default=_BELOW) + 4

    def write(self) -> None:
        usage = " ".join([self._ctx.command_path, *self._command.collect_usage_pieces(self._ctx)])
        self._write(f"{painted('Usage:', BOLD)} {usage}\n")
        for paragraph in (self._command.help or "").split("\n\n"):
            self._write("\n")
            self._paragraph(paragraph)
        titles = list(self._sections)
        is_group = isinstance(self._command, TyperGroup)
        for title, rows in self._sections.items():
            self._section(title, rows)
            if title == titles[-2 if is_group else 0]:  # below the commands, or what leads
                self._examples()

    def _examples(self) -> None:
        title, *lines = (self._command.epilog or "").splitlines()
        self._write(f"\n{painted(title, BOLD)}\n")
        for line in lines:
            self._write(f"  {line}\n")

    def _section(self, title: str, rows: Iterable[tuple[str, str]]) -> None:
        self._write(f"\n{painted(f'{title}:', BOLD)}\n")
        for name, text in rows:
            room = self._column - len(name) - 2
            is_beside = room >= 2 and self._column != _BELOW
            self._write(f"  {painted(name, BOLD)}")
            self._write(" " * room if is_beside else "\n" + " " * self._column)
            self._paragraph(text, self._column)

    def _paragraph(self, text: str, column: int = 0) -> None:
        """Broken into lines, of which all but the first begin at `column`; [env: X] is a word."""
        whole = re.sub(r"(\[\w+:) ", "\\1\xa0", text)
        lines = wrap(whole, self._width - column, break_long_words=False, break_on_hyphens=False)
        self._write(f"\n{' ' * column}".join(lines).replace("\xa0", " ") + "\n")


def _sections(
    command: TyperCommand | TyperGroup, ctx: Any
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The titles of a page and what stands below each, as names with an explanation."""
    if isinstance(command, TyperGroup):
        panels: dict[str, list[tuple[str, str]]] = {}
        for name, below in command.commands.items():
            summary = (below.help or "").partition("\n\n")[0]
            title = getattr(below, "rich_help_panel", None) or "Commands"
            panels.setdefault(title, []).append((name, summary))
        yield from panels.items()
    arguments = [
        (str(parameter.metavar), explanation(parameter, ctx))
        for parameter in command.params
        if isinstance(parameter, TyperArgument)
    ]
    for title, options in grouped(command, ctx).items():
        yield (
            title,
            [*arguments, *((_names(option), explanation(option, ctx)) for option in options)],
        )
        arguments = []


def _names(option: TyperOption) -> str:
    """As they stand in a column, in which the long ones are below each other."""
    short = [name for name in option.opts if not name.startswith("--")]
    long = [name for name in option.opts if name.startswith("--")]
    text = " / ".join([", ".join([*short, *long]), *option.secondary_opts])
    value = "" if option.is_flag else f" {option.metavar or str(option.name).upper()}"
    return ("" if short else "    ") + text + value
