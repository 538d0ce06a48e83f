"""A real shell, at a terminal of its own."""

import os
import pty
import select
import signal
import termios
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

DEADLINE = 20.0  # seconds


class Shell:
    """A shell and its jobs, which are killed at the end of the block, whatever happened."""

    def __init__(self, command: list[str], env: Mapping[str, str]) -> None:
        self.shown = b""
        self.screen = b""  # of that, what came since something was typed
        self._pid, self._terminal = pty.fork()
        if not self._pid:
            os.execvpe(command[0], command, env)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        others = [int(each.name) for each in Path("/proc").glob("[0-9]*")]
        for pid in [self._pid, *others]:  # a job in the background outlives its shell
            with suppress(ProcessLookupError):
                if os.getsid(pid) == self._pid:
                    os.kill(pid, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._pid, 0)

    def type(self, text: str) -> None:
        self.screen = b""
        os.write(self._terminal, text.encode())

    def wait_for(self, text: str) -> None:
        """Wait until `text` came since something was typed."""
        end = time.monotonic() + DEADLINE
        while text.encode() not in self.screen:
            ready, _, _ = select.select([self._terminal], [], [], max(0, end - time.monotonic()))
            assert ready, (text, self.screen)
            more = os.read(self._terminal, 65_536)
            self.shown, self.screen = self.shown + more, self.screen + more

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._terminal)[3] & termios.ECHO)
