"""`lykke doctor`: everything a support engineer would look at."""

from enum import StrEnum
from typing import Annotated

import typer

from lykke_cli.cli import options
from lykke_cli.cli.options import Channel, Color, DatabaseUrl, ProfileName, RedisUrl, Yes

EPILOG = options.examples("lykke doctor --write", "lykke doctor -o json")


class Report(StrEnum):
    """The forms of the report."""

    TABLE = "table"
    JSON = "json"


def doctor(
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Also record an entry, for a user nobody has, and see it arrive.",
        ),
    ] = False,
    channel: Channel = "auditlog",
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="For each check.")
    ] = "5s",
    output: Annotated[
        Report, typer.Option("--output", "-o", help="A table to read, or one JSON object.")
    ] = Report.TABLE,
    color: Color = None,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
    profile: ProfileName = None,
    yes: Yes = False,
) -> None:
    """Check both servers, the rights on them, and this machine; say what to do about each fault.

    Exit code 4 when a check failed; warnings are none.
    """
    settings = options.settings(redis_url, database_url, profile)
    printing = options.printing(settings, None, utc=None, color=color)
    if write:
        options.confirm(settings, "record an entry of a user nobody has", yes=yes)
    seconds = options.interval(timeout)

    from lykke_cli.cli.examination import Examination
    from lykke_cli.cli.runtime import run_async

    examination = Examination(
        settings,
        channel,
        write=write,
        timeout=seconds,
        as_json=output is Report.JSON,
        terminal=options.terminal(printing.color),
    )
    run_async(examination.run())
