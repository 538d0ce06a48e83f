"""`lykke channels`: who listens."""

from typing import Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options

LEADING = ("--channel", "--pattern", "--watch", "--every", "--output")
EPILOG = options.examples(
    "lykke channels", "lykke channels --channel auditlog", "lykke channels --watch --every 5s"
)


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
    watch: options.Watch = False,
    every: options.Every = None,
    output: Annotated[options.ListForm | None, options.LISTED_AS] = None,
    color: options.Color = None,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """List the channels that have subscribers, and how many each has."""
    if channel is not None and pattern is not None:
        raise UsageMistake("Give one of --channel and --pattern.")
    options.require_watchable(output, every, watch=watch)
    settings = options.settings(
        redis_url, None, profile, transport=transport, needs=("redis_url",), quiet=quiet
    )
    printing = options.printing(settings, None, utc=None, color=color, quiet=quiet)
    terminal = options.terminal(printing.color)
    form = options.listed_form(output, terminal, watch=watch)

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
    run_async(listing.watch(options.interval(every or options.EVERY)) if watch else listing.once())
