"""`lykke expect`: for CI, what a command must cause."""

from typing import Annotated

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.runs.users import id_of

LEADING = ("--activity-type", "--count", "--none", "--timeout", "--query")
EPILOG = options.examples(
    "lykke expect USER_ID --count 2 -- ./complete.sh",
    "lykke expect USER_ID --activity-type 'TASK_*'",
    "lykke expect USER_ID --none -- ./look.sh",
)


def expect(
    user: options.UserId,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- CMD...]", help="What to run, after --.", show_default=False),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            min=1,
            metavar="N",
            help="So many at least; 1 if not given.",
            show_default=False,
        ),
    ] = None,
    none: Annotated[
        bool, options.range_option("--none", help="Not a single one, until the time-out.")
    ] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="From the start of CMD on.")
    ] = "30s",
    live_only: Annotated[
        bool,
        options.reliability_option("--live-only", help="Use no database: a lost broadcast fails."),
    ] = False,
    channel: options.Channel = options.AUDIT_LOG,
    activity_type: options.ActivityTypes = None,
    exclude: options.Excluded = None,
    entity_type: options.EntityType = None,
    entity_id: options.EntityId = None,
    query: options.Query = None,
    grep: options.Grep = None,
    not_grep: options.NotGrep = None,
    redis_url: options.RedisUrl = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """Run CMD and succeed when the entries it should cause arrive.

    CMD starts once the subscription is confirmed. Matching entries are printed as NDJSON; what CMD
    prints goes to stderr. Exit code 4 when they do not arrive in time, or when CMD fails; whatever
    CMD has started is then ended too.
    """
    if none and count is not None:
        raise UsageMistake("--none expects nothing: leave --count out.")
    needs = ("redis_url",) if live_only else ("redis_url", "database_url")
    settings = options.settings(redis_url, database_url, profile, needs=needs, quiet=quiet)
    seconds = options.interval(timeout)
    filters = options.filters(
        activity_type,
        entity_type,
        entity_id,
        None,
        query,
        grep,
        channel,
        excluded=exclude,
        not_grep=not_grep,
    )

    from lykke_cli.application.expect import Expectation
    from lykke_cli.cli.runs.expect import Expecting
    from lykke_cli.cli.runtime import run_async

    expecting = Expecting(
        settings=settings,
        user_id=id_of(user, settings),
        channel_type=channel,
        expectation=Expectation(filters, count or 1, none=none),
        command=command or [],
        timeout=seconds,
        has_history=not (live_only or filters.any_message) and settings.database_url is not None,
        terminal=options.terminal(),
        quiet=quiet,
    )
    run_async(expecting.run())
