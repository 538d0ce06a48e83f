"""`lykke users`: who was active, so that a USER_ID can be found."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from lykke_cli.cli.arguments import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lykke_cli.application.gateways.statistics_protocol import Scope
    from lykke_cli.application.gateways.users_protocol import ActiveUser
    from lykke_cli.infrastructure.configuration.settings import Settings

LEADING = ("--since", "--email", "--activity-type", "--last", "--output")
EPILOG = options.examples(
    "lykke users",
    "lykke users --since 1h",
    "lykke users --email '*@example.com' -o csv",
)


class Form(StrEnum):
    """The forms in which users are printed."""

    TABLE = "table"
    NDJSON = "ndjson"
    JSON = "json"
    CSV = "csv"


def users(
    since: options.Since = None,
    until: options.Until = None,
    activity_type: options.ActivityTypes = None,
    email: Annotated[
        str | None,
        options.filter_option(
            "--email",
            metavar="PATTERN",
            help="Only users with such an address; * and ? stand for anything.",
        ),
    ] = None,
    last: Annotated[
        int,
        options.range_option(
            *options.NEWEST,
            min=1,
            metavar="N",
            help="At most N, the latest ones.",
            show_default=True,
        ),
    ] = 50,
    output: Annotated[Form | None, options.LISTED_AS] = None,
    utc: options.Utc = None,
    tz: options.TimeZone = None,
    color: options.Color = None,
    no_pager: options.NoPager = False,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """List users with entries, their number and the last one; the latest user first.

    E-mail addresses are shown where the application's table users may be read.
    """
    settings = options.settings(None, database_url, profile, needs=("database_url",), quiet=quiet)
    printing = options.printing(settings, None, utc=utc, tz=tz, color=color, quiet=quiet)
    start, end = options.time_range(since, until, printing.zone)
    settings.required_database_url()

    from lykke_cli.application.gateways.history_protocol import Selection
    from lykke_cli.application.gateways.statistics_protocol import Scope
    from lykke_cli.cli.output.pager import paged
    from lykke_cli.cli.reports import user_list
    from lykke_cli.cli.runtime import run_async

    scope = Scope(
        selection=Selection(user_ids=None, activity_types=tuple(activity_type or ())),
        since=start,
        until=end,
    )
    found = run_async(_find(settings, scope, last, email))
    with paged(wanted=not no_pager):
        terminal = options.terminal(printing.color)
        match output or (Form.TABLE if terminal.stdout_is_tty else Form.NDJSON):
            case Form.TABLE:
                user_list.draw(found, terminal.out, zone=printing.zone, now=datetime.now(UTC))
            case form:
                terminal.write(user_list.encoded(found, form, terminal))
        terminal.flush()


async def _find(
    settings: "Settings", scope: "Scope", limit: int, email: str | None
) -> "Sequence[ActiveUser]":
    from lykke_cli.application.filters import has_patterns
    from lykke_cli.application.stats import with_types_found
    from lykke_cli.application.users import active_users
    from lykke_cli.bootstrap import make_statistics, make_users

    if has_patterns(scope.selection.activity_types):
        async with make_statistics(settings) as statistics:
            scope = await with_types_found(statistics, scope)
    async with make_users(settings) as users:
        return await active_users(users, scope, limit, email)
