"""stdin, stdout and stderr, which may be closed, full, non-blocking, or read by nobody.

Data must reach stdout or its failure be told; what cannot be said on stderr stops nothing. No
descriptor is made non-blocking: that would hold for every process that shares it.
"""

import io
import os
import select
import stat
import sys
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from lykke_cli.application.errors import OutputFailed
from lykke_cli.cli.output.sanitize import visible

if TYPE_CHECKING:
    import asyncio

    from _typeshed import ReadableBuffer

MAX_UNSAID = 1 << 20  # bytes kept for a stderr that takes nothing; what comes after is dropped
LAST_WORDS = 1.0  # seconds that such a stderr is given at the end


class OutputClosed(Exception):
    """Whoever read our output has closed it: there is nothing left to do."""


def install() -> None:
    """Put streams in the place of the process's own that behave the same whatever they lead to.

    One that was closed at the start leads to nowhere, and so does its descriptor: the next file
    that is opened would get its number, and what children and libraries write there.
    """
    closed = {name: _nowhere() for name in ("stdin", "stdout", "stderr") if _is_closed(name)}
    if "stdin" in closed:
        sys.stdin = open(closed["stdin"])
    stdout = _Stdout(closed.get("stdout", 1), "wb", closefd=False)
    stderr = _Stderr(closed.get("stderr", 2), "wb", closefd=False)
    sys.stdout = text_over(stdout, sys.stdout)
    sys.stderr = text_over(stderr, sys.stderr)


def finish() -> None:
    """Before the process ends: give what stderr has not taken so far another moment."""
    if (stderr := _our_stderr()) is not None:
        stderr.drain(LAST_WORDS)


def say(*lines: str) -> None:
    """Each of them on stderr, on a line of its own; what is foreign in it does no harm there."""
    for line in lines:
        sys.stderr.write(f"lykke: {visible(line)}\n")
    sys.stderr.flush()


async def until_said() -> None:
    """Wait until stderr has taken what was written to it, however long that lasts."""
    if (stderr := _our_stderr()) is not None:
        await stderr.until_said()


def open_anew(descriptor: int) -> int | None:
    """A non-blocking description of the same pipe or terminal; None where there can be none.

    Only Linux has it: elsewhere such a path duplicates the descriptor, description and all.
    """
    if sys.platform != "linux":
        return None
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
    with suppress(OSError):
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor):
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    return None


def write_some(descriptor: int, data: "ReadableBuffer") -> int:
    """Write as many bytes as are taken at once, and return their number; 0 where it would block."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0


def write_all(descriptor: int, data: memoryview) -> None:
    """Write all of it, and block until it is written, also where the descriptor is non-blocking."""
    while data:
        if (written := write_some(descriptor, data)) == 0:
            wait_until_writable(descriptor)
        data = data[written:]


def wait_until_writable(descriptor: int, seconds: float | None = None) -> None:
    """Return also when the other side has gone; at once where nobody can ask (Windows)."""
    if hasattr(select, "poll"):  # unlike select(), it takes any number of descriptor
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        poll.poll(None if seconds is None else seconds * 1000)


def failure(error: OSError) -> Exception:
    """Return what to raise for an `error` that came from writing the output."""
    if isinstance(error, BrokenPipeError | ConnectionResetError):
        return OutputClosed()
    return OutputFailed(f"Cannot write the output: {error.strerror}.")


class _Stdout(io.FileIO):
    """Blocks until everything is written; raises OutputClosed or OutputFailed, once."""

    _has_failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        view = memoryview(data)
        if not self._has_failed:
            try:
                write_all(self.fileno(), view)
            except OSError as error:
                self._has_failed = True  # what is left in buffers must not complain at exit
                raise failure(error) from error
        return len(view)


class _Stderr(io.FileIO):
    """Holds nothing up and never fails; what is not taken at once is offered again.

    While an event loop runs, as soon as it can be taken; else with what is written next.
    """

    def __init__(self, descriptor: int, mode: str, closefd: bool) -> None:
        super().__init__(descriptor, mode, closefd)
        anew = open_anew(descriptor)
        self._descriptor = descriptor if anew is None else anew
        self._unsaid = bytearray()
        self._waiting: list[asyncio.Future[None]] = []

    def write(self, data: "ReadableBuffer", /) -> int:
        view = memoryview(data)
        if len(self._unsaid) < MAX_UNSAID:
            self._unsaid += view
        self._offer()
        if self._unsaid:
            self._watch()
        return len(view)

    def drain(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._unsaid and (left := end - time.monotonic()) > 0:
            wait_until_writable(self._descriptor, left)
            self._offer()

    async def until_said(self) -> None:
        if self._unsaid and (loop := self._watch()) is not None:
            self._waiting.append(loop.create_future())
            await self._waiting[-1]

    def _watch(self) -> "asyncio.AbstractEventLoop | None":
        """Offer it when it can be taken; None where there is no loop that tells."""
        import asyncio  # only who is held up pays for it

        try:
            loop = asyncio.get_running_loop()
            loop.add_writer(self._descriptor, self._offer_again, loop)
        except (RuntimeError, NotImplementedError, OSError):
            return None
        return loop

    def _offer_again(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._offer()
        if self._unsaid:
            return
        loop.remove_writer(self._descriptor)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _offer(self) -> None:
        try:
            while self._unsaid and (taken := write_some(self._descriptor, self._unsaid)):
                del self._unsaid[:taken]
        except OSError:
            self._unsaid.clear()


def _our_stderr() -> _Stderr | None:
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Stderr) else None


def is_read_by_nobody(descriptor: int) -> bool:
    """Whether it is a pipe or a socket whose other end was closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    gone = select.POLLERR | select.POLLHUP
    return any(events & gone for _, events in poll.poll(0))


def _is_closed(name: str) -> bool:
    return getattr(sys, name) is None


def _nowhere() -> int:
    descriptor = os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    os.set_inheritable(descriptor, True)
    return descriptor


def text_over(raw: io.RawIOBase, like: IO[str] | None) -> io.TextIOWrapper:
    """Text into `raw`, encoded and buffered by lines as `like` is."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(like, "encoding", "utf-8"),
        errors=getattr(like, "errors", "backslashreplace"),
        line_buffering=getattr(like, "line_buffering", False),
    )
