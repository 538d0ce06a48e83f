"""Colours that can be read on white and on black alike.

Of the 256 of most terminals these have a middling lightness. Where there are only eight, the
terminal's own theme decides how they look.
"""

import zlib
from typing import NamedTuple


class Color(NamedTuple):
    """Its number among the 256, and the nearest of the first eight."""

    number: int
    basic: int

    def code(self, *, is_fine: bool) -> str:
        """What stands in the escape sequence; `is_fine` where there are 256."""
        return f"38;5;{self.number}" if is_fine else f"3{self.basic}"


GREEN, AMBER, RED = Color(28, 2), Color(130, 3), Color(160, 1)
TEAL, BLUE = Color(31, 6), Color(62, 4)
_OTHERS = (
    *(Color(98, 5), Color(30, 6), Color(133, 5), Color(65, 2), Color(168, 5), Color(68, 4)),
    *(Color(94, 3), Color(127, 5), Color(25, 4), Color(100, 3)),
)
DIM, BOLD, PLAIN = "2", "1", ""


def color_of(name: str) -> Color:
    """One of the colours that mean nothing, for one name the same in every run."""
    return _OTHERS[zlib.crc32(name.encode("utf-8", "replace")) % len(_OTHERS)]


def painted(text: str, code: str) -> str:
    """`text` in a colour, or DIM, BOLD or PLAIN."""
    return f"\x1b[{code}m{text}\x1b[0m" if text and code else text
