"""`lykke tail`: follow a user's channel."""

from typing import Annotated

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.runs.users import id_of
from lykke_cli.infrastructure.files import recent

LEADING = ("--since", "--last", "--activity-type", "--grep", "--output")
EPILOG = options.examples(
    "lykke tail USER_ID --since 15m",
    "lykke tail --all --activity-type '*FAILED*'",
    "lykke tail USER_ID --to-file audit.ndjson",
)


def tail(
    user: Annotated[
        options.User | None,
        typer.Argument(
            metavar="USER_ID", parser=options.parse_user, help=options.USER_HELP, show_default=False
        ),
    ] = None,
    all_users: Annotated[bool, options.filter_option("--all", help="Follow every user.")] = False,
    channel: options.Channel = options.AUDIT_LOG,
    since: options.Since = None,
    last: Annotated[
        int | None,
        options.range_option(
            *options.NEWEST, min=0, metavar="N", help="First the newest N of history that match."
        ),
    ] = None,
    resume: Annotated[
        bool,
        options.range_option(
            "--resume", help="First what came since the last run of this command."
        ),
    ] = False,
    live_only: Annotated[
        bool,
        options.reliability_option(
            "--live-only", help="Use no database: gaps are announced, not filled."
        ),
    ] = False,
    count: Annotated[
        int | None, options.range_option("--count", min=1, metavar="N", help="End after N.")
    ] = None,
    timeout: Annotated[
        str | None,
        options.range_option(
            "--timeout",
            metavar="DURATION",
            help="End after this long; with --count, exit code 4 if N did not come.",
        ),
    ] = None,
    ack: Annotated[
        bool, options.reliability_option("--ack", help="Answer each entry with an acknowledgment.")
    ] = False,
    to_file: options.ToFile = None,
    rotate: options.Rotate = None,
    compress: options.Compress = False,
    reconcile: Annotated[
        str,
        options.reliability_option(
            "--reconcile",
            metavar="DURATION",
            help="How often to look in the database for lost broadcasts.",
            show_default=True,
        ),
    ] = "30s",
    health_interval: Annotated[
        str,
        options.reliability_option(
            "--health-interval",
            metavar="DURATION",
            help="Silence after which Redis is asked for a sign of life; given up after as much.",
            show_default=True,
        ),
    ] = "10s",
    activity_type: options.ActivityTypes = None,
    exclude: options.Excluded = None,
    entity_type: options.EntityType = None,
    entity_id: options.EntityId = None,
    until: options.Until = None,
    query: options.Query = None,
    grep: options.Grep = None,
    not_grep: options.NotGrep = None,
    output: options.OutputOption = None,
    columns: options.Columns = None,
    template: options.Template = None,
    max_message_size: options.MaxMessageSize = options.MAX_MESSAGE_SIZE,
    utc: options.Utc = None,
    tz: options.TimeZone = None,
    relative: options.Relative = False,
    wrap: options.Wrap = False,
    unsafe: options.Unsafe = False,
    color: options.Color = None,
    redis_url: options.RedisUrl = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """Follow a user's channel live.

    With a database every committed entry is printed exactly once, whatever happens between. In the
    table what came live is marked ●, what came from the database ○, and ↺ what should have come
    live and was recovered from there. At a terminal the key ? tells the others.
    """
    is_known = user is None or user.is_id
    needs = ("redis_url",) if live_only and is_known else ("redis_url", "database_url")
    settings = options.settings(redis_url, database_url, profile, needs=needs, quiet=quiet)
    printing = options.printing(
        settings,
        output,
        utc=utc,
        tz=tz,
        relative=relative,
        wrap=wrap,
        unsafe=unsafe,
        color=color,
        quiet=quiet,
        columns=columns,
        template=template,
        max_message_size=max_message_size,
        channel=channel,
    )
    start, end = options.time_range(since, until, printing.zone)
    limit = options.seconds(timeout)
    if (user is None) == (not all_users):
        raise UsageMistake("Give either a USER_ID, or --all for every user.")
    has_history = (
        not live_only and channel == options.AUDIT_LOG and settings.database_url is not None
    )
    if (since is not None or last is not None or resume) and not has_history:
        raise UsageMistake(_why_no_history(live_only=live_only, channel=channel))
    if resume and (since is not None or last is not None):
        raise UsageMistake("--resume goes on where the last run ended: leave --since and -n out.")
    if to_file is not None:
        options.require_ndjson(output, columns, template)

    user_id = None if user is None else id_of(user, settings)

    from lykke_cli.application.tail import TailRequest
    from lykke_cli.cli.runs.tail import Tailing
    from lykke_cli.cli.runtime import run_async

    tailing = Tailing(
        settings=settings,
        request=TailRequest(
            user_id=user_id,
            channel_type=channel,
            filters=options.filters(
                activity_type,
                entity_type,
                entity_id,
                end,
                query,
                grep,
                channel,
                excluded=exclude,
                not_grep=not_grep,
            ),
            since=start,
            last=last,
        ),
        has_history=has_history,
        resume=resume,
        count=count,
        timeout=limit,
        ack=ack,
        reconcile=options.interval(reconcile),
        health_interval=options.interval(health_interval),
        is_gap_unexpected=not (has_history or live_only) and channel == options.AUDIT_LOG,
        file=options.entry_file(to_file, rotate, compress=compress),
        printing=printing,
    )
    recent.remember(user_id, "tail", activity_type or ())
    run_async(tailing.run())


def _why_no_history(*, live_only: bool, channel: str) -> str:
    if live_only:
        return "--live-only uses no database: leave --since, -n and --resume out."
    if channel != options.AUDIT_LOG:
        return f"The channel {channel!r} has no history: leave --since, -n and --resume out."
    return (
        "History needs the database: set DATABASE_URL, or give --database-url or a --profile "
        "that has one."
    )
