"""`lykke show`: one entry in full."""

import re
from typing import Annotated

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options

LEADING = ("--output", "--utc", "--tz", "--color", "--database-url")
EPILOG = options.examples(
    "lykke show 4a1d6cc5",
    "lykke show 4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11 --utc",
    "lykke show 4a1d6cc5 -o json",
)


def show(
    entry_id: Annotated[
        str, typer.Argument(metavar="ENTRY_ID", help="The entry's id, or the beginning of it.")
    ],
    output: options.ReportOutput = None,
    utc: options.Utc = None,
    tz: options.TimeZone = None,
    color: options.Color = None,
    no_pager: options.NoPager = False,
    database_url: options.DatabaseUrl = None,
    profile: options.ProfileName = None,
    quiet: options.Quiet = False,
) -> None:
    """Show one entry in full: every field, whose it is, and what else happened around it.

    What else happened to the same entity is told for 30 minutes before and after. E-mail addresses
    are shown where the application's table users may be read.
    """
    prefix = _prefix(entry_id)
    settings = options.settings(None, database_url, profile, needs=("database_url",), quiet=quiet)
    printing = options.printing(settings, None, utc=utc, tz=tz, color=color, quiet=quiet)
    settings.required_database_url()

    from lykke_cli.cli.output.pager import paged
    from lykke_cli.cli.runs.show import Showing
    from lykke_cli.cli.runtime import run_async

    with paged(wanted=not no_pager):
        terminal = options.terminal(printing.color)
        showing = Showing(
            settings=settings,
            prefix=prefix,
            as_json=not options.is_drawn(output, terminal),
            terminal=terminal,
            zone=printing.zone,
        )
        run_async(showing.run())


def _prefix(text: str) -> str:
    digits = text.strip().lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
        raise UsageMistake(
            f"{text!r} is not an entry's id, such as 4a1d6cc5-3b1c-4f7e-9d55-0c0a7d7f1e11, nor the "
            "beginning of one."
        )
    return digits
