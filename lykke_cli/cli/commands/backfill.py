"""`lykke backfill`: what was missed, from the database."""

from dataclasses import replace
from typing import Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.runs.users import ids_of
from lykke_cli.infrastructure.files import recent

LEADING = ("--since", "--last", "--activity-type", "--grep", "--output")
EPILOG = options.examples(
    "lykke backfill USER_ID",
    "lykke backfill USER_ID --since 2h -o csv",
    "lykke backfill USER_ID --since 30d --grep invoice",
)


def backfill(
    users: options.UserIds = None,
    all_users: options.AllUsers = False,
    since: options.Since = None,
    until: options.Until = None,
    last: Annotated[
        int | None,
        options.range_option(
            *options.NEWEST, min=1, metavar="N", help="Only the newest N that match."
        ),
    ] = None,
    first: Annotated[
        int | None,
        options.range_option("--first", min=1, metavar="N", help="Only the oldest N that match."),
    ] = None,
    cursor: options.FromCursor = None,
    replay: Annotated[
        bool,
        options.reliability_option(
            "--replay", help="Publish the entries again, for subscribers that were away."
        ),
    ] = False,
    rate: Annotated[
        float | None,
        options.reliability_option(
            "--rate", min=0.001, metavar="N", help="With --replay: at most N a second."
        ),
    ] = None,
    to_file: options.ToFile = None,
    rotate: options.Rotate = None,
    compress: options.Compress = False,
    activity_type: options.ActivityTypes = None,
    exclude: options.Excluded = None,
    entity_type: options.EntityType = None,
    entity_id: options.EntityId = None,
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
    no_pager: options.NoPager = False,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
) -> None:
    """Print history: a range, or all that was committed since these users were last read here."""
    options.require_users(users, all_users=all_users)
    if rate is not None and not replay:
        raise UsageMistake("--rate goes with --replay.")
    if to_file is not None:
        options.require_ndjson(output, columns, template)
    if first is not None and last is not None:
        raise UsageMistake("--first is the oldest N, --last the newest: give one of them.")
    if to_file is not None and (first is not None or last is not None):
        raise UsageMistake("--to-file goes on where it left off: leave --last and --first out.")

    options.require_no_start(
        cursor,
        {
            "--since": since is not None,
            "--last": last is not None,
            "--first": first is not None,
            "--to-file": to_file is not None,
        },
    )
    needs = ("redis_url", "database_url") if replay else ("database_url",)
    settings = options.settings(
        redis_url, database_url, profile, transport=transport, needs=needs, quiet=quiet
    )
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
    )
    start, end = options.time_range(since, until, printing.zone)
    user_ids = ids_of(users, settings)
    resume = options.from_cursor(cursor, user_ids)
    if replay:  # what is replayed is printed only where this was asked for here
        printing = replace(printing, output=output)
        options.confirm(
            settings,
            f"publish entries of {', '.join(map(str, user_ids)) or 'every user'} again",
            yes=yes,
        )

    from lykke_cli.cli.output.pager import paged
    from lykke_cli.cli.runs.backfill import Backfilling
    from lykke_cli.cli.runtime import run_async

    backfilling = Backfilling(
        settings=settings,
        user_ids=set(user_ids) if user_ids else None,
        filters=options.filters(
            activity_types=activity_type,
            excluded=exclude,
            entity_type=entity_type,
            entity_id=entity_id,
            until=end,
            query=query,
            grep=grep,
            not_grep=not_grep,
        ),
        since=start,
        resume=resume,
        first=first,
        last=last,
        replay=replay,
        rate=rate,
        file=options.entry_file(to_file, rotate, compress=compress),
        printing=printing,
    )
    recent.remember(user_ids, "backfill", activity_type or ())
    # What goes on from a stored place counts as read, though one left the pager before its end.
    with paged(wanted=backfilling.is_range and not replay and not no_pager):
        run_async(backfilling.run())
