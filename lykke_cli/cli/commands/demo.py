"""`lykke demo`: the whole system, with nothing installed or configured."""

from typing import Annotated

import typer

from lykke_cli.cli.arguments import options
from lykke_cli.infrastructure.configuration.settings import Settings

EPILOG = options.examples(
    "lykke demo",
    "lykke demo --for 1m",
    "lykke demo --keep",
)


def demo(
    duration: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="How long it runs.")
    ] = "15s",
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Go on until Ctrl-C, for use from another terminal: prints what to paste there.",
        ),
    ] = False,
    output: options.OutputOption = None,
    utc: options.Utc = None,
    tz: options.TimeZone = None,
    color: options.Color = None,
) -> None:
    """See it all: a server of its own, users at work, a live tail, an outage, the recovery."""
    seconds = None if keep else options.seconds(duration)
    printing = options.printing(Settings(), output, utc=utc, tz=tz, color=color)

    from lykke_cli.cli.runs.demo import Demonstration
    from lykke_cli.cli.runtime import run_async
    from lykke_cli.infrastructure.embedded_servers import EmbeddedServers

    with EmbeddedServers() as servers:
        run_async(Demonstration(servers=servers, printing=printing, seconds=seconds).run())
