"""A line at the foot of the terminal that tells what is waited for, and what stands above it.

Another program's output is shown above it, each line behind a mark, so that nobody takes it for
ours. All of it goes to stderr, and only where that may be drawn on.
"""

import sys
from contextlib import suppress

from lykke_cli.cli.output.palette import DIM, painted
from lykke_cli.cli.output.standard_streams import write_all
from lykke_cli.cli.output.terminal import CLEAR_LINE, Terminal

MARK = "│ "


class Countdown:
    """Draws nothing where `quiet`, or where the terminal must not be drawn on."""

    def __init__(self, terminal: Terminal, *, quiet: bool) -> None:
        self._terminal = terminal
        self._quiet = quiet
        self._is_drawn = False
        self._is_mid_line = False  # of the other program's output

    @property
    def is_seen(self) -> bool:
        """Whether there is a terminal to draw on."""
        return self._terminal.may_draw and not self._quiet

    @property
    def columns(self) -> int:
        """How wide another program's lines may be."""
        return max(1, self._terminal.err.width - len(MARK))

    def show(self, text: str) -> None:
        """Draw the line anew; while a line of the other program is not complete, it has the foot.

        What is shown must be free of control characters.
        """
        if self.is_seen and not self._is_mid_line:
            width = self._terminal.err.width - 1
            text = text[:width]
            self._write(
                CLEAR_LINE + (painted(text, DIM) if self._terminal.stderr_in_color else text)
            )
            self._is_drawn = True

    def clear(self) -> None:
        """Give the foot of the terminal free for something else."""
        if self._is_drawn or self._is_mid_line:
            self._write("\n" if self._is_mid_line else CLEAR_LINE)
            self._is_drawn = self._is_mid_line = False

    def relay(self, output: bytes) -> None:
        """Show what the other program has written, as it is but for the mark.

        It waits until the terminal has taken all of it: what a test prints must not be lost.
        """
        if self._is_drawn:
            self.clear()
        mark = (painted(MARK, DIM) if self._terminal.stderr_in_color else MARK).encode()
        marked = output.removesuffix(b"\n").replace(b"\n", b"\n" + mark)
        shown = (b"" if self._is_mid_line else mark) + marked
        self._is_mid_line = not output.endswith(b"\n")
        sys.stderr.flush()
        with suppress(OSError):
            write_all(sys.stderr.fileno(), memoryview(shown + b"\n" * (not self._is_mid_line)))

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
