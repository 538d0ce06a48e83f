"""`lykke help`: what holds for several commands; `lykke help COMMAND` is answered by `app`."""

import sys
from typing import Annotated

import typer

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments import options
from lykke_cli.cli.arguments.topics import TOPICS

EPILOG = options.examples(
    "lykke help times",
    "lykke help tail",
    "lykke help profile add",
)


def help(
    topic: Annotated[
        str,
        typer.Argument(metavar="TOPIC", help=f"{', '.join(TOPICS)}, or a command."),
    ],
) -> None:
    """Explain times, filters, templates, exit codes, or a command."""
    if topic not in TOPICS:
        raise UsageMistake(
            f"There is no command and no topic {topic!r}. Topics are {', '.join(TOPICS)}."
        )
    sys.stdout.write(TOPICS[topic])
