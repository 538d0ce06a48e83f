"""`lykke groups`: consumer groups, and how far they are."""

from typing import Annotated

from lykke_cli.cli.arguments import options

LEADING = ("--watch", "--every", "--channel", "--output", "--redis-url")
EPILOG = options.examples("lykke groups", "lykke groups --watch", "lykke groups -o ndjson")


def groups(
    watch: options.Watch = False,
    every: options.Every = None,
    channel: options.Channel = options.AUDIT_LOG,
    output: Annotated[options.ListForm | None, options.LISTED_AS] = None,
    color: options.Color = None,
    redis_url: options.RedisUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """List the groups of lykke consume, their members, and what is not taken yet.

    Pending is what was given to a member and not acknowledged; lag is what the streams keep and was
    given to nobody.
    """
    options.require_watchable(output, every, watch=watch)
    settings = options.settings(redis_url, None, profile, needs=("redis_url",), quiet=quiet)
    printing = options.printing(settings, None, utc=None, color=color, quiet=quiet)
    terminal = options.terminal(printing.color)
    form = options.listed_form(output, terminal, watch=watch)

    from lykke_cli.cli.runs.groups import GroupListing
    from lykke_cli.cli.runtime import run_async

    listing = GroupListing(
        settings=settings, terminal=terminal, form=form, channel_type=channel, quiet=quiet
    )
    run_async(listing.watch(options.interval(every or options.EVERY)) if watch else listing.once())
