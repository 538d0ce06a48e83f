"""A pager between the program and the terminal, for what may be longer than a screen.

Everything that is said meanwhile goes through it, in order; nothing is drawn beside it. Whether it
is there changes nothing else: what would be in colour is, and lines are as wide as the terminal.
"""

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lykke_cli.application.errors import OutputFailed
from lykke_cli.cli.output.standard_streams import OutputClosed, failure, text_over, write_all
from lykke_cli.cli.output.terminal import Terminal

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

DEFAULT = "less"
_SETTINGS = {"LESS": "FX", "LV": "-c"}  # it ends by itself after one screen, and passes colours
_SHELLS = set("|&;<>()$`*?[#~=")  # what only a shell understands


@contextmanager
def paged(*, wanted: bool = True) -> Iterator[None]:
    """Send stdout and stderr through LYKKE_PAGER, PAGER or less, where stdout is a terminal.

    Without a pager that can be started, everything is as without one. When it is left early,
    writing raises OutputClosed.
    """
    terminal = Terminal.of_process()
    command = _command(os.environ) if wanted and terminal.stdout_is_tty else []
    if not command:
        yield
        return
    reading, writing = os.pipe()
    if sys.platform != "win32":
        os.set_blocking(writing, False)  # nobody shares it
    environ = {**_SETTINGS, **os.environ}
    environ["LESS"] = f"-R {environ['LESS']}"  # colours, whatever else the person has set
    try:
        pager = subprocess.Popen(command, stdin=reading, env=environ)
    except OSError:  # it is there and cannot be run
        os.close(writing)
        yield
        return
    finally:
        os.close(reading)
    stdout, stderr, width = sys.stdout, sys.stderr, os.environ.get("COLUMNS")
    ends = _Paged(writing, is_data=True), _Paged(writing, is_data=False)
    os.environ["COLUMNS"] = str(terminal.width)  # a pipe has none
    sys.stdout, sys.stderr = text_over(ends[0], stdout), text_over(ends[1], stderr)
    try:
        yield
        sys.stdout.flush()
    finally:
        for stream, end in zip((sys.stdout, sys.stderr), ends, strict=True):
            with suppress(OutputClosed, OutputFailed):
                stream.flush()
            end.is_over = True
        sys.stdout, sys.stderr = stdout, stderr
        del os.environ["COLUMNS"]
        if width is not None:
            os.environ["COLUMNS"] = width
        _end(pager, writing)


def _command(environ: Mapping[str, str]) -> list[str]:
    """The pager's words, a shell's where it takes one, as with git and man.

    None where none is wanted, or it is not installed.
    """
    told = environ.get("LYKKE_PAGER", environ.get("PAGER", DEFAULT))
    with suppress(ValueError):  # a quotation mark is missing
        words = shlex.split(told)
        program = next((word for word in words if "=" not in word), None)
        if program is None or words == ["cat"]:
            return []
        if shutil.which(os.path.expanduser(os.path.expandvars(program))) is not None:
            return ["sh", "-c", told] if _SHELLS & set(told) else words
    return []


def _end(pager: "subprocess.Popen[bytes]", writing: int) -> None:
    """Wait until the person has read enough: Ctrl-C is the pager's meanwhile."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.close(writing)
        pager.wait()
    finally:
        signal.signal(signal.SIGINT, previous)


class _Paged(io.RawIOBase):
    """Stands for the terminal, where `is_data`; else nothing is drawn on it, and it never fails."""

    def __init__(self, descriptor: int, *, is_data: bool) -> None:
        self._descriptor = descriptor
        self._is_data = is_data
        self.is_over = False
        """Whether nobody reads on; what is left in buffers must not complain."""

    def fileno(self) -> int:
        return self._descriptor if self._is_data else super().fileno()

    def isatty(self) -> bool:
        return self._is_data

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        view = memoryview(data)
        if not self.is_over:
            try:
                write_all(self._descriptor, view)
            except OSError as error:
                self.is_over = True
                if self._is_data:
                    raise failure(error) from error
        return len(view)
