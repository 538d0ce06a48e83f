"""Files that are there whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from lykke_cli.application.errors import OutputFailed
from lykke_cli.infrastructure.files.private_file import open_private

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
    try:
        if not _is_ours(target, mark):
            raise OutputFailed(
                f"Cannot write {path}: it is there, and not of lykke's making. Remove it, or give "
                "another name."
            )
        replace_file(target, data)
    except OSError as error:
        raise OutputFailed(f"Cannot write {path}: {error.strerror}.") from error


def replace_file(
    path: Path, data: bytes, *, is_private: bool = False, is_durable: bool = True
) -> None:
    """Make `data` the content of `path` at once; what was there stays until then.

    A private file is readable by its owner only. A durable one survives a power failure: it is
    waited for until it is on the disk. Raises OSError, and leaves nothing behind.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed
        descriptor = (
            open_private(temporary, flags) if is_private else os.open(temporary, flags, 0o666)
        )
        with open(descriptor, "wb") as file:
            file.write(data)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _is_ours(target: Path, mark: bytes) -> bool:
    try:
        with target.open("rb") as file:
            start = file.read(MARK_WITHIN)
    except FileNotFoundError:
        return True
    return not start or mark in start
