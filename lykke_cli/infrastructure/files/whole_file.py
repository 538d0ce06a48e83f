"""Files that are there whole or not at all."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from lykke_cli.application.errors import OutputFailed

MARK_WITHIN = 4096  # bytes from the start of a file


def write_whole(path: Path, data: bytes, *, mark: bytes) -> None:
    """Make `data` the content of `path`, at once; what was there stays until then.

    `mark` stands near the start of all that is written so: a file without it is somebody else's.
    Raises OutputFailed, also where something other than a file of ours has this name.
    """
    target = path.resolve()  # a link stays a link
    is_device = path.absolute().is_relative_to("/dev")  # /dev/stdout may lead to a file
    if is_device or (target.exists() and not target.is_file()):
        raise OutputFailed(f"Cannot write {path}: it is there and not a file.")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        if not _is_ours(target, mark):
            raise OutputFailed(
                f"Cannot write {path}: it is there, and not a picture that lykke drew. Remove it, "
                "or give another name."
            )
        with open(os.open(temporary, flags, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputFailed(f"Cannot write {path}: {error.strerror}.") from error


def _is_ours(target: Path, mark: bytes) -> bool:
    try:
        with target.open("rb") as file:
            start = file.read(MARK_WITHIN)
    except FileNotFoundError:
        return True
    return not start or mark in start
