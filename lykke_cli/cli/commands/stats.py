"""`lykke stats`: users' activity, drawn."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from lykke_cli.cli.arguments import options
from lykke_cli.cli.output.standard_streams import say
from lykke_cli.cli.runs.users import ids_of
from lykke_cli.infrastructure.files import recent

if TYPE_CHECKING:
    from datetime import tzinfo

    from lykke_cli.application.gateways.statistics_protocol import Scope
    from lykke_cli.application.stats import Activity
    from lykke_cli.infrastructure.configuration.settings import Settings

LEADING = ("--since", "--until", "--activity-type", "--output", "--svg")
EPILOG = options.examples(
    "lykke stats USER_ID",
    "lykke stats USER_ID --since 30d",
    "lykke stats USER_ID --utc --svg activity.svg",
)


def stats(
    users: options.UserIds = None,
    all_users: options.AllUsers = False,
    since: options.Since = None,
    until: options.Until = None,
    activity_type: options.ActivityTypes = None,
    entity_type: options.EntityType = None,
    entity_id: options.EntityId = None,
    output: options.ReportOutput = None,
    svg: Annotated[
        Path | None,
        options.output_option(
            "--svg",
            metavar="FILE",
            help="Write the report as a picture too.",
            dir_okay=False,
        ),
    ] = None,
    png: Annotated[
        Path | None,
        options.output_option(
            "--png",
            metavar="FILE",
            help="The same as PNG; needs the extra png.",
            dir_okay=False,
        ),
    ] = None,
    utc: options.Utc = None,
    tz: options.TimeZone = None,
    color: options.Color = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """Show users' activity: over time, by type, and by hour of the week.

    The database does the counting, whatever the number of entries.
    """
    options.require_users(users, all_users=all_users)
    settings = options.settings(None, database_url, profile, needs=("database_url",), quiet=quiet)
    printing = options.printing(settings, None, utc=utc, tz=tz, color=color, quiet=quiet)
    start, end = options.time_range(since, until, printing.zone)
    settings.required_database_url()
    terminal = options.terminal(printing.color)
    if png is not None:
        from lykke_cli.cli.reports.png import require_png

        require_png()

    from lykke_cli.application.gateways.history_protocol import Selection
    from lykke_cli.application.gateways.statistics_protocol import Scope
    from lykke_cli.application.messages import encode
    from lykke_cli.cli.runtime import run_async

    user_ids = ids_of(users, settings)
    selection_types = tuple(activity_type or ())
    selection = Selection(
        user_ids=set(user_ids) if user_ids else None,
        activity_types=selection_types,
        entity_type=entity_type,
        entity_id=entity_id,
    )
    scope = Scope(selection=selection, since=start, until=end)
    recent.remember(user_ids, "stats", activity_type or ())
    activity = run_async(_read(settings, scope, printing.zone))
    for path in _pictures(activity, svg, png):
        if not quiet:
            say(f"wrote {path}")
    if options.is_drawn(output, terminal):
        from lykke_cli.cli.reports.activity_report import draw

        draw(activity, terminal.out, datetime.now(UTC))
        terminal.flush()
    else:
        terminal.write_json(encode(activity.to_dict()))
    if not quiet:
        run_async(_tell_mistakes(settings, user_ids, selection_types, activity.summary.entries))


async def _tell_mistakes(
    settings: "Settings", user_ids: Collection[UUID], types: tuple[str, ...], counted: int
) -> None:
    from lykke_cli.application.filters import Filters
    from lykke_cli.cli.runs.silence import probable_mistakes

    filters = Filters(activity_types=types)
    async for line in probable_mistakes(settings, user_ids, filters, printed=counted):
        say(line)


async def _read(settings: "Settings", scope: "Scope", zone: "tzinfo | None") -> "Activity":
    from lykke_cli.application.stats import read_activity
    from lykke_cli.bootstrap import make_statistics

    async with make_statistics(settings) as statistics:
        return await read_activity(statistics, scope, zone=zone, now=datetime.now(UTC))


def _pictures(activity: "Activity", svg: Path | None, png: Path | None) -> Iterator[Path]:
    """Draw the report into the files that are asked for; yields each once it is written."""
    if svg is None and png is None:
        return
    from lykke_cli.cli.reports.activity_svg import MARK
    from lykke_cli.cli.reports.activity_svg import svg as drawn
    from lykke_cli.infrastructure.files.whole_file import write_whole

    picture = drawn(activity)
    if svg is not None:
        write_whole(svg, picture.encode(), mark=MARK.encode())
        yield svg
    if png is not None:
        from lykke_cli.cli.reports.png import render_png

        write_whole(png, render_png(picture, comment=MARK), mark=MARK.encode())
        yield png
