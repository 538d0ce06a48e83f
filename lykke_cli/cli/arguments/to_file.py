"""The file that a command appends to, in place of stdout."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.arguments.help_texts import output_option
from lykke_cli.cli.arguments.values import size
from lykke_cli.cli.output.terminal import Output

if TYPE_CHECKING:
    from lykke_cli.infrastructure.files.entry_file import EntryFile

ToFile = Annotated[
    Path | None,
    output_option(
        "--to-file",
        metavar="FILE",
        help="Append NDJSON to FILE; the same command again goes on exactly.",
        dir_okay=False,
    ),
]
Rotate = Annotated[
    str | None,
    output_option(
        "--rotate",
        metavar="SIZE",
        help="Put FILE aside and begin it anew at this size, such as 100M.",
    ),
]
Compress = Annotated[bool, output_option("--compress", help="gzip what was put aside.")]


def require_ndjson(output: Output | None, columns: str | None, template: str | None) -> None:
    """For --to-file; raises UsageMistake where another form was asked for."""
    if output not in (None, Output.NDJSON) or columns or template:
        raise UsageMistake("--to-file writes NDJSON: leave -o, --columns and --template out.")


def entry_file(path: Path | None, rotate: str | None, *, compress: bool) -> "EntryFile | None":
    """The file of --to-file; raises UsageMistake where the other options need it."""
    if path is None:
        if rotate is not None or compress:
            raise UsageMistake("--rotate and --compress go with --to-file.")
        return None
    if compress and rotate is None:
        raise UsageMistake("--compress packs rotated files: give --rotate too.")
    from lykke_cli.infrastructure.files.entry_file import EntryFile

    return EntryFile(path, rotate=None if rotate is None else size(rotate), compress=compress)
