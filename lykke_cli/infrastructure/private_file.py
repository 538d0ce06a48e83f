"""Files of the state folder: for their owner alone, and never somewhere else by a symbolic link."""

import os
from pathlib import Path

_IS_POSIX = os.name == "posix"


def make_private_folder(folder: Path) -> None:
    """Make it, and what is missing above it, with mode 700; raises OSError.

    One that a symbolic link stands for is not used, as it may lead anywhere.
    """
    for path in [*reversed(folder.parents), folder]:
        if not path.exists():
            path.mkdir(exist_ok=True)
            path.chmod(0o700)  # whatever the umask
    if folder.is_symlink():
        raise NotADirectoryError(None, "it is a symbolic link", str(folder))


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file with mode 600, whatever the umask; never through a symbolic link."""
    descriptor = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
    if _IS_POSIX and flags & os.O_CREAT:
        try:
            os.fchmod(descriptor, 0o600)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor
