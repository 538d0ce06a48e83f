"""The options that commands share, as types; and how their texts become values."""

import os
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, overload
from uuid import UUID

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.times import parse_duration, parse_moment
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import ColorChoice, Output, Terminal
from lykke_cli.infrastructure.configuration.settings import DEFAULT_REDIS_URL, Settings

if TYPE_CHECKING:
    from lykke_cli.application.filters import Filters
    from lykke_cli.cli.output.renderers import Renderer
    from lykke_cli.infrastructure.files.entry_file import EntryFile

_SERVERS, _FILTERS, _OUTPUT = "Servers", "Filters", "Output"


def parse_uuid(text: str) -> UUID:
    """A UUID, or a usage mistake that says what one looks like."""
    try:
        return UUID(text)
    except ValueError:
        raise UsageMistake(
            f"{text!r} is not a UUID: write it like 3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10."
        ) from None


@dataclass(frozen=True, slots=True)
class User:
    """A user as the command line names one: by id, or by e-mail address."""

    named: UUID | str

    @property
    def is_id(self) -> bool:
        """Whether nothing has to be looked up."""
        return isinstance(self.named, UUID)

    def id(self, settings: Settings) -> UUID:
        """The user's id; only an e-mail address is looked up, in the database.

        Raises UsageMistake when it names nobody, or several users, or there is no database.
        """
        if isinstance(self.named, UUID):
            return self.named
        if settings.database_url is None:
            raise UsageMistake(
                f"{self.named!r} is an e-mail address, which is looked up in the database: set "
                "DATABASE_URL, or give the user's id."
            )
        from lykke_cli.cli.runtime import run_async

        return run_async(_find_user(settings, self.named))


async def _find_user(settings: Settings, email: str) -> UUID:
    from lykke_cli.application.users import find_user
    from lykke_cli.bootstrap import make_users

    async with make_users(settings) as users:
        return await find_user(users, email)


def parse_user(text: str) -> User:
    """A USER_ID; raises UsageMistake."""
    if "@" in text:
        return User(text)
    try:
        return User(UUID(text))
    except ValueError:
        raise UsageMistake(
            f"{text!r} is not a UUID, such as 3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10, nor an "
            "e-mail address."
        ) from None


def _env(variable: str) -> str:
    """The mark of an environment variable in a help text; the backslash is for rich."""
    return f"\\[env: {variable}]"


def examples(*lines: str) -> str:
    """The end of a command's help; USER_ID in it becomes one."""
    shown = [line.replace("USER_ID", "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10") for line in lines]
    return "\n".join(["Examples:", *shown])


USER_HELP = "The user: a UUID, or an e-mail address."
UserId = Annotated[User, typer.Argument(metavar="USER_ID", parser=parse_user, help=USER_HELP)]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        metavar="URL",
        help=f"Redis: redis://, rediss:// or unix://. {_env('REDIS_URL')} "
        f"\\[default: {DEFAULT_REDIS_URL}]",
        rich_help_panel=_SERVERS,
        show_default=False,
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help=f"The database: postgresql:// or sqlite:///. {_env('DATABASE_URL')}",
        rich_help_panel=_SERVERS,
        show_default=False,
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help=f"Servers and defaults under this name; see lykke profile. {_env('LYKKE_PROFILE')}",
        rich_help_panel=_SERVERS,
        show_default=False,
    ),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do not ask, though the profile is protected."),
]
AUDIT_LOG = "auditlog"
"""The type of the channels that entries travel on; on any other one every JSON object is shown."""
Channel = Annotated[
    str,
    typer.Option(
        "--channel",
        metavar="TYPE",
        help="The channel's type: auditlog, notification, domain-events.",
    ),
]
OutputOption = Annotated[
    Output | None,
    typer.Option(
        "--output",
        "-o",
        help="table on a terminal, ndjson in a pipe, unless given.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Utc = Annotated[
    bool | None,
    typer.Option(
        "--utc/--local",
        help="Times in UTC; local ones unless given.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Relative = Annotated[
    bool,
    typer.Option(
        "--relative",
        help="In the table ages such as 3m ago, as they are when a line is printed.",
        rich_help_panel=_OUTPUT,
    ),
]
Color = Annotated[
    ColorChoice | None,
    typer.Option(
        "--color",
        help=f"Colours; on a terminal unless given. {_env('NO_COLOR')}",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="NAMES",
        help="The columns of the table or of CSV, such as time,activity,details.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        metavar="TEXT",
        help="A line of your own for each entry: '{occurred_at} {activity_type:<20} {meta.title}'.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
MaxMessageSize = Annotated[
    str,
    typer.Option(
        "--max-message-size",
        metavar="SIZE",
        help="In the table what is larger is cut, its size told; other outputs cut nothing.",
        rich_help_panel=_OUTPUT,
    ),
]
MAX_MESSAGE_SIZE = "1MiB"
Unsafe = Annotated[
    bool,
    typer.Option(
        "--unsafe",
        help="With -o raw on a terminal: pass control characters on.",
        rich_help_panel=_OUTPUT,
    ),
]
LISTED_AS = typer.Option(
    "--output",
    "-o",
    help="table on a terminal, ndjson in a pipe, unless given.",
    rich_help_panel="Output",
    show_default=False,
)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="From this time on: 15m, 2h, 7d, now, or ISO 8601.",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TIME",
        help="Only what occurred before this time.",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
ActivityTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--activity-type",
        metavar="TYPE",
        help="Only this type, or those like TASK_*; repeat it for several.",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
EntityType = Annotated[
    str | None,
    typer.Option(
        "--entity-type",
        metavar="TYPE",
        help="Only entries about this kind of thing.",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
EntityId = Annotated[
    UUID | None,
    typer.Option(
        "--entity-id",
        metavar="UUID",
        parser=parse_uuid,
        help="Only entries about this thing.",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
Query = Annotated[
    str | None,
    typer.Option(
        "--query",
        metavar="JMESPATH",
        help="Only entries for which this is true, such as: meta.priority=='high'",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]
Grep = Annotated[
    str | None,
    typer.Option(
        "--grep",
        metavar="REGEX",
        help="Only entries whose JSON this is found in; (?i) at its start ignores case.",
        rich_help_panel=_FILTERS,
        show_default=False,
    ),
]


ToFile = Annotated[
    Path | None,
    typer.Option(
        "--to-file",
        metavar="FILE",
        help="Append NDJSON to FILE; the same command again goes on exactly.",
        rich_help_panel=_OUTPUT,
        show_default=False,
        dir_okay=False,
    ),
]
Rotate = Annotated[
    str | None,
    typer.Option(
        "--rotate",
        metavar="SIZE",
        help="Put FILE aside and begin it anew at this size, such as 100M.",
        rich_help_panel=_OUTPUT,
        show_default=False,
    ),
]
Compress = Annotated[
    bool,
    typer.Option("--compress", help="gzip what was put aside.", rich_help_panel=_OUTPUT),
]


def settings(
    redis_url: str | None,
    database_url: str | None,
    profile: str | None = None,
    *,
    needs: Collection[str] = ("redis_url", "database_url"),
    quiet: bool = False,
) -> Settings:
    """The settings of this process, with what was given as flags; says what is odd about them."""
    resolved = Settings.resolve(
        os.environ, redis_url=redis_url, database_url=database_url, profile=profile, needs=needs
    )
    for notice in () if quiet else resolved.notices:
        sys.stderr.write(f"lykke: {visible(notice)}\n")
    return resolved


def confirm(settings: Settings, action: str, *, yes: bool) -> None:
    """Ask the person before `action`, where the profile is protected.

    Raises UsageMistake when there is no one to ask, or when the answer is no.
    """
    profile = settings.profile
    if profile is None or not profile.protected or yes:
        return
    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageMistake(f"The profile {profile.name} is protected: give --yes to {action}.")
    question = f"the profile {profile.name} is protected: {action}? [{profile.name}, or y]"
    sys.stderr.write(f"lykke: {visible(question)} ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.readline().strip().lower()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
    if answer not in ("y", "yes", profile.name.lower()):
        raise UsageMistake("Not confirmed: nothing was done.")


def terminal(color: ColorChoice = ColorChoice.AUTO) -> Terminal:
    """The process's own terminal."""
    return Terminal.of_process(color=color)


def filters(
    activity_types: list[str] | None,
    entity_type: str | None,
    entity_id: UUID | None,
    until: datetime | None,
    query: str | None,
    grep: str | None,
    channel: str = AUDIT_LOG,
) -> "Filters":
    """On a `channel` of another type than the audit log's they hold for any JSON object."""
    from lykke_cli.application.filters import Filters

    return Filters(
        activity_types=tuple(activity_types or ()),
        entity_type=entity_type,
        entity_id=entity_id,
        until=until,
        query=query,
        grep=grep,
        any_message=channel != AUDIT_LOG,
    )


@overload
def moment(text: str) -> datetime: ...
@overload
def moment(text: str | None) -> datetime | None: ...
def moment(text: str | None) -> datetime | None:
    """A `TIME` option's value."""
    return None if text is None else parse_moment(text, datetime.now(UTC))


def time_range(since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """The values of --since and --until; raises UsageMistake where nothing can lie between."""
    now = datetime.now(UTC)
    start, end = (None if text is None else parse_moment(text, now) for text in (since, until))
    if start is not None and end is not None and start >= end:
        raise UsageMistake(f"--since {since} is not before --until {until}: nothing lies between.")
    return start, end


def seconds(text: str | None) -> float | None:
    """A duration option's value, in seconds."""
    return None if text is None else parse_duration(text).total_seconds()


def interval(text: str) -> float:
    """A duration option's value that must not be zero, in seconds."""
    value = parse_duration(text).total_seconds()
    if value <= 0:
        raise UsageMistake(f"{text!r} is no interval: write it like 10s or 1m.")
    return value


def size(text: str) -> int:
    """A size in bytes: `100M`, `2G`, `500K`; raises UsageMistake."""
    match = re.fullmatch(r"(\d{1,12})([KMG]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE)
    if match is None or int(match[1]) == 0:
        raise UsageMistake(f"{text!r} is not a size: write it like 500K, 100M or 2G.")
    return int(match[1]) << 10 * " KMG".index(match[2].upper() or " ")


def require_ndjson(output: Output | None, columns: str | None, template: str | None) -> None:
    """For --to-file; raises UsageMistake where another form was asked for."""
    if output not in (None, Output.NDJSON) or columns or template:
        raise UsageMistake("--to-file writes NDJSON: leave -o, --columns and --template out.")


def entry_file(path: Path | None, rotate: str | None, *, compress: bool) -> "EntryFile | None":
    """The file of --to-file; raises UsageMistake where the other options need it."""
    if path is None:
        if rotate is not None or compress:
            raise UsageMistake("--rotate and --compress go with --to-file.")
        return None
    if compress and rotate is None:
        raise UsageMistake("--compress packs rotated files: give --rotate too.")
    from lykke_cli.infrastructure.files.entry_file import EntryFile

    return EntryFile(path, rotate=None if rotate is None else size(rotate), compress=compress)


@dataclass(frozen=True, slots=True)
class Printing:
    """How messages are shown."""

    output: Output | None
    utc: bool = False
    relative: bool = False
    unsafe: bool = False
    color: ColorChoice = ColorChoice.AUTO
    quiet: bool = False
    columns: tuple[str, ...] | None = None
    template: str | None = None
    max_message_size: int = size(MAX_MESSAGE_SIZE)
    """In bytes, for the table."""
    any_message: bool = False
    """Whether columns and fields are those of any JSON object, not of entries."""

    def renderer(self, terminal: Terminal, *, show_user: bool = False) -> "Renderer":
        """Raises UsageMistake when these do not go together."""
        from lykke_cli.cli.output.renderers import make_renderer

        return make_renderer(
            self.output,
            terminal,
            utc=self.utc,
            relative=self.relative,
            show_user=show_user,
            unsafe=self.unsafe,
            columns=self.columns,
            template=self.template,
            max_message_size=self.max_message_size,
            any_message=self.any_message,
        )


def printing(
    settings: Settings,
    output: Output | None,
    *,
    utc: bool | None,
    color: ColorChoice | None,
    relative: bool = False,
    unsafe: bool = False,
    quiet: bool = False,
    columns: str | None = None,
    template: str | None = None,
    max_message_size: str = MAX_MESSAGE_SIZE,
    channel: str = AUDIT_LOG,
) -> Printing:
    """How messages are shown: what was given as flags, else the profile's."""
    defaults = {} if settings.profile is None else settings.profile.values
    if output is None and "output" in defaults and template is None:
        output = Output(defaults["output"])
    if color is None and not os.environ.get("NO_COLOR"):
        color = ColorChoice(defaults.get("color", ColorChoice.AUTO))
    return Printing(
        output,
        utc=bool(defaults.get("utc")) if utc is None else utc,
        relative=relative,
        unsafe=unsafe,
        color=color or ColorChoice.AUTO,
        quiet=quiet,
        columns=None if columns is None else tuple(map(str.strip, columns.split(","))),
        template=template,
        max_message_size=size(max_message_size),
        any_message=channel != AUDIT_LOG,
    )
