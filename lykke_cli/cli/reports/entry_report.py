"""One entry with all that is known of it, drawn in the terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Any

import msgspec

from lykke_cli.application.gateways.history_protocol import HistoryRow
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.application.show import AROUND
from lykke_cli.application.times import age, zone_of
from lykke_cli.cli.output.clock import in_zone
from lykke_cli.cli.output.fields import fields_of, text_of
from lykke_cli.cli.output.json_text import indented
from lykke_cli.cli.output.live_table import LiveTable
from lykke_cli.cli.output.palette import BOLD, DIM, PLAIN, color_of_type, painted
from lykke_cli.cli.output.sanitize import visible
from lykke_cli.cli.output.terminal import Terminal

_LABEL = len("activity_type") + 2  # cells
_COLUMNS = ("time", "id", "user", "activity", "details")


def in_full(
    row: HistoryRow,
    *,
    zone: tzinfo | None,
    now: datetime,
    in_color: bool,
    emails: Mapping[str, str] | None = None,
) -> str:
    """Lines with every field of the entry; times and age as `draw` has them."""
    lines: list[str] = []

    def line(text: str, code: str = PLAIN, label: str = "") -> None:
        start = f"{label:<{_LABEL}}"
        if in_color:
            start, text = painted(start, DIM), painted(text, code)
        lines.append(f"{start}{text}\n")

    fields = {name: _shown(value) for name, value in fields_of(row).items() if name != "meta"}
    user, activity = fields.get("user_id", ""), fields.get("activity_type", "")
    line(activity, f"{color_of_type(activity).code};{BOLD}", "activity_type")
    for text, label in zip(_times(row, fields, zone, now), ("occurred_at", "", ""), strict=False):
        line(text, label=label)
    line(user, label="user_id")
    if email := (emails or {}).get(user):
        line(visible(email), label="e-mail")
    for name in ("entity_type", "entity_id", "id"):
        line(fields.get(name, ""), label=name)
    meta = indented(_meta(row), in_color=in_color).decode("utf-8", "replace").splitlines()
    for number, text in enumerate(meta):
        line(text, label="" if number else "meta")
    return "".join(lines)


def draw(
    row: HistoryRow,
    others: Sequence[HistoryRow],
    terminal: Terminal,
    *,
    zone: tzinfo | None,
    now: datetime,
    emails: Mapping[str, str],
) -> None:
    """Print the entry, and `others` that are about the same entity.

    Times are shown in `zone`, with None in this machine's, and in UTC; the age is that at `now`.
    """
    in_color = terminal.stdout_in_color
    text = in_full(row, zone=zone, now=now, in_color=in_color, emails=emails)
    terminal.write(text.encode("utf-8", "replace"))
    if not isinstance(row, Entry) or row.entity_id is None:
        return
    around = f"within {AROUND.seconds // 60} minutes"
    terminal.write(b"\n")
    if not others:
        terminal.write(f"Nothing else happened to it {around}.\n".encode())
        return
    title = f"What else happened to it {around}"
    terminal.write((painted(title, BOLD) if in_color else title).encode() + b"\n")
    table = LiveTable(terminal, zone=zone, columns=_COLUMNS, emails=emails)
    arrivals = [Arrival(other, "history") for other in others]
    terminal.write(table.header() + table.render(arrivals))


def _shown(value: Any) -> str:
    return visible(text_of(value))


def _times(
    row: HistoryRow, fields: Mapping[str, str], zone: tzinfo | None, now: datetime
) -> list[str]:
    """When it occurred, on both clocks; as it is stored where no clock shows it."""
    if not isinstance(row, Entry):
        return [fields.get("occurred_at", ""), f"({visible(row.reason)})"]
    moment = row.moment
    local = in_zone(moment, zone)
    clocks = [_clock(local), _clock(moment)] if zone_of(local) != "UTC" else [_clock(moment)]
    clocks[0] += f", {age(moment, now)}"
    return clocks


def _clock(moment: datetime) -> str:
    text = moment.replace(tzinfo=None).isoformat(" ", "microseconds")
    return f"{text} {zone_of(moment)}"


def _meta(row: HistoryRow) -> bytes:
    """As it is stored, no number rounded."""
    if isinstance(row, Entry):
        return bytes(row.meta)
    return bytes(msgspec.json.decode(row.raw, type=dict[str, msgspec.Raw]).get("meta", b"{}"))
