"""The sixteen colours of the terminal's own theme, and what they mean here.

A theme's colours can be read on its ground, be it dark or white. Those of the bright ones that are
nearly white in usual themes are not used.
"""

import re
import zlib
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache


class Color(IntEnum):
    """A colour, by its number among the sixteen."""

    RED = 1
    GREEN = 2
    YELLOW = 3
    BLUE = 4
    MAGENTA = 5
    CYAN = 6
    BRIGHT_BLUE = 12
    BRIGHT_MAGENTA = 13

    @property
    def code(self) -> str:
        """What stands in the escape sequence."""
        return str(30 + self.value if self < 8 else 82 + self.value)

    @property
    def style(self) -> str:
        """Its name for rich."""
        return f"color({self.value})"


DIM, BOLD, MARKED, PLAIN = "2", "1", "7", ""
_MEANINGS = (  # in any case; compiled when first needed, not at every start
    ("FAILED|ERROR|DENIED|DELETED", Color.RED),
    ("TASK_?COMPLETED", Color.GREEN),
    ("TASK_?PUNTED", Color.YELLOW),
    ("MESSAGE_?SENT", Color.CYAN),
    ("MESSAGE_?RECEIVED", Color.BLUE),
)
_OTHER_TYPES = (Color.MAGENTA, Color.BRIGHT_BLUE, Color.BRIGHT_MAGENTA, Color.CYAN, Color.BLUE)
_USERS = (*_OTHER_TYPES, Color.GREEN, Color.YELLOW)


@lru_cache(1_000)
def color_of_type(activity_type: str) -> Color:
    """The colour of an activity type: red is for what went wrong or is gone."""
    for pattern, color in _MEANINGS:
        if re.search(pattern, activity_type, re.IGNORECASE):
            return color
    return _one_of(_OTHER_TYPES, activity_type)


class UserColors:
    """A colour for each user: the same in every run, unless another of this run has it already.

    Only when all have been given are there several users of one colour.
    """

    def __init__(self) -> None:
        self._given: dict[str, Color] = {}

    def of(self, user_id: str) -> Color:
        if user_id in self._given:
            return self._given[user_id]
        color = _one_of(_USERS, user_id)
        free = set(_USERS).difference(self._given.values())
        if free:
            color = self._given[user_id] = color if color in free else min(free)
        return color


def _one_of(colors: Sequence[Color], name: str) -> Color:
    return colors[zlib.crc32(name.encode("utf-8", "replace")) % len(colors)]


def painted(text: str, code: str) -> str:
    """`text` in a colour, or DIM, BOLD, MARKED or PLAIN."""
    return f"\x1b[{code}m{text}\x1b[0m" if text and code else text
