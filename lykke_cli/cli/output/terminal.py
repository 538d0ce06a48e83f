"""Where the program writes: its streams, what they are, how wide, and whether in colour."""

import os
import stat
import sys
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from lykke_cli.cli.output.sanitize import json_for_terminal

if TYPE_CHECKING:  # rich is slow to import; most commands never need a console
    from rich.console import Console

    from lykke_cli.cli.output.outlet import Outlet

TERMINAL_COLUMNS = 80  # when a terminal does not tell its width
PIPE_COLUMNS = 120
CLEAR_LINE = "\r\x1b[2K"
"""Takes away what stands in the line of a terminal."""
_FORCING = ("FORCE_COLOR", "CLICOLOR_FORCE")
_NOT_FORCED = ("", "0", "false")


class ColorChoice(StrEnum):
    """When to colour the output."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Output(StrEnum):
    """The forms in which messages are printed."""

    TABLE = "table"
    NDJSON = "ndjson"
    JSON = "json"
    CSV = "csv"
    RAW = "raw"


class Terminal:
    """The streams data and messages go to. Tests make one over their own streams.

    Whether a stream is a terminal is asked of the stream alone: no environment variable makes a
    pipe into one. `columns` fixes the width; otherwise it is COLUMNS, or what the terminal says.
    """

    def __init__(
        self,
        stdout: BinaryIO,
        stderr: BinaryIO,
        *,
        color: ColorChoice = ColorChoice.AUTO,
        environ: Mapping[str, str] | None = None,
        columns: int | None = None,
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.stdout_is_tty = stdout.isatty()
        self.stderr_is_tty = stderr.isatty()
        self.color = color
        self._environ = os.environ if environ is None else environ
        self._columns = columns
        self._has_buffered = True  # for all that is known
        self._out: Console | None = None
        self._err: Console | None = None

    @classmethod
    def of_process(cls, *, color: ColorChoice = ColorChoice.AUTO) -> "Terminal":
        """The terminal over this process's own streams."""
        return cls(
            cast(BinaryIO, sys.stdout.buffer), cast(BinaryIO, sys.stderr.buffer), color=color
        )

    def write(self, data: bytes) -> None:
        """Write all of `data` to stdout; raises OutputClosed, OutputFailed."""
        self._has_buffered = True
        written = self.stdout.write(data)
        while written < len(data):  # an unbuffered stream may take less
            data = data[written:]
            written = self.stdout.write(data)

    def flush(self) -> None:
        """Send on what stdout has buffered; raises OutputClosed, OutputFailed."""
        self.stdout.flush()
        self._has_buffered = False

    def write_lines(self, lines: bytes) -> None:
        """Write NDJSON to stdout, harmless on a terminal; raises OutputClosed, OutputFailed."""
        self.write(json_for_terminal(lines) if self.stdout_is_tty else lines)
        self.flush()

    def write_json(self, value: bytes) -> None:
        """Write one JSON value to stdout, for a terminal indented and in colour.

        In a pipe it is data, whatever asks for colours. Raises OutputClosed, OutputFailed.
        """
        if self.stdout_is_tty:
            from lykke_cli.cli.output.json_text import indented

            value = indented(value, in_color=self.stdout_in_color)
        self.write(value + b"\n")
        self.flush()

    async def send(self, data: bytes) -> None:
        """Write all of `data` to stdout, and wait until it has left; one may do so at a time.

        A reader that takes nothing holds up the caller, not the event loop. Raises OutputClosed,
        also after it was cancelled in the middle, and OutputFailed.
        """
        if self._has_buffered:
            self.flush()
        if self._outlet is not None:
            await self._outlet.write(data)
        else:
            self.write(data)
            self.flush()

    @property
    def sent(self) -> int:
        """How many bytes of the last `send` have left."""
        return 0 if self._outlet is None else self._outlet.sent

    @cached_property
    def _outlet(self) -> "Outlet | None":
        """None where stdout is no stream of the operating system."""
        from lykke_cli.cli.output.outlet import Outlet

        try:
            return Outlet(self.stdout.fileno())
        except (OSError, ValueError):
            return None

    @property
    def width(self) -> int:
        """The columns of stdout, now: a terminal may have been resized."""
        return self._width_of(self.stdout, is_tty=self.stdout_is_tty)

    @cached_property
    def may_draw(self) -> bool:
        """Whether what is drawn and taken away again may stand on stderr.

        It needs a terminal, and whoever reads a pipe on stdout may write to the same screen.
        """
        return self.stderr_is_tty and (self.stdout_is_tty or _is_file(self.stdout))

    @cached_property
    def is_one_screen(self) -> bool:
        """Whether stdout and stderr are the same terminal."""
        try:
            are_same = os.path.sameopenfile(self.stdout.fileno(), self.stderr.fileno())
        except (OSError, ValueError):
            return False
        return self.stdout_is_tty and are_same

    @property
    def stdout_in_color(self) -> bool:
        return self._in_color(is_tty=self.stdout_is_tty)

    @property
    def stderr_in_color(self) -> bool:
        return self._in_color(is_tty=self.stderr_is_tty)

    @property
    def out(self) -> "Console":
        """The console over stdout, for what is drawn there."""
        if self._out is None:
            self._out = self._console(self.stdout, is_tty=self.stdout_is_tty)
        self._out.width = self.width
        return self._out

    @property
    def err(self) -> "Console":
        """The console over stderr; a message is not wrapped, so that it can be copied."""
        if self._err is None:
            self._err = self._console(self.stderr, is_tty=self.stderr_is_tty, soft_wrap=True)
        self._err.width = self._width_of(self.stderr, is_tty=self.stderr_is_tty)
        return self._err

    def _width_of(self, stream: BinaryIO, *, is_tty: bool) -> int:
        if self._columns is not None:
            return self._columns
        told = self._environ.get("COLUMNS", "")
        if told.isascii() and told.isdigit() and 0 < int(told) <= 10_000:
            return int(told)
        if not is_tty:
            return PIPE_COLUMNS
        try:
            return os.get_terminal_size(stream.fileno()).columns or TERMINAL_COLUMNS
        except (OSError, ValueError):
            return TERMINAL_COLUMNS

    def _in_color(self, *, is_tty: bool) -> bool:
        if self.color is not ColorChoice.AUTO:
            return self.color is ColorChoice.ALWAYS
        if self._environ.get("NO_COLOR"):
            return False
        if any(self._environ.get(name, "") not in _NOT_FORCED for name in _FORCING):
            return True
        return is_tty and self._environ.get("TERM", "").lower() not in ("dumb", "unknown")

    def _console(self, stream: BinaryIO, *, is_tty: bool, soft_wrap: bool = False) -> "Console":
        from rich.console import Console

        in_color = self._in_color(is_tty=is_tty)
        return Console(
            file=cast(IO[str], _TextStream(stream, is_tty=is_tty)),
            force_terminal=is_tty,
            force_jupyter=False,
            color_system="standard" if in_color else None,
            no_color=not in_color,
            soft_wrap=soft_wrap,
            markup=False,
            emoji=False,
            highlight=False,
            _environ=self._environ,
        )


def _is_file(stream: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


class _TextStream:
    """Text into a binary stream that others write to as well, and that is not closed with it."""

    encoding = "utf-8"

    def __init__(self, stream: BinaryIO, *, is_tty: bool) -> None:
        self._stream = stream
        self._is_tty = is_tty

    def write(self, text: str) -> int:
        self._stream.write(text.encode(self.encoding, "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._is_tty

    def fileno(self) -> int:
        return self._stream.fileno()
