"""The table for people: one line per message, appended like a log, so that it can be scrolled,
searched and copied.

The columns' widths follow from the terminal's alone, never from what is in them, so that lines
stay under each other for hours. Times are short: a line tells each new day and its zone. Nothing
that comes in is taken for markup or reaches the terminal unescaped.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

import msgspec
from rich.cells import cell_len, set_cell_size

from lykke_cli.application.channel_event import TYPE_KEYS
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Arrival, Entry, OtherMessage, UnreadableEntry
from lykke_cli.application.times import age, zone_of
from lykke_cli.cli.output import palette
from lykke_cli.cli.output.cells import cut, size_in_words, steady
from lykke_cli.cli.output.columns import MAX_MESSAGE_SIZE, check_columns
from lykke_cli.cli.output.fields import fields_of, look_up_of, text_of
from lykke_cli.cli.output.layout import (
    COLUMNS,
    FULL_ENTITY,
    GAP,
    SHORT_ID,
    WITH_MILLISECONDS,
    Column,
    Layout,
    layout_for,
    layout_of,
)
from lykke_cli.cli.output.palette import BOLD, DIM, PLAIN, painted
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal

SIGNS = {"live": "●", "history": "○", "recovered": "↺"}
LEAST_TYPE = 4  # cells of an entity's type; less of it tells nothing
LONGEST_NAME = 1_000  # characters of a type that are looked at: it may have millions

_ACTIVITY_COLORS = {
    "TASK_COMPLETED": palette.GREEN,
    "TASK_PUNTED": palette.AMBER,
    "MESSAGE_SENT": palette.TEAL,
    "MESSAGE_RECEIVED": palette.BLUE,
}

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode


class LiveTable:
    """Renders messages as the lines of a table.

    Times are shown in `zone`, with None in this machine's. With `relative` the age that an entry
    has when its line is written takes their place. `show_user` adds the user's column; `columns`
    chooses them all, in order (raises UsageMistake); with `any_message` they may also be keys of a
    JSON object, such as `event_data.title`. A message of more than `max_message_size` bytes is not
    looked into: the details are its beginning and its size. `now` tells the time, for messages
    that carry none.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        zone: tzinfo | None = UTC,
        relative: bool = False,
        show_user: bool = False,
        columns: Sequence[str] | None = None,
        max_message_size: int = MAX_MESSAGE_SIZE,
        any_message: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._terminal = terminal
        self._zone = zone
        self._relative = relative
        self._show_user = show_user
        self._max_message_size = max_message_size
        self._now = now
        self._in_color = terminal.stdout_in_color
        self._is_fine = terminal.has_256_colors
        self._columns = (
            None if columns is None else check_columns(columns, COLUMNS, any_key=any_message)
        )
        self._look_ups = {name: look_up_of(name) for name in self._columns or ()}
        self._layout = self._layout_for(terminal.width)
        self._day = ""

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
            if moment and self._layout.width_of("time") and self._day != (day := _day(moment)):
                self._day = day
                lines.append(self._painted(cut(f"--- {day} ---", self._layout.width), DIM) + "\n")
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
        if column.name == "from" and column.width < len("FROM"):
            return ""
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

    def _row(self, shown: Arrival, moment: datetime | None) -> str:
        layout = self._layout
        activity, entity, details = _describe(shown.message, layout, self._max_message_size)
        cells: list[str] = []
        styles: list[str] = []
        fields: Mapping[str, Any] | None = None  # decoded when a column asks for one
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
                    cell, style = SIGNS[shown.source], DIM
                case "details":
                    cell = details
                    style = PLAIN if isinstance(shown.message, Entry) else DIM
                case _:
                    if fields is None:
                        fields = self._fields(shown.message)
                    cell = visible(text_of(self._look_ups[name](fields))[:LONGEST_NAME])
                    style = PLAIN
            cells.append(cell)
            styles.append(style)
        return self._line(cells, styles)

    def _fields(self, message: Entry | OtherMessage | Unreadable) -> Mapping[str, Any]:
        """The message's values; none of one that is not looked into."""
        return {} if _size(message) > self._max_message_size else fields_of(message)

    def _line(self, cells: Sequence[str], styles: Sequence[str]) -> str:
        parts: list[str] = []
        for cell, style, column in zip(cells, styles, self._layout.columns, strict=True):
            text = cut(steady(cell), column.width)
            padding = column.width - cell_len(text) + GAP
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


def _describe(
    message: Entry | OtherMessage | Unreadable, layout: Layout, limit: int
) -> tuple[str, str, str]:
    """The activity, the entity and the details of a message; beyond `limit` bytes its size."""
    width = layout.width_of("details")
    size = _size(message)
    if isinstance(message, Entry):
        return (
            visible(message.activity_type[:LONGEST_NAME]),
            _entity(message, layout.width_of("entity")),
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


def _day(moment: datetime) -> str:
    """The day, and the zone that its times are in."""
    return f"{moment.date().isoformat()} {zone_of(moment)}"


def _time(moment: datetime, width: int) -> str:
    precision = "milliseconds" if width >= WITH_MILLISECONDS else "seconds"
    return moment.time().isoformat(precision)


def _id(message: Entry | OtherMessage | Unreadable, width: int) -> str:
    return (
        _whole_or_short(message.id, width) if isinstance(message, Entry | UnreadableEntry) else ""
    )


def _whole_or_short(name: str, width: int) -> str:
    """An id in full, or else its first part alone, whatever room there is."""
    return name if len(name) <= width else name[:SHORT_ID]


def _user(shown: Arrival, width: int) -> str:
    message = shown.message
    if isinstance(message, Entry):
        user = message.user_id
    elif isinstance(message, UnreadableEntry):
        user = text_of(fields_of(message).get("user_id"))
    else:
        user = shown.channel.rpartition(":")[2]
    return visible(_whole_or_short(user, width))


def _entity(entry: Entry, width: int) -> str:
    """The entity's type and id; where both do not fit, the type is cut."""
    kind = visible((entry.entity_type or "")[:LONGEST_NAME])
    if entry.entity_id is None:
        return kind
    shown_id = entry.entity_id if width >= FULL_ENTITY else entry.entity_id[:SHORT_ID]
    room = width - len(shown_id) - 1
    kind = steady(kind)
    is_worth_it = kind and room >= min(LEAST_TYPE, cell_len(kind))
    return f"{cut(kind, room)} {shown_id}" if is_worth_it else shown_id


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
