"""The table for people: one line per message, appended like a log, so that it can be scrolled,
searched and copied.

The columns' widths follow from the terminal's alone, never from what is in them, so that lines
stay under each other for hours. Nothing that comes in is taken for markup or reaches the terminal
unescaped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import NamedTuple

import msgspec
from rich.cells import cell_len, set_cell_size

from lykke_cli.application.channel_event import TYPE_KEYS
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Arrival, Entry, OtherMessage, UnreadableEntry
from lykke_cli.application.times import age
from lykke_cli.cli.output import palette
from lykke_cli.cli.output.cells import cut, size_in_words, steady
from lykke_cli.cli.output.columns import MAX_MESSAGE_SIZE, check_columns
from lykke_cli.cli.output.fields import fields_of, look_up_of, text_of
from lykke_cli.cli.output.palette import BOLD, DIM, PLAIN, painted
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal

MEDIUM = 80  # columns: times get a date and milliseconds
WIDE = 120  # times get a year and an offset, columns more air
VERY_WIDE = 160  # ids of entities in full
WIDEST = 200  # ids of users in full
LEAST_DETAILS = 10  # columns; before the details get less, other columns go
SHORT_ID = 8
COLUMNS = ("time", "age", "id", "user", "activity", "entity", "from", "details")
FULL_ID = 36
LONGEST_NAME = 1_000  # characters of a type that are looked at: it may have millions

_ACTIVITY_COLORS = {
    "TASK_COMPLETED": palette.GREEN,
    "TASK_PUNTED": palette.AMBER,
    "MESSAGE_SENT": palette.TEAL,
    "MESSAGE_RECEIVED": palette.BLUE,
}

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
    def is_short(self) -> bool:
        """Whether times are shown without their day."""
        return self.width < MEDIUM and any(c.name == "time" for c in self.columns)

    @property
    def details_width(self) -> int:
        return next((c.width for c in self.columns if c.name == "details"), LEAST_DETAILS)


class LiveTable:
    """Renders messages as the lines of a table.

    Times are shown in the local zone, or in UTC with `utc`; `zone` replaces the local zone. With
    `relative` the age that an entry has when its line is written takes their place.
    `show_user` adds the user's column; `columns` chooses them all, in order (raises UsageMistake);
    with `any_message` they may also be keys of a JSON object, such as `event_data.title`.
    A message of more than `max_message_size` bytes is not looked into: the details are its
    beginning and its size. `now` tells the time, for messages that carry none.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        utc: bool = False,
        relative: bool = False,
        show_user: bool = False,
        columns: Sequence[str] | None = None,
        max_message_size: int = MAX_MESSAGE_SIZE,
        any_message: bool = False,
        zone: tzinfo | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._terminal = terminal
        self._zone = UTC if utc else zone
        self._relative = relative
        self._show_user = show_user
        self._max_message_size = max_message_size
        self._now = now
        self._in_color = terminal.stdout_in_color
        self._is_fine = terminal.has_256_colors
        self._columns = (
            None if columns is None else check_columns(columns, COLUMNS, any_key=any_message)
        )
        self._layout = self._layout_for(terminal.width)
        self._day = self._local(now()).date()

    def header(self) -> bytes:
        """The names of the columns."""
        names = [self._title(column) for column in self._layout.columns]
        return self._line(names, [BOLD] * len(names)).encode()

    def render(self, messages: Sequence[Arrival]) -> bytes:
        """A line for each message, after a new header if the terminal's width has changed."""
        lines: list[str] = []
        if self._terminal.width != self._layout.width:
            self._layout = self._layout_for(self._terminal.width)
            lines.append(self.header().decode())
        for shown in messages:
            moment = self._moment(shown)
            if self._layout.is_short and moment and moment.date() != self._day:
                lines.append(self._new_day(moment.date()))
            lines.append(self._row(shown, moment))
        return "".join(lines).encode("utf-8", "replace")

    def footer(self) -> bytes:
        return b""

    def _layout_for(self, width: int) -> Layout:
        if self._columns is not None:
            return layout_of(self._columns, width)
        return layout_for(width, show_user=self._show_user, relative=self._relative)

    def _title(self, column: Column) -> str:
        if column.name == "time" and self._zone is UTC:
            return "TIME UTC"
        return column.name.upper()

    def _moment(self, shown: Arrival) -> datetime | None:
        """When it occurred, or came if it does not say; None for a time that cannot be shown."""
        message = shown.message
        if isinstance(message, UnreadableEntry):
            return None
        return self._local(message.moment if isinstance(message, Entry) else self._now())

    def _local(self, moment: datetime) -> datetime:
        try:
            return moment.astimezone(self._zone)
        except (OverflowError, ValueError, OSError):  # at either end of the calendar
            return moment

    def _new_day(self, day: date) -> str:
        self._day = day
        text = set_cell_size(f"--- {day.isoformat()} ---", self._layout.width).rstrip()
        return self._painted(text, DIM) + "\n"

    def _row(self, shown: Arrival, moment: datetime | None) -> str:
        layout = self._layout
        activity, entity, details = _describe(shown.message, layout, self._max_message_size)
        cells: list[str] = []
        styles: list[str] = []
        for name, width in layout.columns:
            match name:
                case "time":
                    cell, style = _time(moment, width) if moment else "", DIM
                case "age":
                    cell, style = age(moment, self._now()) if moment else "", DIM
                case "id":
                    cell, style = _id(shown.message, width), PLAIN
                case "user":
                    cell, style = _user(shown, width), PLAIN
                case "activity":
                    cell, style = activity, self._activity_style(shown.message)
                case "entity":
                    cell, style = entity, self._entity_style(shown.message)
                case "from":
                    cell, style = ("live" if shown.source == "live" else "db"), DIM
                case "details":
                    cell = details
                    style = PLAIN if isinstance(shown.message, Entry) else DIM
                case _:
                    cell, style = self._field(name, shown.message), PLAIN
            cells.append(cell)
            styles.append(style)
        return self._line(cells, styles)

    def _field(self, name: str, message: Entry | OtherMessage | Unreadable) -> str:
        if _size(message) > self._max_message_size:
            return ""
        return visible(text_of(look_up_of(name)(fields_of(message)))[:LONGEST_NAME])

    def _line(self, cells: Sequence[str], styles: Sequence[str]) -> str:
        layout = self._layout
        parts: list[str] = []
        for cell, style, column in zip(cells, styles, layout.columns, strict=True):
            text = cut(steady(cell), column.width)
            padding = column.width - cell_len(text) + layout.gap
            parts += (self._painted(text, style), " " * padding)
        return "".join(parts).rstrip(" ") + "\n"

    def _activity_style(self, message: Entry | OtherMessage | Unreadable) -> str:
        if isinstance(message, OtherMessage):
            return DIM
        if isinstance(message, Unreadable):
            return self._code(palette.RED)
        name = message.activity_type[:LONGEST_NAME]
        return self._code(_ACTIVITY_COLORS.get(name) or palette.color_of(name))

    def _entity_style(self, message: Entry | OtherMessage | Unreadable) -> str:
        if not isinstance(message, Entry) or message.entity_id is None:
            return PLAIN
        return self._code(palette.color_of(message.entity_id))

    def _code(self, color: palette.Color) -> str:
        return color.code(is_fine=self._is_fine)

    def _painted(self, text: str, style: str) -> str:
        return painted(text, style) if self._in_color else text


def _width_of(name: str, width: int) -> int:
    """What a column takes of a terminal's `width`."""
    match name:
        case "time":
            return 29 if width >= WIDE else 18 if width >= MEDIUM else 8
        case "age":
            return 8
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
        case "details":
            return LEAST_DETAILS
        case _:
            return 20 if width >= WIDE else 16


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


def layout_for(width: int, *, show_user: bool, relative: bool = False) -> Layout:
    """The columns that fit into `width` cells."""
    gap = 2 if width >= WIDE else 1
    moment = "age" if relative else "time"
    time = _width_of(moment, width)
    names = (moment, *(["user"] if show_user else []), "activity", "entity", "from")
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
    narrowest = (Column(moment, min(time, width)), Column("activity", activity))
    return Layout(width, narrowest if width > time + gap else narrowest[:1], gap)


def _describe(
    message: Entry | OtherMessage | Unreadable, layout: Layout, limit: int
) -> tuple[str, str, str]:
    """The activity, the entity and the details of a message; beyond `limit` bytes its size."""
    width = layout.details_width
    size = _size(message)
    if isinstance(message, Entry):
        entity = next((c.width for c in layout.columns if c.name == "entity"), 0)
        return (
            visible(message.activity_type[:LONGEST_NAME]),
            _entity(message, entity),
            _beginning(_excerpt(message.meta, width), size, width)
            if size > limit
            else _summary(bytes(message.meta), width),
        )
    if isinstance(message, OtherMessage):
        if size > limit:
            return "message", "", _beginning(_excerpt(message.raw, width), size, width)
        kind, rest = _kind(message)
        return kind, "", _summary(rest, width)
    named = f"{message.id} " if isinstance(message, UnreadableEntry) else ""
    details = f"{named}{visible(message.reason)}: {_excerpt(message.raw, width)}"
    return "unreadable", "", _beginning(details, size, width) if size > limit else details


def _size(message: Entry | OtherMessage | Unreadable) -> int:
    """In bytes, or of names in characters, which take no time to count."""
    if isinstance(message, Entry):
        return len(message.activity_type) + len(message.entity_type or "") + len(message.meta)
    return len(message.raw)


def _excerpt(raw: bytes | msgspec.Raw, width: int) -> str:
    """As much as can fit into `width` cells and a little more."""
    return visible(bytes(memoryview(raw)[: 4 * width]).decode("utf-8", "backslashreplace"))


def _beginning(text: str, size: int, width: int) -> str:
    """As much of `text` as fits into `width` cells with the size of the whole."""
    rest = f"… {size_in_words(size)}"
    room = max(0, width - cell_len(rest))
    return set_cell_size(steady(text), min(room, cell_len(steady(text)))).rstrip(" ") + rest


def _kind(message: OtherMessage) -> tuple[str, bytes | dict[str, msgspec.Raw]]:
    try:
        fields = _raw_object(message.raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "message", message.raw
    for key in TYPE_KEYS:
        if bytes(fields.get(key, b"")).startswith(b'"'):
            return visible(_string(fields.pop(key))[:LONGEST_NAME]), fields
    return "message", fields


def _time(moment: datetime, width: int) -> str:
    if width < 18:
        return f"{moment:%H:%M:%S}"
    text = moment.isoformat(" ", "milliseconds")
    return text.replace("+00:00", "Z") if width >= 29 else text[5:23]


def _id(message: Entry | OtherMessage | Unreadable, width: int) -> str:
    return message.id[:width] if isinstance(message, Entry | UnreadableEntry) else ""


def _user(shown: Arrival, width: int) -> str:
    message = shown.message
    if isinstance(message, Entry):
        user = message.user_id
    elif isinstance(message, UnreadableEntry):
        user = text_of(fields_of(message).get("user_id"))
    else:
        user = shown.channel.rpartition(":")[2]
    return visible(user[:width])


def _entity(entry: Entry, width: int) -> str:
    """The entity's type and id; where both do not fit, the type is cut."""
    kind = visible((entry.entity_type or "")[:LONGEST_NAME])
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
