"""`lykke groups`: consumer groups, and how far they are."""

from typing import Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.commands.channels import Form

LEADING = ("--watch", "--every", "--channel", "--output", "--redis-url")
EPILOG = options.examples("lykke groups", "lykke groups --watch", "lykke groups -o ndjson")


def groups(
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
    channel: options.Channel = options.AUDIT_LOG,
    output: Annotated[Form | None, options.LISTED_AS] = None,
    color: options.Color = None,
    redis_url: options.RedisUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """List the groups of lykke consume, their members, and what is not taken yet.

    Pending is what was given to a member and not acknowledged; lag is what the streams keep and was
    given to nobody.
    """
    if every is not None and not watch:
        raise UsageMistake("--every goes with --watch.")
    if watch and output is Form.JSON:
        raise UsageMistake("--watch has no end, as JSON would need: use -o ndjson.")
    settings = options.settings(redis_url, None, profile, needs=("redis_url",), quiet=quiet)
    printing = options.printing(settings, None, utc=None, color=color, quiet=quiet)
    terminal = options.terminal(printing.color)
    form = output or (Form.TABLE if terminal.stdout_is_tty else Form.NDJSON)
    if watch and form is Form.TABLE and not terminal.stdout_is_tty:
        raise UsageMistake("--watch draws a table on a terminal only: use -o ndjson.")

    from lykke_cli.cli.runs.groups import GroupListing
    from lykke_cli.cli.runtime import run_async

    listing = GroupListing(
        settings=settings, terminal=terminal, form=form, channel_type=channel, quiet=quiet
    )
    run_async(listing.watch(options.interval(every or "2s")) if watch else listing.once())
