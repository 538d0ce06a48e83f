"""A user's activity, drawn in the terminal."""

from datetime import datetime

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from lykke_cli.application.stats import Activity
from lykke_cli.application.times import age
from lykke_cli.application.wall_clock import EARLIEST, LATEST
from lykke_cli.cli.output.cells import harmless
from lykke_cli.cli.output.palette import color_of_type
from lykke_cli.cli.reports import charts

CHART_HEIGHT = 8  # lines
_WIDE = 80  # columns from which a type's last entry is shown
_WIDEST = 100  # columns from which its age is shown too
_BARE = 40  # columns that a type needs without a bar beside it
_SHARE = 20  # cells of the widest bar beside a type
_HEAD = "bold"


def draw(activity: Activity, console: Console, now: datetime) -> None:
    """Print the report, as wide as the console; ages are those at `now`."""
    width = console.width

    def line(text: Text) -> None:
        console.print(text, no_wrap=True, overflow="ellipsis", crop=True)

    line(Text(activity.title, _HEAD))
    last = activity.summary.last
    line(Text(total(activity) + ("" if last is None else f", the last one {age(last, now)}")))
    if not activity.bars:
        return
    line(Text(period(activity)))
    line(Text(f"\nOver time, one bar for each {activity.bucket}", _HEAD))
    values = [bar.entries for bar in activity.bars]
    for text in charts.columns(values, bar_labels(activity), width, CHART_HEIGHT):
        line(text)
    line(Text("\nBy activity type", _HEAD))
    console.print(_types(activity, width, now))
    line(Text(f"\nBy hour of the week, {activity.time_zone}", _HEAD))
    for text in charts.heat_map(activity.hours, width):
        line(text)


def total(activity: Activity) -> str:
    """How many entries there are."""
    summary = activity.summary
    if not summary.entries:
        return "no entries in this range"
    entries = "1 entry" if summary.entries == 1 else f"{summary.entries:,} entries"
    types = "1 type" if summary.types == 1 else f"{summary.types:,} types"
    return f"{entries} of {types}"


def period(activity: Activity) -> str:
    """The range that is drawn, on the clock of the report."""
    if activity.since is None or activity.until is None:
        return ""
    since, until = (
        _formatted(min(max(moment, EARLIEST), LATEST).astimezone(activity.zone), "%Y-%m-%d %H:%M")
        for moment in (activity.since, activity.until)
    )
    return f"{since} to {until} {activity.time_zone}"


def bar_labels(activity: Activity) -> list[str]:
    """When each bar begins, as exactly as the range needs."""
    starts = [bar.start for bar in activity.bars]
    first, last = starts[0], starts[-1]
    if (activity.bucket or "").endswith(("year", "years")):
        form = "%Y"
    elif (activity.bucket or "").endswith(("month", "months")):
        form = "%Y-%m"
    elif (activity.bucket or "") in ("day", "week"):
        form = "%m-%d" if first.year == last.year else "%Y-%m-%d"
    else:
        form = "%H:%M" if first.date() == last.date() else "%m-%d %H:%M"
    return [_formatted(start, form) for start in starts]


def _formatted(moment: datetime, form: str) -> str:
    return moment.strftime(form.replace("%Y", f"{moment.year:04}"))  # libc pads no years


def _types(activity: Activity, width: int, now: datetime) -> Table:
    bar = min(_SHARE, max(0, width - _BARE))
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=charts.AXIS)
    numbers = max(len("ENTRIES"), len(f"{activity.summary.entries:,}"))
    others = [("ENTRIES", numbers), ("SHARE", len("100.0%")), ("", bar)]
    if width >= _WIDE:
        others.append(("LAST", len("2026-01-31 12:00:00")))
    if width >= _WIDEST:
        others.append(("AGE", len("364d ago")))
    room = width - sum(cells + 2 for _, cells in others) - 2
    table.add_column("TYPE", max_width=max(8, room), no_wrap=True, overflow="ellipsis")
    for title, cells in others:
        justify: JustifyMethod = "right" if title in ("ENTRIES", "SHARE") else "left"
        table.add_column(title, width=cells, justify=justify, no_wrap=True)
    most = activity.types[0].entries
    for each in activity.types:
        color = color_of_type(each.activity_type).style
        name = harmless(each.activity_type)
        name.stylize(color)
        texts = [
            name,
            Text(f"{each.entries:,}"),
            Text(percent(each.entries, activity.summary.entries)),
            Text(charts.share(each.entries, most, bar), color),
            Text(_formatted(each.last.astimezone(activity.zone), "%Y-%m-%d %H:%M:%S")),
            Text(age(each.last, now)),
        ]
        table.add_row(*texts[: len(table.columns)])
    if activity.other_types:
        share = percent(activity.other_entries, activity.summary.entries)
        name_of_rest = Text(f"and {activity.other_types:,} more", charts.AXIS)
        table.add_row(name_of_rest, f"{activity.other_entries:,}", share)
    return table


def percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}"
