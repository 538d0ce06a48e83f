"""The table for people: one line per message, appended like a log, so that it can be scrolled,
searched and copied.

The columns' widths follow from the terminal's alone, never from what is in them, so that lines
stay under each other for hours. Nothing that comes in is taken for markup or reaches the terminal
unescaped.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from typing import NamedTuple

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.style import Style

from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Arrival, Entry, OtherMessage
from lykke_cli.cli.cells import cut, steady
from lykke_cli.cli.renderers import check_columns
from lykke_cli.cli.sanitize import visible
from lykke_cli.cli.terminal import Terminal

MEDIUM = 80  # columns: times get a date and milliseconds
WIDE = 120  # times get a year and an offset, columns more air
VERY_WIDE = 160  # ids of entities in full
WIDEST = 200  # ids of users in full
LEAST_DETAILS = 10  # columns; before the details get less, other columns go
SHORT_ID = 8
COLUMNS = ("time", "id", "user", "activity", "entity", "from", "details")
FULL_ID = 36

_ACTIVITY_COLORS = {
    "TASK_COMPLETED": "green",
    "TASK_PUNTED": "yellow",
    "MESSAGE_SENT": "cyan",
    "MESSAGE_RECEIVED": "blue",
}
_OTHER_COLORS = ("magenta", "bright_cyan", "bright_green", "bright_magenta", "bright_yellow")
_DIM = Style(dim=True)
_BOLD = Style(bold=True)
_RED = Style(color="red")
_PLAIN = Style()

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode


class Column(NamedTuple):
    name: str
    width: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns for one width of the terminal; `details` takes what the others leave."""

    width: int
    columns: tuple[Column, ...]
    gap: int

    @property
    def details_width(self) -> int:
        return next((c.width for c in self.columns if c.name == "details"), LEAST_DETAILS)


class LiveTable:
    """Renders messages as the lines of a table.

    Times are shown in the local zone, or in UTC with `utc`; `zone` replaces the local zone.
    `show_user` adds the user's column; `columns` chooses them all, in order (raises UsageMistake).
    `now` tells the time, for messages that carry none.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        utc: bool = False,
        show_user: bool = False,
        columns: Sequence[str] | None = None,
        zone: tzinfo | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._terminal = terminal
        self._zone = UTC if utc else zone
        self._show_user = show_user
        self._now = now
        self._in_color = terminal.stdout_in_color
        self._columns = None if columns is None else check_columns(columns, COLUMNS)
        self._layout = self._layout_for(terminal.width)
        self._day = self._local(now()).date()

    def header(self) -> bytes:
        """The names of the columns."""
        names = [self._title(column) for column in self._layout.columns]
        return self._line(names, [_BOLD] * len(names)).encode()

    def render(self, messages: Sequence[Arrival]) -> bytes:
        """A line for each message, after a new header if the terminal's width has changed."""
        lines: list[str] = []
        if self._terminal.width != self._layout.width:
            self._layout = self._layout_for(self._terminal.width)
            lines.append(self.header().decode())
        for shown in messages:
            moment = self._moment(shown)
            if self._layout.width < MEDIUM and moment.date() != self._day:
                lines.append(self._new_day(moment.date()))
            lines.append(self._row(shown, moment))
        return "".join(lines).encode("utf-8", "replace")

    def footer(self) -> bytes:
        return b""

    def _layout_for(self, width: int) -> Layout:
        if self._columns is not None:
            return layout_of(self._columns, width)
        return layout_for(width, show_user=self._show_user)

    def _title(self, column: Column) -> str:
        if column.name == "time" and self._zone is UTC:
            return "TIME UTC"
        return column.name.upper()

    def _moment(self, shown: Arrival) -> datetime:
        message = shown.message
        return self._local(message.moment if isinstance(message, Entry) else self._now())

    def _local(self, moment: datetime) -> datetime:
        try:
            return moment.astimezone(self._zone)
        except (OverflowError, ValueError, OSError):  # at either end of the calendar
            return moment

    def _new_day(self, day: date) -> str:
        self._day = day
        text = set_cell_size(f"--- {day.isoformat()} ---", self._layout.width).rstrip()
        return self._painted(text, _DIM) + "\n"

    def _row(self, shown: Arrival, moment: datetime) -> str:
        layout = self._layout
        activity, entity, details = _describe(shown.message, layout)
        color = _activity_style(shown.message)
        cells: list[str] = []
        styles: list[Style] = []
        for name, width in layout.columns:
            match name:
                case "time":
                    cell, style = _time(moment, width), _DIM
                case "id":
                    cell, style = _id(shown.message, width), _PLAIN
                case "user":
                    cell, style = _user(shown, width), _PLAIN
                case "activity":
                    cell, style = activity, color
                case "entity":
                    cell, style = entity, _PLAIN
                case "from":
                    cell, style = ("live" if shown.source == "live" else "db"), _DIM
                case _:
                    cell = details
                    style = _PLAIN if isinstance(shown.message, Entry) else _DIM
            cells.append(cell)
            styles.append(style)
        return self._line(cells, styles)

    def _line(self, cells: Sequence[str], styles: Sequence[Style]) -> str:
        layout = self._layout
        parts: list[str] = []
        for cell, style, column in zip(cells, styles, layout.columns, strict=True):
            text = cut(steady(cell), column.width)
            padding = column.width - cell_len(text) + layout.gap
            parts += (self._painted(text, style), " " * padding)
        return "".join(parts).rstrip(" ") + "\n"

    def _painted(self, text: str, style: Style) -> str:
        if not self._in_color or not text:
            return text
        return style.render(text, color_system=ColorSystem.STANDARD)


def _width_of(name: str, width: int) -> int:
    """What a column takes of a terminal's `width`."""
    match name:
        case "time":
            return 29 if width >= WIDE else 18 if width >= MEDIUM else 8
        case "id":
            return FULL_ID if width >= VERY_WIDE else SHORT_ID
        case "user":
            return FULL_ID if width >= WIDEST else SHORT_ID
        case "activity":
            return 20 if width >= WIDE else 16
        case "entity":
            return 46 if width >= VERY_WIDE else 16 if width >= MEDIUM else 13
        case "from":
            return 4
        case _:
            return LEAST_DETAILS


def layout_of(names: Sequence[str], width: int) -> Layout:
    """The chosen columns, as many of them as fit; `details` takes what the others leave."""
    gap = 2 if width >= WIDE else 1
    columns = [Column(name, min(_width_of(name, width), width)) for name in names]
    while len(columns) > 1 and sum(column.width + gap for column in columns) - gap > width:
        columns.pop()
    left = width - sum(column.width + gap for column in columns) + gap
    widened = [
        column._replace(width=column.width + max(0, left)) if column.name == "details" else column
        for column in columns
    ]
    return Layout(width, tuple(widened), gap)


def layout_for(width: int, *, show_user: bool) -> Layout:
    """The columns that fit into `width` cells."""
    gap = 2 if width >= WIDE else 1
    time = _width_of("time", width)
    names = ("time", *(["user"] if show_user else []), "activity", "entity", "from")
    columns = [Column(name, _width_of(name, width)) for name in names]

    def left() -> int:
        return width - sum(column.width + gap for column in columns)

    for expendable in ("from", "entity", "user"):
        if left() < LEAST_DETAILS:
            columns = [column for column in columns if column.name != expendable]
    if left() >= LEAST_DETAILS:
        columns.append(Column("details", left()))
        return Layout(width, tuple(columns), gap)
    activity = max(1, width - time - gap)  # too narrow for a table: what there is room for
    narrowest = (Column("time", min(time, width)), Column("activity", activity))
    return Layout(width, narrowest if width > time + gap else narrowest[:1], gap)


def _describe(message: Entry | OtherMessage | Unreadable, layout: Layout) -> tuple[str, str, str]:
    """The activity, the entity and the details of a message."""
    width = layout.details_width
    if isinstance(message, Entry):
        entity = next((c.width for c in layout.columns if c.name == "entity"), 0)
        return (
            visible(message.activity_type),
            _entity(message, entity),
            _summary(bytes(message.meta), width),
        )
    if isinstance(message, OtherMessage):
        kind, rest = _kind(message)
        return kind, "", _summary(rest, width)
    excerpt = message.raw[: 4 * width].decode("utf-8", "backslashreplace")
    return "unreadable", "", f"{visible(message.reason)}: {visible(excerpt)}"


def _kind(message: OtherMessage) -> tuple[str, bytes | dict[str, msgspec.Raw]]:
    try:
        fields = _raw_object(message.raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "message", message.raw
    kind = fields.get("type")
    if kind is None or not bytes(kind).startswith(b'"'):
        return "message", fields
    del fields["type"]
    return visible(_string(kind)), fields


def _activity_style(message: Entry | OtherMessage | Unreadable) -> Style:
    if isinstance(message, Unreadable):
        return _RED
    if isinstance(message, OtherMessage):
        return _DIM
    activity = message.activity_type
    color = _ACTIVITY_COLORS.get(activity)
    if color is None:
        digest = zlib.crc32(activity.encode("utf-8", "replace"))  # the same in every run
        color = _OTHER_COLORS[digest % len(_OTHER_COLORS)]
    return _foreground(color)


@cache
def _foreground(color: str) -> Style:
    return Style(color=color)


def _time(moment: datetime, width: int) -> str:
    if width < 18:
        return f"{moment:%H:%M:%S}"
    text = moment.isoformat(" ", "milliseconds")
    return text.replace("+00:00", "Z") if width >= 29 else text[5:23]


def _id(message: Entry | OtherMessage | Unreadable, width: int) -> str:
    return message.id[:width] if isinstance(message, Entry) else ""


def _user(shown: Arrival, width: int) -> str:
    message = shown.message
    user = message.user_id if isinstance(message, Entry) else shown.channel.rpartition(":")[2]
    return visible(user[:width])


def _entity(entry: Entry, width: int) -> str:
    """The entity's type and id; where both do not fit, the type is cut."""
    kind = visible(entry.entity_type or "")
    if entry.entity_id is None:
        return kind
    shown_id = entry.entity_id if width > FULL_ID else entry.entity_id[:SHORT_ID]
    room = width - len(shown_id) - 1
    return f"{cut(steady(kind), room)} {shown_id}" if kind and room > 0 else shown_id


def _summary(meta: bytes | dict[str, msgspec.Raw], width: int) -> str:
    """`key=value key=value`, as much as can fit into `width` cells and a little more."""
    if meta == b"null":
        return ""
    room = 4 * width  # characters: some take no cell
    try:
        fields = _raw_object(meta) if isinstance(meta, bytes) else meta
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _value(meta, room) if isinstance(meta, bytes) else ""
    parts: list[str] = []
    for key, value in fields.items():
        part = f"{visible(key[:room])}={_value(bytes(value), room)}"
        parts.append(part)
        room -= len(part)
        if room <= 0:
            break
    return " ".join(parts)


def _value(raw: bytes, room: int) -> str:
    """A JSON value as text: a string bare where that is clear, the rest as compact JSON."""
    try:
        if raw.startswith(b'"'):
            text = _string(raw)
            bare = text and len(text) <= room and not any(c in text for c in ' "=')
            return visible(text if bare else msgspec.json.encode(text[:room]).decode())
        if raw.startswith((b"{", b"[")) and len(raw) <= 4 * room:
            raw = msgspec.json.format(raw, indent=-1)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass  # shown as it came
    return visible(raw[: 4 * room].decode("utf-8", "replace"))
