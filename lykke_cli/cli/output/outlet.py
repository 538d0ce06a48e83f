"""Writing to stdout while the event loop goes on, however slow the reader is."""

import asyncio
import os
import select
import stat
import sys
import threading
import weakref

from lykke_cli.cli.output.daemon_thread import in_daemon_thread
from lykke_cli.cli.output.standard_streams import (
    OutputClosed,
    failure,
    open_anew,
    wait_until_writable,
    write_all,
    write_some,
)

THREAD = "lykke-output"
AT_ONCE = getattr(select, "PIPE_BUF", 512)
"""Bytes that whatever is writable takes without blocking: so many at a time are certain."""
_END_WAIT = 1.0  # seconds for those that were just being written when a write is given up


class Outlet:
    """Writes to a descriptor and leaves the event loop free while its reader takes nothing.

    A pipe or a terminal is opened anew, non-blocking: the new description is ours alone. (One that
    no other process has may be made so by its owner, who is to be the only one to close it.) Where
    that cannot be done (a socket, a terminal of another user, no /proc) what is written is
    written in a thread. A file takes everything at once, through the descriptor itself, whose
    position and O_APPEND are the caller's.
    """

    def __init__(self, descriptor: int) -> None:
        """Raises OSError where there is no such descriptor."""
        is_own = _is_own(descriptor)
        anew = None if is_own else open_anew(descriptor)
        self._descriptor = descriptor if anew is None else anew
        if anew is not None:
            weakref.finalize(self, os.close, anew)
        self._is_ours = is_own or anew is not None
        self._never_blocks = self._is_ours or _is_file(descriptor)
        self._has_ended = False
        self._writing = threading.Lock()
        self.sent = 0
        """How many bytes of the last write the operating system took; no more after it raised."""

    async def write(self, data: bytes) -> None:
        """Write all of `data`; only one may write at a time.

        Raises OutputClosed and OutputFailed. After that, or when it was cancelled in the middle,
        the next one raises OutputClosed.
        """
        self.sent = 0
        if self._has_ended:
            raise OutputClosed
        try:
            if self._never_blocks:
                self.sent = write_some(self._descriptor, data)
            if self.sent < len(data):
                await self._write_rest(memoryview(data)[self.sent :])
        except OSError as error:
            self._end()
            raise failure(error) from error
        except BaseException:
            self._end()
            raise

    async def _write_rest(self, rest: memoryview) -> None:
        if self._is_ours:
            while rest:
                await self._until_writable()
                written = write_some(self._descriptor, rest)
                self.sent += written
                rest = rest[written:]
        elif self._never_blocks:
            write_all(self._descriptor, rest)
        else:
            await in_daemon_thread(lambda: self._write_blocking(rest), THREAD)

    def _write_blocking(self, rest: memoryview) -> None:
        """In a thread, and only a little each time: nobody can ask how far a longer write got."""
        while rest:
            wait_until_writable(self._descriptor)
            with self._writing:
                if self._has_ended:
                    return
                written = write_some(self._descriptor, rest[:AT_ONCE])
                self.sent += written
            rest = rest[written:]

    def _end(self) -> None:
        """Write nothing from now on, also in a thread that is still waiting."""
        is_ours = self._writing.acquire(timeout=_END_WAIT)
        self._has_ended = True
        if is_ours:
            self._writing.release()

    async def _until_writable(self) -> None:
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(self._descriptor, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(self._descriptor)


def _is_own(descriptor: int) -> bool:
    """True for what no other process has and does not block."""
    if sys.platform == "win32":
        return False
    return not (os.get_inheritable(descriptor) or os.get_blocking(descriptor))


def _is_file(descriptor: int) -> bool:
    """True for what takes everything at once, such as a file or /dev/null."""
    mode = os.fstat(descriptor).st_mode
    is_device = stat.S_ISCHR(mode) and not os.isatty(descriptor)
    return stat.S_ISREG(mode) or stat.S_ISBLK(mode) or is_device
