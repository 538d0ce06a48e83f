"""Files of the state folder: for their owner alone, and never somewhere else by a symbolic link."""

import errno
import os
from pathlib import Path

_IS_POSIX = os.name == "posix"
_NO_HOME = "This user has no home folder: set XDG_STATE_HOME to a folder that it may write in"


def private_state() -> Path:
    """The user's state folder; raises FileNotFoundError where nothing says which it is."""
    import platformdirs

    try:
        return Path(platformdirs.user_state_dir("lykke", appauthor=False))
    except RuntimeError:  # an unknown user without HOME
        raise FileNotFoundError(errno.ENOENT, _NO_HOME) from None


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


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process; False when another one holds it.

    Where a file cannot be locked (Windows, some network file systems) it counts as locked.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        return error.errno in (errno.ENOLCK, errno.EOPNOTSUPP)
    return True
