"""A reader's process, whose output is read, left unread, or read slowly."""

import atexit
import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import forked
from tests.forked import ForkedProcess
from tests.programs import program

PAGE = 4096  # bytes: the smallest pipe
SLOW_READ = 2048  # bytes at a time, of a slow output
SLOW_PAUSE = 0.04  # seconds between two of them
POLL = 0.05  # seconds


def fork_readers_of(code: Path) -> None:
    """From now on readers are of this checkout, whatever its own tests look like."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, forked.__file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": str(code)},
            start_new_session=True,
        )
    atexit.register(process.wait, 10)
    atexit.register(ours.close)
    forked._connection = ours


class ReaderProcess:
    """`lykke` with its output in pipes; every line is kept with the moment it came."""

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        *,
        narrow: bool,
        stalled: bool,
        clock: Path | None = None,
        on_uvloop: bool = False,
    ) -> None:
        self.lines: list[tuple[float, bytes]] = []
        self._half = b""
        self._err: list[bytes] = []
        self._flowing = threading.Event()
        self._slowly = False
        if not stalled:
            self._flowing.set()
        self.spawned = time.monotonic()
        self._said_at: dict[str, float] = {}
        (self._out, out), (self._err_fd, err) = os.pipe(), os.pipe()
        if narrow and hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, PAGE)
        self.process: ForkedProcess | subprocess.Popen[bytes]
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            if clock is None and not on_uvloop:
                self.process = ForkedProcess(words, env, nothing, out, err)
            else:
                start = (
                    program("lykke_on_uvloop")
                    if clock is None
                    else [*program("lykke_by_another_clock"), str(clock)]
                )
                self.process = subprocess.Popen(
                    [*start, *words],
                    stdin=nothing,
                    stdout=out,
                    stderr=err,
                    env=dict(env),
                    start_new_session=True,
                )
        finally:
            for descriptor in (nothing, out, err):
                os.close(descriptor)
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._read_out, self._read_err)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def stderr(self) -> str:
        return b"".join(self._err).decode("utf-8", "replace")

    def said_at(self, text: str) -> float | None:
        """When stderr first had `text`."""
        if text not in self._said_at and text in self.stderr:
            self._said_at[text] = time.monotonic()
        return self._said_at.get(text)

    @property
    def status(self) -> int | None:
        return self.process.poll()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self, *, slowly: bool = False) -> None:
        self._slowly = slowly
        self._flowing.set()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within so many seconds; then all it wrote has been read."""
        try:
            self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        self.flow()
        for thread in self._threads:
            thread.join(20)
        return True

    @property
    def worked(self) -> float:
        """Seconds that it has used a processor; 0 where that cannot be told."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGKILL)
            self.process.wait(20)
        self.wait(0)
        for descriptor in (self._out, self._err_fd):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _read_out(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while True:
                self._flowing.wait()
                if not select.select([self._out], [], [], POLL)[0]:
                    continue
                if not self._flowing.is_set():
                    continue
                size = SLOW_READ if self._slowly else 1 << 18
                chunk = os.read(self._out, size)
                if not chunk:
                    return
                now = time.monotonic()
                *lines, self._half = (self._half + chunk).split(b"\n")
                self.lines += [(now, line) for line in lines]
                if self._slowly:
                    time.sleep(SLOW_PAUSE)

    def _read_err(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._err_fd, 1 << 16):
                self._err.append(chunk)
