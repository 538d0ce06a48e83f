"""`lykke channels`: who listens."""

from enum import StrEnum
from typing import Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options

LEADING = ("--channel", "--pattern", "--watch", "--every", "--output")
EPILOG = options.examples(
    "lykke channels", "lykke channels --channel auditlog", "lykke channels --watch --every 5s"
)


class Form(StrEnum):
    """The forms in which channels are printed."""

    TABLE = "table"
    NDJSON = "ndjson"
    JSON = "json"


def channels(
    channel: Annotated[
        str | None,
        options.filter_option(
            "--channel",
            metavar="TYPE",
            help="Only this type of channel; all known ones unless given.",
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        options.filter_option(
            "--pattern", metavar="GLOB", help="Channels of any name that fits, such as '*'."
        ),
    ] = None,
    watch: Annotated[
        bool,
        options.range_option(
            "--watch", help="Look again and again; in a pipe, print what changes."
        ),
    ] = False,
    every: Annotated[
        str | None,
        options.range_option(
            "--every", metavar="DURATION", help="How often with --watch; 2s unless given."
        ),
    ] = None,
    output: Annotated[Form | None, options.LISTED_AS] = None,
    color: options.Color = None,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """List the channels that have subscribers, and how many each has."""
    if channel is not None and pattern is not None:
        raise UsageMistake("Give one of --channel and --pattern.")
    if every is not None and not watch:
        raise UsageMistake("--every goes with --watch.")
    if watch and output is Form.JSON:
        raise UsageMistake("--watch has no end, as JSON would need: use -o ndjson.")
    settings = options.settings(
        redis_url, None, profile, transport=transport, needs=("redis_url",), quiet=quiet
    )
    printing = options.printing(settings, None, utc=None, color=color, quiet=quiet)
    terminal = options.terminal(printing.color)
    form = output or (Form.TABLE if terminal.stdout_is_tty else Form.NDJSON)
    if watch and form is Form.TABLE and not terminal.stdout_is_tty:
        raise UsageMistake("--watch draws a table on a terminal only: use -o ndjson.")

    from lykke_cli.cli.runs.channels import Listing
    from lykke_cli.cli.runtime import run_async

    listing = Listing(
        settings=settings,
        terminal=terminal,
        form=form,
        channel=channel,
        pattern=pattern,
        quiet=quiet,
    )
    run_async(listing.watch(options.interval(every or "2s")) if watch else listing.once())
