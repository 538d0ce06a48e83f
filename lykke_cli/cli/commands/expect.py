"""`lykke expect`: for CI, what a command must cause."""

from pathlib import Path
from typing import Annotated

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.runs.users import id_of

SETTLE = "2s"
LEADING = ("--activity-type", "--count", "--none", "--timeout", "--query")
EPILOG = options.examples(
    "lykke expect USER_ID --count 2 -- ./complete.sh",
    "lykke expect USER_ID --activity-type 'TASK_*'",
    "lykke expect USER_ID --none -- ./look.sh",
)


def expect(
    user: Annotated[
        str | None, typer.Argument(metavar="USER_ID", help=options.USER_HELP, show_default=False)
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- CMD...]", help="What to run, after --.", show_default=False),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count",
            "-c",
            min=1,
            metavar="N",
            help="So many at least; 1 if not given.",
            show_default=False,
        ),
    ] = None,
    exactly: Annotated[
        int | None,
        options.range_option(
            "--exactly", min=1, metavar="N", help="So many, and no other within --settle of it."
        ),
    ] = None,
    none: Annotated[
        bool, options.range_option("--none", help="Not a single one, until the time-out.")
    ] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="From the start of CMD on.")
    ] = "30s",
    settle: Annotated[
        str | None,
        options.range_option(
            "--settle",
            metavar="DURATION",
            help=f"With --exactly: how long no other may come; {SETTLE} unless given.",
        ),
    ] = None,
    in_order: Annotated[
        str | None,
        options.filter_option(
            "--in-order",
            metavar="A,B,C",
            help="These types, one after the other by their times; others may be between.",
        ),
    ] = None,
    pass_status: Annotated[
        bool,
        options.output_option(
            "--pass-status", help="When CMD fails, its own exit status in place of 4."
        ),
    ] = False,
    junit: Annotated[
        Path | None,
        options.output_option(
            "--junit",
            metavar="FILE",
            help="Write the verdict as JUnit XML too, a test case for each entry.",
            dir_okay=False,
        ),
    ] = None,
    live_only: Annotated[
        bool,
        options.reliability_option("--live-only", help="Use no database: a lost broadcast fails."),
    ] = False,
    all_users: options.AllUsers = False,
    channel: options.Channel = options.AUDIT_LOG,
    activity_type: options.ActivityTypes = None,
    exclude: options.Excluded = None,
    entity_type: options.EntityType = None,
    entity_id: options.EntityId = None,
    query: options.Query = None,
    grep: options.Grep = None,
    not_grep: options.NotGrep = None,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """Run CMD and succeed when the entries it should cause arrive.

    CMD starts once the subscription is confirmed. Matching entries are printed as NDJSON; what CMD
    prints goes to stderr, on a terminal behind a mark. Exit code 4 when they do not arrive in time,
    or when CMD fails; whatever CMD has started is then ended too.
    """
    kinds = {"--count": count, "--exactly": exactly, "--none": none or None, "--in-order": in_order}
    given = [name for name, value in kinds.items() if value is not None]
    if len(given) > 1:
        raise UsageMistake(f"Give one of {' and '.join(given)}.")
    if settle is not None and exactly is None:
        raise UsageMistake("--settle goes with --exactly.")
    if all_users:  # the first word is the command's
        command, user = [*([] if user is None else [user]), *(command or ())], None
    options.require_users(user, all_users=all_users)
    wanted = None if user is None else options.parse_user(user)
    if command and not command[0]:
        raise UsageMistake("The command after -- is empty.")
    if pass_status and not command:
        raise UsageMistake("--pass-status is about a command: give one after --.")
    order = _steps(in_order, activity_type)
    settings = options.settings(
        redis_url,
        database_url,
        profile,
        transport=transport,
        needs=("redis_url",) if live_only else ("redis_url", "database_url"),
        quiet=quiet,
    )
    filters = options.filters(
        activity_types=order or activity_type,
        excluded=exclude,
        entity_type=entity_type,
        entity_id=entity_id,
        until=None,
        query=query,
        grep=grep,
        not_grep=not_grep,
        any_message=channel != options.AUDIT_LOG,
    )

    from lykke_cli.application.expect import Expectation
    from lykke_cli.cli.runs.expect import Expecting
    from lykke_cli.cli.runtime import run_async

    has_history = not (live_only or filters.any_message) and settings.database_url is not None
    least, most = (0, 0) if none else (exactly or count or 1, exactly)
    expecting = Expecting(
        settings=settings,
        user_id=None if wanted is None else id_of(wanted, settings),
        channel_type=channel,
        expectation=Expectation(filters, least, most=most, order=order),
        command=command or [],
        timeout=options.interval(timeout),
        settle=None if exactly is None else options.seconds(settle or SETTLE),
        pass_status=pass_status,
        junit=junit,
        has_history=has_history,
        is_gap_unexpected=not (has_history or live_only or filters.any_message),
        terminal=options.terminal(),
        quiet=quiet,
    )
    if (status := run_async(expecting.run())) != 0:
        raise typer.Exit(status)


def _steps(in_order: str | None, activity_type: list[str] | None) -> list[str]:
    """The types that --in-order names."""
    if in_order is None:
        return []
    if activity_type:
        raise UsageMistake("--in-order names the types: leave --activity-type out.")
    steps = [step.strip() for step in in_order.split(",")]
    if not all(steps):
        raise UsageMistake(f"--in-order {in_order!r} has an empty step: write it like A,B,C.")
    return steps
