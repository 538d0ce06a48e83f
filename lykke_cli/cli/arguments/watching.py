"""Lists that are printed once, or watched."""

from enum import StrEnum
from typing import Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.help_texts import range_option
from lykke_cli.cli.output.terminal import Terminal

EVERY = "2s"
Watch = Annotated[
    bool, range_option("--watch", help="Look again and again; in a pipe, print what changes.")
]
Every = Annotated[
    str | None,
    range_option(
        "--every", metavar="DURATION", help=f"How often with --watch; {EVERY} unless given."
    ),
]


class ListForm(StrEnum):
    """The forms in which such a list is printed."""

    TABLE = "table"
    NDJSON = "ndjson"
    JSON = "json"


def require_watchable(output: ListForm | None, every: str | None, *, watch: bool) -> None:
    """Raise UsageMistake where these do not go together."""
    if every is not None and not watch:
        raise UsageMistake("--every goes with --watch.")
    if watch and output is ListForm.JSON:
        raise UsageMistake("--watch has no end, as JSON would need: use -o ndjson.")


def listed_form(output: ListForm | None, terminal: Terminal, *, watch: bool) -> ListForm:
    """A table on a terminal, ndjson in a pipe, unless given; raises UsageMistake likewise."""
    form = output or (ListForm.TABLE if terminal.stdout_is_tty else ListForm.NDJSON)
    if watch and form is ListForm.TABLE and not terminal.stdout_is_tty:
        raise UsageMistake("--watch draws a table on a terminal only: use -o ndjson.")
    return form
