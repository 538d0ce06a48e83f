"""Several processes that serve one port; one that dies is followed by another: `Workers`.

(uvicorn's own supervisor takes no Server but uvicorn's.)
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any

from lykke_cli.application.backoff import Backoff
from lykke_cli.web.server import SHORT_DRAIN

SPAWN = multiprocessing.get_context("spawn")
"""What workers are made with: nothing of the parent but what it gives them."""
TICK = 0.2  # seconds until a signal is heeded
OVERTIME = 10.0  # seconds beyond the drain, after which a worker is killed
_IS_POSIX = os.name == "posix"
LONGEST_PAUSE = 30.0  # seconds before a worker that does not start is tried again

Work = Callable[["Parent", int], None]
"""What a worker does, given its place; it must be a function of a module, or a partial of one."""


class Parent:
    """The process that made this one, as a worker sees it."""

    def __init__(self, control: Connection) -> None:
        self._control = control

    def ready(self) -> None:
        """This worker lets clients in."""
        self._say(None)

    def failed(self, error: Exception) -> None:
        """This worker could not begin, or go on."""
        self._say(error)

    def watch(self, stop: Callable[[float | None], object]) -> None:
        """Call `stop`, in a thread, when the parent says so, or with None when it is gone."""

        def listen() -> None:
            try:
                drain = self._control.recv()
            except (EOFError, OSError):
                drain = None
            with suppress(RuntimeError):  # its loop has ended by itself
                stop(drain)

        threading.Thread(target=listen, daemon=True).start()

    def _say(self, word: Exception | None) -> None:
        with suppress(OSError):  # it is gone
            self._control.send(word)


@dataclass
class _Place:
    """One worker after another."""

    number: int
    backoff: Backoff = field(default_factory=lambda: Backoff(cap=LONGEST_PAUSE))
    process: SpawnProcess | None = None
    control: Connection | None = None
    start_at: float = 0.0
    failure: Exception | None = None
    was_ready: bool = False
    has_died: bool = False

    def hear(self) -> None:
        """Take in what its worker says."""
        while self.control is not None:
            try:
                if not self.control.poll():
                    return
                word = self.control.recv()
            except (EOFError, OSError):
                self.control.close()
                self.control = None
                return
            if word is None:
                self.was_ready = True
                self.backoff.reset()
            else:
                self.failure = word


class Workers:
    """Runs `count` processes of `work` until a signal comes, as the Server within each heeds it.

    `on_ready` is called once they have begun, `on_stop` with the seconds of the drain when they are
    to end, `tell` with a line when one died. When this process is gone, however it ended, they
    drain and end.
    """

    def __init__(
        self,
        work: Work,
        count: int,
        *,
        drain: float,
        on_ready: Callable[[], None],
        on_stop: Callable[[float], None],
        tell: Callable[[str], None],
    ) -> None:
        self.is_interrupted = False
        """Whether it was Ctrl-C that ended it."""
        self._work, self._drain = work, drain
        self._on_ready: Callable[[], None] | None = on_ready
        self._on_stop, self._tell = on_stop, tell
        self._places = [_Place(number) for number in range(count)]
        self._signals: list[int] = []
        self._kill_at: float | None = None

    def run(self) -> None:
        """Returns when all have ended; raises what the first could not begin for."""
        with self._heeding_signals():
            try:
                self._keep_running()
            finally:
                for place in self._places:
                    if place.process is not None:
                        place.process.kill()
                        place.process.join()

    def _keep_running(self) -> None:
        while True:
            for number in self._signals[:]:
                self._signals.remove(number)
                self._stop(number)
            for place in self._places:
                place.hear()
                self._bury(place)
            running = [place for place in self._places if place.process is not None]
            if self._kill_at is None:
                self._fill()
            elif not running:
                return
            elif time.monotonic() > self._kill_at:
                for place in running:
                    place.process.kill()  # type: ignore[union-attr]
            self._rest()

    def _fill(self) -> None:
        """Start what is to run: the first worker alone, as it tells of what all would fail for."""
        first, *_ = self._places
        if self._on_ready is not None and all(p.was_ready or p.has_died for p in self._places):
            self._on_ready()
            self._on_ready = None
        for place in self._places:
            is_due = place.process is None and time.monotonic() >= place.start_at
            if is_due and (place is first or first.was_ready):
                self._start(place)

    def _start(self, place: _Place) -> None:
        place.control, theirs = SPAWN.Pipe()
        place.failure = None
        process = SPAWN.Process(target=_begin, args=(self._work, theirs, place.number))
        resource_tracker.ensure_running()  # which unblocks signals when it is started
        with theirs, _interrupts_blocked():
            process.start()
        place.process = process

    def _bury(self, place: _Place) -> None:
        """See whether its worker has died, and when the next is due."""
        process = place.process
        if process is None or process.is_alive():
            return
        place.hear()
        process.join()
        place.process, place.has_died = None, True
        if self._kill_at is not None:
            return
        reason = str(place.failure or f"it ended with {process.exitcode}").removesuffix(".")
        if not self._places[0].was_ready:
            raise place.failure or RuntimeError(f"the first worker did not begin: {reason}")
        place.start_at = time.monotonic() + place.backoff.next()
        self._tell(f"worker {place.number} (process {process.pid}): {reason}; another begins")

    def _stop(self, number: int) -> None:
        """Let all drain; with Ctrl-C for a short time, and at the second end them."""
        is_again = self._kill_at is not None
        if number == signal.SIGINT:
            self.is_interrupted = True
        if is_again:
            if number == signal.SIGINT:
                self._kill_at = 0.0
            return
        drain = min(self._drain, SHORT_DRAIN) if number == signal.SIGINT else self._drain
        self._kill_at = time.monotonic() + drain + OVERTIME
        self._on_stop(drain)
        for place in self._places:
            if place.control is not None:
                with suppress(OSError):
                    place.control.send(drain)

    def _rest(self) -> None:
        """Wait until a worker says something or dies, for a tick at most."""
        things: list[Any] = []
        for place in self._places:
            things += [place.process.sentinel] if place.process is not None else []
            things += [place.control] if place.control is not None else []
        if things:
            wait(things, TICK)
        else:
            time.sleep(TICK)

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        def heed(number: int, _: FrameType | None) -> None:
            self._signals.append(number)

        numbers = (signal.SIGINT, signal.SIGTERM)
        previous = [(number, signal.signal(number, heed)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in previous:
                signal.signal(number, handler)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A Ctrl-C waits for the end of the block, and in a process that is made in it for longer."""
    if not _IS_POSIX:
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _begin(work: Work, control: Connection, place: int) -> None:
    if _IS_POSIX:
        os.setpgid(0, 0)  # from here on a terminal's Ctrl-C is for the parent alone
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # drops one that came before
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        signal.signal(signal.SIGINT, signal.default_int_handler)
    work(Parent(control), place)
