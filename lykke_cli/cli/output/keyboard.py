"""A terminal's keys, one by one, while it is this process's to read from.

A shell may take the terminal away at any time (Ctrl-Z, bg, fg). A process in the background that
reads from it, or changes its modes, is stopped by the system, or spoils what the one in the
foreground does: so both are done in the foreground only.
"""

import asyncio
import os
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

_AT_ONCE = 1_024  # bytes
_LOCAL, _CHARACTERS = 3, 6  # where tcgetattr has the local modes, and the control characters


class Keyboard:
    """In its block `heard` is given what is typed, on the event loop.

    The terminal is as it was before after the block, when the process is stopped (Ctrl-Z), and when
    it is killed by Ctrl-\\. `leaving` is called before it is stopped.
    """

    def __init__(
        self,
        descriptor: int,
        heard: Callable[[bytes], None],
        leaving: Callable[[], None] = lambda: None,
    ) -> None:
        self._descriptor = descriptor
        self._heard = heard
        self._leaving = leaving
        self._loop = asyncio.get_running_loop()
        self._before: list[Any] | None = None  # the modes that are the shell's
        self.is_listening = False
        self._quit_before: Any = None

    def __enter__(self) -> Self:
        self._quit_before = signal.signal(signal.SIGQUIT, self._quit)
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            self._loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._loop.add_signal_handler(signal.SIGCONT, self._continue)
        self.listen()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._give_back()
        self._loop.remove_signal_handler(signal.SIGTSTP)
        self._loop.remove_signal_handler(signal.SIGCONT)
        signal.signal(signal.SIGQUIT, self._quit_before)

    def listen(self) -> None:
        """Begin to, unless the terminal is another process's; to be called from time to time."""
        if self.is_listening or not self.is_in_foreground:
            return
        try:
            modes = termios.tcgetattr(self._descriptor)
            if self._before is None or modes[_LOCAL] & termios.ICANON:
                self._before = modes
            termios.tcsetattr(self._descriptor, termios.TCSANOW, _one_by_one(modes))
            self._loop.add_reader(self._descriptor, self._read)
        except (termios.error, OSError, NotImplementedError):  # hung up; or no loop's to watch
            self._restore()
        else:
            self.is_listening = True

    def _read(self) -> None:
        data = b""
        if self.is_in_foreground:
            with suppress(OSError):
                data = os.read(self._descriptor, _AT_ONCE)
        if data:
            self._heard(data)
        else:  # it is another's now, or there is no terminal any more
            self._stop_listening()

    def _stop(self) -> None:
        """Be stopped as if this were not here, and go on when the shell says so."""
        self._leaving()
        self._give_back()
        self._loop.remove_signal_handler(signal.SIGTSTP)
        signal.raise_signal(signal.SIGTSTP)
        self._loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self.listen()

    def _continue(self) -> None:
        """After SIGSTOP, of which nobody hears, the shell may have changed the modes."""
        self._stop_listening()
        self.listen()

    def _quit(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    def _give_back(self) -> None:
        self._stop_listening()
        self._restore()

    def _stop_listening(self) -> None:
        if self.is_listening:
            self.is_listening = False
            self._loop.remove_reader(self._descriptor)

    def _restore(self) -> None:
        if self._before is not None and self.is_in_foreground:
            with suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._before)

    @property
    def is_in_foreground(self) -> bool:
        """Whether the terminal is ours to read from, and not another process's."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:  # it controls no processes of ours: nobody else reads from it
            return True


def _one_by_one(modes: list[Any]) -> list[Any]:
    """The modes in which each key comes at once and is not shown; reading never waits."""
    local = modes[_LOCAL] & ~(termios.ICANON | termios.ECHO)
    characters = list(modes[_CHARACTERS])
    characters[termios.VMIN], characters[termios.VTIME] = 0, 0
    return [*modes[:_LOCAL], local, *modes[_LOCAL + 1 : _CHARACTERS], characters]
