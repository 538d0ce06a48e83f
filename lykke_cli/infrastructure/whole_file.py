"""Files that are there whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from lykke_cli.application.errors import OutputFailed


def write_whole(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, at once; what was there stays until then.

    Raises OutputFailed, also where something other than a file has this name.
    """
    target = path.resolve()  # a link stays a link
    is_device = path.absolute().is_relative_to("/dev")  # /dev/stdout may lead to a file
    if is_device or (target.exists() and not target.is_file()):
        raise OutputFailed(f"Cannot write {path}: it is there and not a file.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputFailed(f"Cannot write {path}: {error.strerror}.") from error
