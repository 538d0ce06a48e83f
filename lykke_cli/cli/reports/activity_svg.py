"""A user's activity as an SVG picture that fetches nothing, with what is foreign escaped."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from lykke_cli.application.gateways.statistics_protocol import TypeCount
from lykke_cli.application.stats import Activity
from lykke_cli.cli.output.cells import cut, steady
from lykke_cli.cli.output.palette import Color, color_of_type
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.reports import charts
from lykke_cli.cli.reports.activity_report import bar_labels, percent, period, total

_WIDTH, _MARGIN, _LINE = 960, 32, 22  # pixels
_CHART, _LABELS = 160, 290  # pixels: the height of the bars, the width of the types' names
_HOUR, _DAY_WIDTH = 34, 48
_NAME_CELLS = 32
_STYLE = (
    "text{font-family:'DejaVu Sans','Liberation Sans','Noto Sans',Arial,Helvetica,sans-serif;"
    "font-size:13px;fill:#24292f}"
    ".h{font-size:15px;font-weight:bold}.d{fill:#6e7781}.e{text-anchor:end}.b{fill:#0a7ea4}"
)
_FILLS = {  # the terminal's colours, as they are on white
    Color.RED: "#cf222e",
    Color.GREEN: "#1a7f37",
    Color.YELLOW: "#9a6700",
    Color.BLUE: "#0550ae",
    Color.MAGENTA: "#8250df",
    Color.CYAN: "#0a7ea4",
    Color.BRIGHT_BLUE: "#218bff",
    Color.BRIGHT_MAGENTA: "#bf3989",
}

MARK = "drawn by lykke stats"  # a picture of ours may be drawn again


def svg(activity: Activity) -> str:
    """The whole report."""
    body: list[str] = []
    y = _MARGIN + 8
    body.append(_text(_MARGIN, y, f"{activity.title}: {total(activity)}", "h"))
    body.append(_text(_MARGIN, y + _LINE, period(activity), "d"))
    if activity.bars:
        y += 3 * _LINE
        body.append(_text(_MARGIN, y, f"Over time, one bar for each {activity.bucket}", "h"))
        body += _svg_bars(activity, y + 12)
        y += 12 + _CHART + 3 * _LINE
        body.append(_text(_MARGIN, y, "By activity type", "h"))
        body += _svg_types(activity, y + _LINE)
        y += (len(activity.types) + (activity.other_types > 0) + 2) * _LINE
        body.append(_text(_MARGIN, y, f"By hour of the week, {activity.time_zone}", "h"))
        body += _svg_hours(activity.hours, y + _LINE)
        y += 9 * _LINE
    height = y + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" role="img">\n<!-- {MARK} -->\n'
        f"<title>{_escaped(activity.title)}</title>\n<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _svg_bars(activity: Activity, top: int) -> Iterator[str]:
    left, bottom = _MARGIN + 56, top + _CHART
    most = max(bar.entries for bar in activity.bars)
    step = (_WIDTH - _MARGIN - left) / len(activity.bars)
    labels = bar_labels(activity)
    every = -(-len(labels) * (8 * len(labels[0]) + 16) // (_WIDTH - _MARGIN - left))
    yield _text(left - 8, top + 12, f"{most:,}", "d e")
    yield _text(left - 8, bottom, "0", "d e")
    yield f'<path d="M{left} {top}V{bottom}H{_WIDTH - _MARGIN}" fill="none" stroke="#d0d7de"/>'
    for n, (bar, label) in enumerate(zip(activity.bars, labels, strict=True)):
        x, height = left + n * step, bar.entries / max(1, most) * _CHART
        if bar.entries:
            yield _bar(
                x + step * 0.08, bottom - height, step * 0.84, height, f"{label}: {bar.entries:,}"
            )
        if n % every == 0:
            yield _text(x, bottom + 18, label, "d")


def _svg_types(activity: Activity, top: int) -> Iterator[str]:
    left, room = _MARGIN + _LABELS, _WIDTH - 2 * _MARGIN - _LABELS - 150
    most = activity.types[0].entries
    for n, each in enumerate(activity.types):
        y = top + n * _LINE
        name = cut(steady(visible(each.activity_type)), _NAME_CELLS)
        length = max(1.0, each.entries / most * room)
        yield _text(left - 12, y, name, "e")
        fill = f' style="fill:{_FILLS[color_of_type(each.activity_type)]}"'
        yield _bar(left, y - 12, length, 14, _last(each), fill)
        share = percent(each.entries, activity.summary.entries)
        yield _text(left + length + 8, y, f"{each.entries:,} ({share})", "d")
    if activity.other_types:
        y = top + len(activity.types) * _LINE
        yield _text(left - 12, y, f"and {activity.other_types:,} more", "d e")
        yield _text(left + 8, y, f"{activity.other_entries:,}", "d")


def _last(each: TypeCount) -> str:
    return f"{visible(each.activity_type)}: the last one at {each.last:%Y-%m-%d %H:%M:%S} UTC"


def _svg_hours(days: Sequence[Sequence[int]], top: int) -> Iterator[str]:
    left = _MARGIN + _DAY_WIDTH
    greatest, levels = charts.greatest_of_shades(days), len(charts.SHADES) - 1
    for hour in range(24):
        yield _text(left + hour * _HOUR, top, str(hour), "d")
    for number, (name, day) in enumerate(zip(charts.DAYS, days, strict=True)):
        y = top + 8 + number * _LINE
        yield _text(_MARGIN, y + 15, name, "d")
        for hour, value in enumerate(day):
            opacity = 0.2 + 0.8 * charts.shade(value, greatest) / levels if value else 0.06
            x, label = left + hour * _HOUR, f"{name} {hour}:00: {value:,}"
            yield _bar(x, y, _HOUR - 2, _LINE - 2, label, f' fill-opacity="{opacity:.2f}"')


def _bar(x: float, y: float, width: float, height: float, label: str, more: str = "") -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    title = f"<title>{_escaped(label)}</title>"
    return f'<rect class="b" x="{x:.1f}" y="{y:.1f}" {size}{more}>{title}</rect>'


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    return escape(visible(text))
