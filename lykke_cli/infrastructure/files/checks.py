"""What `lykke doctor` looks at on this machine: the folder in which places are kept."""

import os
import stat
import tempfile
from pathlib import Path

from lykke_cli.application.doctor import Check, Finding, failed, ok, warning
from lykke_cli.infrastructure.files.cursor_file import state_folder


def state_check() -> Check:
    """That the state folder can be written, or made, and read by nobody else."""

    async def run() -> Finding:
        try:
            folder = state_folder()
        except OSError as error:
            return failed("there is no state folder", f"{error.strerror}.")
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if there != folder:
            if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
                return ok(f"{folder} will be made on first use")
            return failed(f"{folder} cannot be made: {there} is not writable", _remedy(there))
        return _written(folder) or _private(folder)

    return Check("state-folder", run)


def _written(folder: Path) -> Finding | None:
    """A failure where a file cannot be made in the folder."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return failed(f"{folder} cannot be written: {error.strerror}", _remedy(folder))


def _private(folder: Path) -> Finding:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077 and os.name == "posix":
        return warning(
            f"{folder} is open to other users of this machine (mode {mode:o})",
            f"chmod 700 {folder}",
        )
    return ok(f"{folder} is writable and private")


def _remedy(folder: Path) -> str:
    return f"Give this user the right to write in {folder}, or set XDG_STATE_HOME to a folder."
