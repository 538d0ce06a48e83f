"""How and where a command prints."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.times import parse_zone
from lykke_cli.cli.arguments.help_texts import env, output_option
from lykke_cli.cli.arguments.values import size
from lykke_cli.cli.output.terminal import ColorChoice, Output, Terminal
from lykke_cli.infrastructure.configuration.settings import Settings

if TYPE_CHECKING:
    from lykke_cli.cli.output.renderers import Renderer

LISTED_AS = output_option(
    "--output", "-o", metavar="FORM", help="table on a terminal, ndjson in a pipe, unless given."
)
OutputOption = Annotated[Output | None, LISTED_AS]


class ReportForm(StrEnum):
    """The forms in which one thing is told of as a whole."""

    TABLE = "table"
    JSON = "json"


ReportOutput = Annotated[
    ReportForm | None,
    output_option(
        "--output", "-o", metavar="FORM", help="table on a terminal, json in a pipe, unless given."
    ),
]
Utc = Annotated[
    bool | None,
    output_option("--utc/--local", help="Times in UTC, as in a pipe, or local, as on a terminal."),
]
TimeZone = Annotated[
    str | None, output_option("--tz", metavar="ZONE", help="Times in this zone: Europe/Berlin.")
]
Relative = Annotated[
    bool,
    output_option(
        "--relative", help="In the table ages such as 3m ago, as they are when a line is printed."
    ),
]
Wrap = Annotated[
    bool,
    output_option("--wrap", help="In the table whole details, on several lines."),
]
Color = Annotated[
    ColorChoice | None,
    output_option(
        "--color",
        metavar="WHEN",
        help=f"Colours; on a terminal unless given. {env('NO_COLOR')} {env('FORCE_COLOR')}",
    ),
]
Columns = Annotated[
    str | None,
    output_option(
        "--columns",
        metavar="NAMES",
        help="The columns of the table or of CSV, such as time,activity,details.",
    ),
]
Template = Annotated[
    str | None,
    output_option(
        "--template",
        metavar="TEXT",
        help="A line of your own for each entry: '{occurred_at} {activity_type:<20} {meta.title}'.",
    ),
]
MaxMessageSize = Annotated[
    str,
    output_option(
        "--max-message-size",
        metavar="SIZE",
        help="In the table what is larger is cut, its size told; other outputs cut nothing.",
        show_default=True,
    ),
]
MAX_MESSAGE_SIZE = "1MiB"
Unsafe = Annotated[
    bool, output_option("--unsafe", help="With -o raw on a terminal: pass control characters on.")
]
Quiet = Annotated[bool, output_option("--quiet", "-q", help="Say nothing on stderr but errors.")]


NoPager = Annotated[
    bool,
    output_option(
        "--no-pager",
        help=f"Straight to the terminal, whatever its length. {env('LYKKE_PAGER')} {env('PAGER')}",
    ),
]


def own_name(word: str) -> str:
    """The name that a choice has here, where others know it by `word`."""
    return "ndjson" if word == "jsonl" else word


def terminal(color: ColorChoice = ColorChoice.AUTO) -> Terminal:
    """The process's own terminal."""
    return Terminal.of_process(color=color)


def is_drawn(form: ReportForm | None, terminal: Terminal) -> bool:
    """Whether a report has the form of a table."""
    return form is ReportForm.TABLE or (form is None and terminal.stdout_is_tty)


@dataclass(frozen=True, slots=True)
class Printing:
    """How messages are shown."""

    output: Output | None
    zone: tzinfo | None = UTC
    """In which times are shown, and read where they name none; None: this machine's."""
    relative: bool = False
    wrap: bool = False
    unsafe: bool = False
    color: ColorChoice = ColorChoice.AUTO
    quiet: bool = False
    columns: tuple[str, ...] | None = None
    template: str | None = None
    max_message_size: int = size(MAX_MESSAGE_SIZE)
    """In bytes, for the table."""
    any_message: bool = False
    """Whether columns and fields are those of any JSON object, not of entries."""

    def is_table(self, terminal: Terminal) -> bool:
        """Whether `renderer` makes a table."""
        chosen = self.output is Output.TABLE or (self.output is None and terminal.stdout_is_tty)
        return chosen and self.template is None

    def renderer(
        self,
        terminal: Terminal,
        *,
        show_user: bool = False,
        emails: Mapping[str, str] | None = None,
        grep: str | None = None,
    ) -> "Renderer":
        """As `make_renderer`; raises UsageMistake when these do not go together."""
        from lykke_cli.cli.output.renderers import make_renderer

        return make_renderer(
            self.output,
            terminal,
            zone=self.zone,
            relative=self.relative,
            show_user=show_user,
            emails=emails,
            wrap=self.wrap,
            grep=grep,
            unsafe=self.unsafe,
            columns=self.columns,
            template=self.template,
            max_message_size=self.max_message_size,
            any_message=self.any_message,
        )


def zone(settings: Settings, utc: bool | None, tz: str | None) -> tzinfo | None:
    """The zone in which times are shown, and read where they name none; None: this machine's.

    Without a flag or the profile's choice it is the person's own on a terminal, else UTC.
    Raises UsageMistake.
    """
    if tz is not None:
        if utc is not None:
            raise UsageMistake("--tz names the zone: leave --utc and --local out.")
        return parse_zone(tz)
    if utc is None and settings.profile is not None:
        utc = settings.profile.values.get("utc")
    if utc is None:
        utc = not terminal().stdout_is_tty
    return UTC if utc else None


def printing(
    settings: Settings,
    output: Output | None,
    *,
    utc: bool | None = None,
    tz: str | None = None,
    color: ColorChoice | None,
    relative: bool = False,
    wrap: bool = False,
    unsafe: bool = False,
    quiet: bool = False,
    columns: str | None = None,
    template: str | None = None,
    max_message_size: str = MAX_MESSAGE_SIZE,
    any_message: bool = False,
) -> Printing:
    """How messages are shown: what was given as flags, else the profile's."""
    defaults = {} if settings.profile is None else settings.profile.values
    if output is None and "output" in defaults and template is None:
        output = Output(defaults["output"])
    if color is None and not os.environ.get("NO_COLOR"):
        color = ColorChoice(defaults.get("color", ColorChoice.AUTO))
    return Printing(
        output,
        zone=zone(settings, utc, tz),
        relative=relative,
        wrap=wrap,
        unsafe=unsafe,
        color=color or ColorChoice.AUTO,
        quiet=quiet,
        columns=None if columns is None else tuple(map(str.strip, columns.split(","))),
        template=template,
        max_message_size=size(max_message_size),
        any_message=any_message,
    )
