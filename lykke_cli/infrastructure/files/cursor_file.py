"""A consumer's place on disk: locked while in use, replaced atomically, readable by its owner only.

One file for each (database, channel, user, output, filters): they are different consumers.
Its first line is the state, each further one was added to it. One that is not ended was being
added when the process was killed: it does not count.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from lykke_cli.application.errors import CursorBusy, OutputFailed
from lykke_cli.infrastructure.files.private_file import (
    make_private_folder,
    open_private,
    private_state,
    try_lock,
)
from lykke_cli.infrastructure.files.whole_file import replace_file

VERSION = 2

logger = logging.getLogger(__name__)


def named_place(name: str, database: str) -> "CursorFile":
    """The place that an application gave a name, in this database."""
    return CursorFile(
        {"name": name, "database": database},
        notice=logger.warning,
        remedy="End it first, or give this one another name.",
    )


def state_folder() -> Path:
    """Where places are kept: the user's state folder; raises OSError where there is none."""
    return private_state() / "cursors"


class CursorFile:
    """CursorStoreProtocol in a file of `folder`, named after `key`.

    Used as a context manager it holds the lock; entering raises CursorBusy when another process
    does, with the `remedy`. `notice` is called with a line for the person when a damaged file is
    set aside.
    """

    def __init__(
        self,
        key: dict[str, str],
        *,
        folder: Path | None = None,
        notice: Callable[[str], None] = lambda _: None,
        remedy: str = "End it first, or go without --resume or --to-file.",
    ) -> None:
        name = hashlib.sha256(orjson.dumps(key, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
        try:
            folder = state_folder() if folder is None else folder
        except OSError as error:
            raise OutputFailed(f"Cannot keep a place. {error.strerror}.") from error
        self._key = key
        self._path = folder / f"{name}.json"
        self._notice = notice
        self._remedy = remedy
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            make_private_folder(self._path.parent)
            lock = open(
                open_private(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT), "rb+"
            )
        except OSError as error:
            raise OutputFailed(f"Cannot write in {self._path.parent}: {error.strerror}") from error
        if not try_lock(lock.fileno()):
            holder = lock.read(20).decode("ascii", "replace").strip()
            lock.close()
            raise CursorBusy(
                f"Another lykke (process {holder or 'unknown'}) is using this place.",
                remedy=self._remedy,
            )
        with suppress(OSError):  # on a full disk nobody is told who holds it
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

    def load(self) -> list[dict[str, Any]] | None:
        try:
            with open(open_private(self._path, os.O_RDONLY), "rb") as file:
                first, *added, _ = file.read().split(b"\n")
            state = orjson.loads(first)
            if state["version"] == VERSION and state["key"] == self._key:
                return [dict(state["state"]), *(dict(orjson.loads(line)) for line in added)]
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
        try:
            os.replace(self._path, aside)
        except OSError as error:
            raise OutputFailed(f"Cannot replace {self._path}: {error.strerror}") from error
        self._notice(f"the stored place was damaged; it is kept as {aside}")

    def save(self, state: dict[str, Any]) -> None:
        data = orjson.dumps({"version": VERSION, "key": self._key, "state": state})
        try:
            replace_file(self._path, data + b"\n", is_private=True)
        except OSError as error:
            raise self._failure(error) from error

    def add(self, change: dict[str, Any]) -> None:
        try:
            # A killed process loses nothing of it. A power failure may, as it may of the output.
            with open(open_private(self._path, os.O_WRONLY | os.O_APPEND), "wb") as file:
                file.write(orjson.dumps(change) + b"\n")
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputFailed:
        return OutputFailed(
            f"Cannot save the place in {self._path}: {error.strerror}. Free some space; "
            "nothing is lost: resuming goes on from the last place saved."
        )
