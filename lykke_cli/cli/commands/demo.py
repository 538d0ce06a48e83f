"""`lykke demo`: the whole system, with nothing installed or configured."""

from typing import Annotated

import typer

from lykke_cli.cli.arguments import options
from lykke_cli.infrastructure.configuration.settings import Settings

LEADING = ("--for", "--keep", "--web", "--output", "--tz")
EPILOG = options.examples(
    "lykke demo --for 1m",
    "lykke demo --keep",
    "lykke demo --web",
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
    web: Annotated[
        bool,
        typer.Option(
            "--web",
            help="Go on until Ctrl-C, with lykke serve beside it: prints the address of its page.",
        ),
    ] = False,
    output: options.OutputOption = None,
    utc: options.Utc = None,
    tz: options.TimeZone = None,
    color: options.Color = None,
) -> None:
    """See it all: a server of its own, users at work, a live tail, an outage, the recovery."""
    seconds = None if keep or web else options.seconds(duration)
    printing = options.printing(Settings(), output, utc=utc, tz=tz, color=color)

    from lykke_cli.cli.runs.demo import Demonstration
    from lykke_cli.cli.runtime import run_async
    from lykke_cli.infrastructure.embedded_servers import EmbeddedServers

    if web:
        from lykke_cli.cli.runs.serve import require_extra

        require_extra()
    with EmbeddedServers() as servers:
        demonstration = Demonstration(
            servers=servers, printing=printing, seconds=seconds, with_page=web
        )
        run_async(demonstration.run())
