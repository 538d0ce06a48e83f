"""A consumer's place on disk: locked while in use, replaced atomically, readable by its owner only.

One file for each (database, channel, user, output, filters): they are different consumers.
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson
import platformdirs

from lykke_cli.application.errors import CursorBusy, OutputFailed
from lykke_cli.infrastructure.private_file import make_private_folder, open_private

VERSION = 1


def state_folder() -> Path:
    """Where places are kept: the user's state folder."""
    return Path(platformdirs.user_state_dir("lykke", appauthor=False)) / "cursors"


class CursorFile:
    """CursorStoreProtocol in a file of `folder`, named after `key`.

    Used as a context manager it holds the lock; entering raises CursorBusy when another process
    does. `notice` is called with a line for the person when a damaged file is set aside.
    """

    def __init__(
        self,
        key: dict[str, str],
        *,
        folder: Path | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        folder = state_folder() if folder is None else folder
        name = hashlib.sha256(orjson.dumps(key, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
        self._key = key
        self._path = folder / f"{name}.json"
        self._notice = notice
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            make_private_folder(self._path.parent)
            lock = open(
                open_private(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT), "rb+"
            )
        except OSError as error:
            raise OutputFailed(f"Cannot write in {self._path.parent}: {error.strerror}") from error
        if not _try_lock(lock):
            holder = lock.read(20).decode("ascii", "replace").strip()
            lock.close()
            raise CursorBusy(
                f"Another lykke (process {holder or 'unknown'}) is using this place: end it first, "
                "or go without --resume."
            )
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        self._lock = lock
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def load(self) -> dict[str, Any] | None:
        try:
            with open(open_private(self._path, os.O_RDONLY), "rb") as file:
                state = orjson.loads(file.read())
            if state["version"] == VERSION and state["key"] == self._key:
                return dict(state["state"])
            raise ValueError
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            self.set_aside()
            return None
        except OSError as error:
            raise OutputFailed(f"Cannot read {self._path}: {error.strerror}") from error

    def set_aside(self) -> None:
        """Keep what is stored under another name; it is of no use."""
        aside = self._path.with_suffix(".damaged")
        os.replace(self._path, aside)
        self._notice(f"the stored place was damaged; it is kept as {aside}")

    def save(self, state: dict[str, Any]) -> None:
        temporary = self._path.with_suffix(".new")
        data = orjson.dumps({"version": VERSION, "key": self._key, "state": state})
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            with open(open_private(temporary, flags), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise OutputFailed(
                f"Cannot save the place in {self._path}: {error.strerror}. Free some space; "
                "nothing is lost, and a run with --resume goes on from the last place saved."
            ) from error


def _try_lock(file: IO[bytes]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: a file that is open for writing is all the lock there is
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
