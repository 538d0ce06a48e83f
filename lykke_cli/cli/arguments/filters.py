"""Which entries a command is about."""

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.times import parse_moment
from lykke_cli.cli.arguments.help_texts import filter_option, range_option
from lykke_cli.cli.arguments.values import parse_uuid

if TYPE_CHECKING:
    from lykke_cli.application.filters import Filters

NEWEST = ("--last", "--limit", "-n")
"""What the option is called that takes the newest N, on every command that has it."""
Since = Annotated[
    str | None,
    range_option(
        "--since",
        "-s",
        metavar="TIME",
        help="From this time on: 15m, 2h ago, 14:05, yesterday, ISO 8601, @1767225600.",
    ),
]
Until = Annotated[
    str | None, range_option("--until", metavar="TIME", help="Only what occurred before this time.")
]
EndCount = Annotated[
    int | None, range_option("--count", "-c", min=1, metavar="N", help="End after N.")
]
Idle = Annotated[
    str | None,
    range_option("--idle", metavar="DURATION", help="End when nothing came for so long."),
]
AllUsers = Annotated[bool, filter_option("--all", "-a", help="Every user.")]
ActivityTypes = Annotated[
    list[str] | None,
    filter_option(
        "--activity-type",
        "-t",
        metavar="TYPE",
        help="Only this type, or those like TASK_*; repeat it for several.",
    ),
]
Excluded = Annotated[
    list[str] | None,
    filter_option(
        "--exclude",
        "-x",
        metavar="TYPE",
        help="Not this type, nor those like TASK_*; repeat it for several.",
    ),
]
EntityType = Annotated[
    str | None,
    filter_option("--entity-type", metavar="TYPE", help="Only entries about this kind of thing."),
]
EntityId = Annotated[
    UUID | None,
    filter_option(
        "--entity-id", metavar="UUID", parser=parse_uuid, help="Only entries about this thing."
    ),
]
Query = Annotated[
    str | None,
    filter_option(
        "--query",
        metavar="JMESPATH",
        help="Only entries for which this is true, such as: meta.priority=='high'",
    ),
]
Grep = Annotated[
    str | None,
    filter_option(
        "--grep",
        "-g",
        metavar="REGEX",
        help="Only entries whose JSON this is found in; (?i) at its start ignores case.",
    ),
]
NotGrep = Annotated[
    str | None,
    filter_option(
        "--not-grep", metavar="REGEX", help="Only entries whose JSON this is not found in."
    ),
]


def filters(
    *,
    activity_types: list[str] | None,
    excluded: list[str] | None,
    entity_type: str | None,
    entity_id: UUID | None,
    until: datetime | None,
    query: str | None,
    grep: str | None,
    not_grep: str | None,
    any_message: bool = False,
) -> "Filters":
    """With `any_message` they hold for any JSON object, not for entries alone."""
    from lykke_cli.application.filters import Filters

    return Filters(
        activity_types=tuple(activity_types or ()),
        excluded_types=tuple(excluded or ()),
        entity_type=entity_type,
        entity_id=entity_id,
        until=until,
        query=query,
        grep=grep,
        not_grep=not_grep,
        any_message=any_message,
    )


def time_range(
    since: str | None, until: str | None, zone: tzinfo | None
) -> tuple[datetime | None, datetime | None]:
    """The values of --since and --until, read in `zone` (None: this machine's).

    Raises UsageMistake where nothing can lie between.
    """
    now = datetime.now(UTC)
    start, end = (
        None if text is None else parse_moment(text, now, zone) for text in (since, until)
    )
    if start is not None and end is not None and start >= end:
        raise UsageMistake(f"--since {since} is not before --until {until}: nothing lies between.")
    return start, end
