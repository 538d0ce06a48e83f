"""The table for people: one line per message, appended like a log, so that it can be scrolled,
searched and copied.

The columns' widths follow from the terminal's alone, never from what is in them, so that lines
stay under each other for hours. Times are short: a line tells each new day and its zone. Nothing
that comes in is taken for markup or reaches the terminal unescaped.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import msgspec
from rich.cells import chop_cells

from lykke_cli.application.channel_event import TYPE_KEYS
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Arrival, Entry, OtherMessage, UnreadableEntry
from lykke_cli.application.times import age, zone_of
from lykke_cli.cli.output.cells import beginning, cells_of, cut, size_in_words, steady
from lykke_cli.cli.output.clock import in_zone
from lykke_cli.cli.output.columns import MAX_MESSAGE_SIZE, check_columns
from lykke_cli.cli.output.details import Details, details_of
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
from lykke_cli.cli.output.palette import BOLD, DIM, MARKED, PLAIN, Color, UserColors, color_of_type
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal

SIGNS = {"live": "●", "history": "○", "recovered": "↺"}
LEAST_TYPE = 4  # cells of an entity's type; less of it tells nothing
LONGEST_NAME = 1_000  # characters of a type that are looked at: it may have millions

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode


class LiveTable:
    """Renders messages as the lines of a table.

    Times are shown in `zone`, with None in this machine's. With `relative` the age that an entry
    has when its line is written takes their place. `show_user` adds the user's column, where
    `emails` by id take the place of ids; `columns` chooses them all, in order (raises
    UsageMistake); with `any_message` they may also be keys of a JSON object, such as
    `event_data.title`. With `wrap` the details are whole, on as many lines as they take. What
    `sought` finds is marked, and details begin where it can be seen. A message of more than
    `max_message_size` bytes is not looked into: the details are its beginning and its size. `now`
    tells the time, for messages that carry none.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        zone: tzinfo | None = UTC,
        relative: bool = False,
        show_user: bool = False,
        emails: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        wrap: bool = False,
        sought: re.Pattern[str] | None = None,
        max_message_size: int = MAX_MESSAGE_SIZE,
        any_message: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._terminal = terminal
        self._zone = zone
        self._relative = relative
        self._show_user = show_user
        self._user_colors = UserColors()
        self._emails = {} if emails is None else emails
        self._wrap = wrap
        self._sought = self._first_sought = sought
        self._max_message_size = max_message_size
        self._now = now
        self._in_color = terminal.stdout_in_color
        self._columns = (
            None if columns is None else check_columns(columns, COLUMNS, any_key=any_message)
        )
        self._look_ups = {name: look_up_of(name) for name in self._columns or ()}
        self._layout = self._layout_for(terminal.width)
        self._day: tuple[date, timedelta | None] | None = None  # with the zone's offset

    def header(self) -> bytes:
        """The names of the columns."""
        names = [Details(self._title(column)) for column in self._layout.columns]
        return self._line(names, [BOLD] * len(names)).encode()

    def render(self, messages: Sequence[Arrival]) -> bytes:
        """A line for each message, after a new header if the terminal's width has changed."""
        lines: list[str] = []
        if self._terminal.width != self._layout.width:
            self._layout = self._layout_for(self._terminal.width)
            lines.append(self.header().decode())
        has_time = bool(self._layout.width_of("time"))
        for shown in messages:
            moment = self._moment(shown)
            if moment and has_time and self._day != (day := (moment.date(), moment.utcoffset())):
                self._day = day
                text = cut(f"--- {day[0]} {zone_of(moment)} ---", self._layout.width)
                lines.append(self._painted(Details(text), DIM) + "\n")
            lines.append(self._row(shown, moment))
        return "".join(lines).encode("utf-8", "replace")

    def footer(self) -> bytes:
        return b""

    def seek(self, sought: re.Pattern[str] | None) -> None:
        """Mark what it finds from now on; without one what was sought at first."""
        self._sought = sought or self._first_sought

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
        moment = message.moment if isinstance(message, Entry) else self._now()
        return in_zone(moment, self._zone)

    def _row(self, shown: Arrival, moment: datetime | None) -> str:
        layout = self._layout
        activity, details = self._describe(shown.message)
        cells: list[Details] = []
        styles: list[str] = []
        fields: Mapping[str, Any] | None = None  # decoded when a column asks for one
        for name, width in layout.columns:
            match name:
                case "time":
                    cell, style = Details(_time(moment, width) if moment else ""), DIM
                case "age":
                    cell, style = Details(age(moment, self._now()) if moment else ""), DIM
                case "id":
                    cell, style = Details(_id(shown.message, width)), DIM
                case "user":
                    cell, style = self._user(shown, width)
                case "activity":
                    cell, style = Details(steady(activity)), _activity_style(shown.message)
                case "entity":
                    cell, style = _entity(shown.message, width), PLAIN
                case "from":
                    cell, style = Details(SIGNS[shown.source]), DIM
                case "details":
                    cell = details
                    style = PLAIN if isinstance(shown.message, Entry) else DIM
                case _:
                    if fields is None:
                        fields = self._fields(shown.message)
                    text = text_of(self._look_ups[name](fields))[:LONGEST_NAME]
                    cell, style = Details(steady(visible(text))), PLAIN
            cells.append(cell)
            styles.append(style)
        return self._line(cells, styles)

    def _describe(self, message: Entry | OtherMessage | Unreadable) -> tuple[str, Details]:
        """The activity and the details of a message; beyond the largest size its own."""
        width, limit = self._layout.width_of("details"), self._max_message_size
        size = _size(message)
        room = limit if self._wrap or self._sought else 4 * width  # some take no cell
        if isinstance(message, Entry):
            activity = visible(message.activity_type[:LONGEST_NAME])
            if size > limit:
                return activity, _beginning(_excerpt(message.meta, width), size, width)
            return activity, self._summary(bytes(message.meta), room)
        if isinstance(message, OtherMessage):
            if size > limit:
                return "message", _beginning(_excerpt(message.raw, width), size, width)
            kind, rest = _kind(message)
            return kind, self._summary(rest, room)
        named = f"{message.id} " if isinstance(message, UnreadableEntry) else ""
        details = f"{named}{visible(message.reason)}: {_excerpt(message.raw, width)}"
        if size > limit:
            return "unreadable", _beginning(details, size, width)
        return "unreadable", Details(steady(details))

    def _summary(self, values: bytes | dict[str, msgspec.Raw], room: int) -> Details:
        return details_of(values, room, whole=self._wrap, sought=self._sought)

    def _fields(self, message: Entry | OtherMessage | Unreadable) -> Mapping[str, Any]:
        """The message's values; none of one that is not looked into."""
        return {} if _size(message) > self._max_message_size else fields_of(message)

    def _user(self, shown: Arrival, width: int) -> tuple[Details, str]:
        user = _user_id(shown)
        email = visible(self._emails.get(user, "")[:LONGEST_NAME])
        name = email or visible(_whole_or_short(user, width))
        if cells_of(name) > width:  # its colour tells those of a name apart
            name = name.rpartition("@")[0] or name
        return Details(steady(name)), self._user_colors.of(user).code

    def _line(self, cells: Sequence[Details], styles: Sequence[str]) -> str:
        parts: list[str] = []
        more: Iterator[Details] = iter(())
        indent = at = 0
        for cell, style, column in zip(cells, styles, self._layout.columns, strict=True):
            if self._sought is not None:
                cell = cell.marking(self._sought)
            if self._wrap and column.name == "details":
                more, indent = _wrapped(cell, column.width), at
                cell = next(more, cell)
            elif self._sought is not None and column.name == "details":
                cell = _scrolled(cell, column.width)
            if (taken := cells_of(cell.text)) > column.width:
                cell = _fitted(cell, column.width)
                taken = cells_of(cell.text)
            parts += (self._painted(cell, style), " " * (column.width - taken + GAP))
            at += column.width + GAP
        lines = ["".join(parts).rstrip(" ") + "\n"]
        lines += [" " * indent + self._painted(line, PLAIN) + "\n" for line in more]
        return "".join(lines)

    def _painted(self, cell: Details, style: str) -> str:
        return cell.painted(style) if self._in_color else cell.text


def _activity_style(message: Entry | OtherMessage | Unreadable) -> str:
    if isinstance(message, OtherMessage):
        return DIM
    if isinstance(message, Unreadable):
        return Color.RED.code
    return color_of_type(message.activity_type[:LONGEST_NAME]).code


def _size(message: Entry | OtherMessage | Unreadable) -> int:
    """In bytes, or of names in characters, which take no time to count."""
    if isinstance(message, Entry):
        return len(message.activity_type) + len(message.entity_type or "") + len(message.meta)
    return len(message.raw)


def _excerpt(raw: bytes | msgspec.Raw, width: int) -> str:
    """As much as can fit into `width` cells and a little more."""
    return visible(bytes(memoryview(raw)[: 4 * width]).decode("utf-8", "backslashreplace"))


def _beginning(text: str, size: int, width: int) -> Details:
    """As much of `text` as fits into `width` cells with the size of the whole."""
    rest = f"… {size_in_words(size)}"
    return Details(beginning(steady(text), max(0, width - cells_of(rest))) + rest)


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
    precision = "milliseconds" if width >= WITH_MILLISECONDS else "seconds"
    return moment.time().isoformat(precision)


def _id(message: Entry | OtherMessage | Unreadable, width: int) -> str:
    return (
        _whole_or_short(message.id, width) if isinstance(message, Entry | UnreadableEntry) else ""
    )


def _whole_or_short(name: str, width: int) -> str:
    """An id in full, or else its first part alone, whatever room there is."""
    return name if len(name) <= width else name[:SHORT_ID]


def _user_id(shown: Arrival) -> str:
    message = shown.message
    if isinstance(message, Entry):
        return message.user_id
    if isinstance(message, UnreadableEntry):
        return text_of(fields_of(message).get("user_id"))
    return shown.channel.rpartition(":")[2]


def _entity(message: Entry | OtherMessage | Unreadable, width: int) -> Details:
    """The entity's type and id; where both do not fit, the type is cut."""
    if not isinstance(message, Entry):
        return Details("")
    kind = steady(visible((message.entity_type or "")[:LONGEST_NAME]))
    if message.entity_id is None:
        return Details(kind)
    shown_id = message.entity_id if width >= FULL_ENTITY else message.entity_id[:SHORT_ID]
    room = width - len(shown_id) - 1
    is_worth_it = kind and room >= min(LEAST_TYPE, cells_of(kind))
    text = f"{cut(kind, room)} {shown_id}" if is_worth_it else shown_id
    return Details(text, [(len(text) - len(shown_id), len(text), DIM)])


def _fitted(cell: Details, width: int) -> Details:
    """As much of what is too wide as fits into `width` cells with an ellipsis."""
    if width <= 0:
        return Details("")
    return cell.part(0, len(beginning(cell.text, width - 1)), after="…")


def _scrolled(cell: Details, width: int) -> Details:
    """From where on its first mark can be seen in `width` cells."""
    start, end = next(((a, b) for a, b, code in cell.spans if code == MARKED), (0, 0))
    if cells_of(cell.text[:end]) < width:
        return cell.part(0, 4 * width)
    begin = max(0, start - width // 3)
    word = cell.text.find(" ", begin, start) + 1
    begin = word or begin
    return cell.part(begin, begin + 4 * width, before="…")


def _wrapped(cell: Details, width: int) -> Iterator[Details]:
    """All of it in lines of at most `width` cells, broken between words where that is not far."""
    at = 0
    while at < len(cell.text):
        line = next(iter(chop_cells(cell.text[at : at + 4 * width], max(1, width))), "")
        end = at + max(1, len(line))
        if end < len(cell.text) and cell.text[end] != " ":
            word = cell.text.rfind(" ", at + len(line) // 2, end)
            end = word if word > at else end
        yield cell.part(at, end)
        at = end + (cell.text[end : end + 1] == " ")
