"""Charts of numbers for a terminal, as lines of text; each fits into the width it is given."""

from bisect import bisect_left
from collections.abc import Sequence

from rich.text import Text

from lykke_cli.cli.output.palette import Color

EIGHTHS = " ▁▂▃▄▅▆▇█"
SHADES = "·░▒▓█"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
BAR, AXIS = Color.CYAN.style, "dim"
_GUTTER = 6  # cells: a number, a space, the axis
_DAY = 4  # cells: the day's name and a space
_WIDEST_BAR = 12
_WIDEST_HOUR = 4


def short(number: int) -> str:
    """A number in at most four cells: 9999, 12k, 1.2M."""
    if number < 10_000:
        return str(number)
    value = float(number)
    for unit in "kMGTP":
        value /= 1000
        if value < 999.5 or unit == "P":
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return ""


def columns(values: Sequence[int], labels: Sequence[str], width: int, height: int) -> list[Text]:
    """Upright bars of `height` lines, and under them as many of the `labels` as there is room for.

    Where there are more values than cells, neighbours are added up.
    """
    room = max(1, width - _GUTTER)
    together = -(-len(values) // room)
    sums = [sum(values[n : n + together]) for n in range(0, len(values), together)]
    cell = min(_WIDEST_BAR, room // len(sums))
    gap = 1 if cell > 2 else 0
    most = max(1, *sums)
    heights = [0 if value == 0 else max(1, round(value / most * height * 8)) for value in sums]
    lines = []
    for line in range(height - 1, -1, -1):
        number = short(most) if line == height - 1 else "0" if line == 0 else ""
        bars = "".join(
            EIGHTHS[min(8, max(0, each - line * 8))] * (cell - gap) + " " * gap for each in heights
        )
        lines.append(Text.assemble((f"{number:>4} │", AXIS), (bars.rstrip(" "), BAR)))
    names = _spaced(labels[::together], cell, len(sums) * cell)
    return [*lines, Text.assemble((" " * _GUTTER + names, AXIS))]


def _spaced(labels: Sequence[str], cell: int, room: int) -> str:
    """The labels under their bars, with a gap of two at least; the rest left out."""
    line = ""
    for n, label in enumerate(labels):
        start = n * cell
        if (not line or start >= len(line) + 2) and start + len(label) <= room:
            line = line.ljust(start) + label
    return line


def share(part: int, whole: int, width: int) -> str:
    """A lying bar: `part` of `whole`, which is `width` cells."""
    full, eighths = divmod(round(part / max(1, whole) * width * 8), 8)
    return "█" * full + " ▏▎▍▌▋▊▉"[eighths].strip() or "▏"


def heat_map(days: Sequence[Sequence[int]], width: int) -> list[Text]:
    """Seven lines, one for each day, with a shade for each hour; then what the shades mean."""
    cell = max(1, min(_WIDEST_HOUR, (width - _DAY) // 24))
    step = 1 if cell > 2 else 3 if cell > 1 else 6
    hours = "".join(f"{hour:<{cell * step}}" for hour in range(0, 24, step)).rstrip()
    lines = [Text(" " * _DAY + hours, AXIS)]
    greatest = greatest_of_shades(days)
    for name, day in zip(DAYS, days, strict=True):
        line = Text.assemble((f"{name} ", AXIS))
        for value in day:
            number = shade(value, greatest)
            line.append(SHADES[number] * cell, BAR if number else AXIS)
        lines.append(line)
    meanings = [f"{SHADES[shade(value, greatest)]} to {short(value)}" for value in greatest]
    lines.append(Text(" " * _DAY + "  ".join([f"{SHADES[0]} none", *meanings]), AXIS))
    return lines


def greatest_of_shades(days: Sequence[Sequence[int]]) -> list[int]:
    """The greatest value of each shade, so chosen that each is of about as many hours.

    One hour with very much would else leave all others in the lightest shade.
    """
    values = sorted(value for day in days for value in day if value)
    levels = len(SHADES) - 1
    return sorted(
        {values[-(-len(values) * n // levels) - 1] for n in range(1, levels + 1) if values}
    )


def shade(value: int, greatest: Sequence[int]) -> int:
    """Which of the SHADES is that of a value: 0 for nothing, the last one for the most."""
    if not value:
        return 0
    return len(SHADES) - len(greatest) + bisect_left(greatest, value)
