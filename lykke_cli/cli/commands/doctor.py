"""`lykke doctor`: everything a support engineer would look at."""

from enum import StrEnum
from typing import Annotated

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.runs.users import id_of

LEADING = ("--write", "--output", "--timeout", "--channel", "--profile")
EPILOG = options.examples(
    "lykke doctor",
    "lykke doctor --write",
    "lykke doctor -o json",
)


class Report(StrEnum):
    """The forms of the report."""

    TABLE = "table"
    JSON = "json"
    PROMETHEUS = "prometheus"


def doctor(
    user: Annotated[
        options.User | None,
        typer.Argument(
            metavar="USER_ID",
            parser=options.parse_user,
            help="Whose entry --write records; a user nobody has if not given.",
            show_default=False,
        ),
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Also record an entry, which stays, and see it arrive.",
        ),
    ] = False,
    channel: options.Channel = options.AUDIT_LOG,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="DURATION", help="For each check.")
    ] = "5s",
    output: Annotated[
        Report,
        typer.Option(
            "--output", "-o", metavar="FORM", help="A table to read, one JSON object, or metrics."
        ),
    ] = Report.TABLE,
    color: options.Color = None,
    no_pager: options.NoPager = False,
    redis_url: options.RedisUrl = None,
    transport: options.TransportOption = None,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    yes: options.Yes = False,
) -> None:
    """Check both servers, the rights on them, and this machine; say what to do about each fault.

    Exit code 4 when a check failed; warnings are none.
    """
    settings = options.settings(redis_url, database_url, profile, transport=transport)
    printing = options.printing(settings, None, utc=None, color=color)
    if user is not None and not write:
        raise UsageMistake("USER_ID is for --write: whose entry it records.")
    user_id = None if user is None else id_of(user, settings)
    if write:
        options.confirm(settings, f"record an entry of {user_id or 'a user nobody has'}", yes=yes)
    seconds = options.interval(timeout)

    from lykke_cli.cli.output.pager import paged
    from lykke_cli.cli.reports import doctor_report
    from lykke_cli.cli.runs.doctor import Examination
    from lykke_cli.cli.runtime import run_async

    with paged(wanted=not no_pager):
        examination = Examination(
            settings=settings,
            channel_type=channel,
            write=write,
            user_id=user_id,
            timeout=seconds,
            write_report={
                Report.TABLE: None,
                Report.JSON: doctor_report.write_json,
                Report.PROMETHEUS: doctor_report.write_metrics,
            }[output],
            terminal=options.terminal(printing.color),
        )
        run_async(examination.run())
