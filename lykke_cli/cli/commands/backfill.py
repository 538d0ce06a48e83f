"""`lykke backfill`: what was missed, from the database."""

from dataclasses import replace
from typing import Annotated

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.arguments.options import (
    ActivityTypes,
    Color,
    Columns,
    Compress,
    DatabaseUrl,
    EntityId,
    EntityType,
    Grep,
    MaxMessageSize,
    OutputOption,
    ProfileName,
    Query,
    Quiet,
    RedisUrl,
    Relative,
    Rotate,
    Since,
    Template,
    ToFile,
    Unsafe,
    Until,
    UserId,
    Utc,
    Yes,
)
from lykke_cli.infrastructure.files import recent

EPILOG = options.examples(
    "lykke backfill USER_ID",
    "lykke backfill USER_ID --since 2h -o csv",
)


def backfill(
    user: UserId,
    since: Since = None,
    until: Until = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            metavar="N",
            help="At most N, oldest first; alone: the newest N.",
            show_default=False,
        ),
    ] = None,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Publish the entries again, for subscribers that were away."),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(
            "--rate",
            min=0.001,
            metavar="N",
            help="With --replay: at most N a second.",
            show_default=False,
        ),
    ] = None,
    to_file: ToFile = None,
    rotate: Rotate = None,
    compress: Compress = False,
    activity_type: ActivityTypes = None,
    entity_type: EntityType = None,
    entity_id: EntityId = None,
    query: Query = None,
    grep: Grep = None,
    output: OutputOption = None,
    columns: Columns = None,
    template: Template = None,
    max_message_size: MaxMessageSize = options.MAX_MESSAGE_SIZE,
    utc: Utc = None,
    relative: Relative = False,
    unsafe: Unsafe = False,
    color: Color = None,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
    profile: ProfileName = None,
    yes: Yes = False,
    quiet: Quiet = False,
) -> None:
    """Print history: a range, or all that was committed since this user was last read here."""
    if rate is not None and not replay:
        raise UsageMistake("--rate goes with --replay.")
    if to_file is not None:
        options.require_ndjson(output, columns, template)
    if to_file is not None and limit is not None:
        raise UsageMistake("--to-file goes on where it left off: leave --limit out.")

    start, end = options.time_range(since, until)
    needs = ("redis_url", "database_url") if replay else ("database_url",)
    settings = options.settings(redis_url, database_url, profile, needs=needs, quiet=quiet)
    printing = options.printing(
        settings,
        output,
        utc=utc,
        relative=relative,
        unsafe=unsafe,
        color=color,
        quiet=quiet,
        columns=columns,
        template=template,
        max_message_size=max_message_size,
    )
    user_id = user.id(settings)
    if replay:  # what is replayed is printed only where this was asked for here
        printing = replace(printing, output=output)
        options.confirm(settings, f"publish entries of {user_id} again", yes=yes)

    from lykke_cli.cli.runs.backfill import Backfilling
    from lykke_cli.cli.runtime import run_async

    backfilling = Backfilling(
        settings,
        user_id,
        options.filters(activity_type, entity_type, entity_id, end, query, grep),
        since=start,
        limit=limit,
        replay=replay,
        rate=rate,
        file=options.entry_file(to_file, rotate, compress=compress),
        printing=printing,
    )
    recent.remember(user_id, "backfill", activity_type or ())
    run_async(backfilling.run())
