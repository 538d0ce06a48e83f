"""How wide each column of the table is, decided from the terminal's width alone.

A wider terminal never shows less: no column gets narrower or goes away as the width grows. The
details get whatever the other columns do not need, and from `ENOUGH` on every second cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

COLUMNS = ("time", "age", "id", "user", "activity", "entity", "from", "details")
GAP = 1  # cells between columns
SHORT_ID = 8
FULL_ID = 36
FULL_ENTITY = 46  # a type and a full id
EMAIL = 20  # of most addresses enough to tell whose they are
WITH_MILLISECONDS = 12
ENOUGH = 60  # cells of details; from then on other columns get some air too

_NEEDED = {
    "time": 8,
    "age": 8,
    "id": SHORT_ID,
    "user": SHORT_ID,
    "activity": 16,
    "entity": SHORT_ID,
    "from": 1,
    "details": 12,
}
_LEAST = {"activity": 8, "details": 8}  # with less they are not worth their place
_KEY_NEEDED, _KEY_AIR = 16, 40  # of a column that is a key of any object
_AIR = (
    ("time", WITH_MILLISECONDS),
    ("activity", 20),
    ("user", EMAIL),
    ("entity", 16),
    ("id", FULL_ID),
    ("entity", FULL_ENTITY),
    ("user", FULL_ID),
)


class Column(NamedTuple):
    name: str
    width: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns for one width of the terminal, from left to right."""

    width: int
    columns: tuple[Column, ...]

    def width_of(self, name: str) -> int:
        """A column's cells; 0 where it is not shown."""
        return next((column.width for column in self.columns if column.name == name), 0)


def layout_for(width: int, *, show_user: bool = False, relative: bool = False) -> Layout:
    """The table's own columns, as many of them as fit into `width` cells."""
    moment, user = "age" if relative else "time", ["user"] if show_user else []
    shown = [moment, "from", *user, "activity", "entity", "details"]
    return layout_of(shown, width, by_worth=[moment, "activity", "details", *user, "from"])


def layout_of(names: Sequence[str], width: int, *, by_worth: Sequence[str] = ()) -> Layout:
    """These columns in this order, as many of them as fit; those `by_worth` come first."""
    widths: dict[str, int] = {}
    left = width
    for name in dict.fromkeys([*by_worth, *names]):
        needed = _NEEDED.get(name, _KEY_NEEDED)
        room = left - (GAP if widths else 0)
        if widths and room < _LEAST.get(name, needed):
            break
        widths[name] = min(needed, room)
        left = room - widths[name]
    else:
        _spread(widths, left)
    return Layout(width, tuple(Column(name, widths[name]) for name in names if name in widths))


def _spread(widths: dict[str, int], left: int) -> None:
    """Give what all columns leave to the details, or in part to the others as air."""
    air = left
    if "details" in widths:
        air = max(0, widths["details"] + left - ENOUGH) // 2
    keys = [(name, _KEY_AIR) for name in widths if name not in _NEEDED]
    for name, most in (*_AIR, *keys):
        if name in widths:
            more = min(air, max(0, most - widths[name]))
            widths[name] += more
            air, left = air - more, left - more
    if "details" in widths:
        widths["details"] += left
