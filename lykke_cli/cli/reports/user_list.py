"""Active users, for people and for programs."""

from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any

from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from lykke_cli.application.csv_rows import csv_cell, csv_text
from lykke_cli.application.gateways.users_protocol import ActiveUser
from lykke_cli.application.messages import encode
from lykke_cli.application.times import age, zone_of
from lykke_cli.cli.output.cells import harmless
from lykke_cli.cli.output.json_text import array_of
from lykke_cli.cli.output.palette import UserColors
from lykke_cli.cli.output.sanitize import json_for_terminal, visible
from lykke_cli.cli.output.terminal import Terminal

_MEDIUM, _WIDE = 80, 100  # columns: from them on there is room for the count, for whole times
_ID, _GAP = 36, 1  # columns


def draw(
    users: Sequence[ActiveUser], console: Console, *, zone: tzinfo | None, now: datetime
) -> None:
    """Print a table; its ids are whole at any width from 36 columns on.

    Times are shown in `zone`, with None in this machine's. Where there is room, the age of the last
    entry at `now` stands beside its time.
    """
    if not users:
        console.print("no users with entries in this range")
        return
    width = console.width
    precision = "seconds" if width >= _WIDE else "minutes"
    start = 0 if width >= _MEDIUM else len("2026-")  # the year has no room
    last = [user.last.astimezone(zone) for user in users]
    times = [moment.replace(tzinfo=None).isoformat(" ", precision)[start:] for moment in last]
    last_title = f"LAST {_zone_name(last, zone)}"
    columns = {"USER_ID": _ID}
    has_emails = any(user.email for user in users)
    if width >= _MEDIUM or not has_emails:
        columns["ENTRIES"] = max(7, *(len(f"{user.entries:,}") for user in users))
        columns["LAST"] = max(len(last_title), *map(len, times))
    if width >= (_WIDE if has_emails else _MEDIUM):
        columns["AGE"] = max(len(age(user.last, now)) for user in users)
    room = width - sum(columns.values()) - len(columns) * _GAP
    if has_emails:
        columns["E-MAIL"] = max(
            6, min(room, max(cell_len(visible(user.email or "")) for user in users))
        )
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
    for name, size in columns.items():
        justify: JustifyMethod = "right" if name == "ENTRIES" else "left"
        title = last_title if name == "LAST" else name
        table.add_column(title, width=size, no_wrap=True, justify=justify)
    colors = UserColors()
    for user, shown in zip(users, times, strict=True):
        cells = {
            "USER_ID": Text(user.user_id, colors.of(user.user_id).style),
            "ENTRIES": harmless(f"{user.entries:,}"),
            "LAST": harmless(shown),
            "AGE": harmless(age(user.last, now)),
            "E-MAIL": harmless(user.email or ""),
        }
        table.add_row(*(cells[name] for name in columns))
    console.print(table)


def _zone_name(moments: Sequence[datetime], zone: tzinfo | None) -> str:
    """The offset that all of them have, or what zone they are in."""
    offsets = {zone_of(moment) for moment in moments}
    return offsets.pop() if len(offsets) == 1 else str(zone or "local")


def encoded(users: Sequence[ActiveUser], form: str, terminal: Terminal) -> bytes:
    """The users as `ndjson`, `json` or `csv`, with the keys user_id, email, entries, last."""
    rows = [user.to_dict() for user in users]
    to_terminal = terminal.stdout_is_tty
    if form == "csv":
        return _csv(rows, to_terminal=to_terminal)
    lines = [encode(row) for row in rows]
    if form == "json":
        if to_terminal:
            elements = array_of(lines, in_color=terminal.stdout_in_color)
        else:
            elements = b",\n".join(lines)
        return b"[\n" + elements + b"\n]\n" if lines else b"[]\n"
    data = b"".join(line + b"\n" for line in lines)
    return json_for_terminal(data) if to_terminal else data


def _csv(rows: Sequence[dict[str, Any]], *, to_terminal: bool) -> bytes:
    lines = [["user_id", "email", "entries", "last"]]
    for row in rows:
        cells = ["" if value is None else csv_cell(str(value)) for value in row.values()]
        lines.append([visible(cell) for cell in cells] if to_terminal else cells)
    return csv_text(lines)
