"""Any JSON object that comes on a channel, as far as it resembles an audit log entry."""

import re
from collections.abc import Mapping
from typing import Any

from lykke_cli.application.messages import (
    BEFORE_ALL,
    Entry,
    Message,
    OtherMessage,
    UnreadableEntry,
    canonical_id,
    format_time,
    parse_wire_time,
)

TYPE_KEYS = ("activity_type", "event_type", "type")
"""Where the type of an event may be; the first that holds a text counts."""
NO_TIME = "~"  # sorts after every time: what has none is before no bound
_BEFORE_CALENDAR = re.compile(r"^-| BC$")  # -infinity, and years before the first


class ChannelEvent:
    """A JSON object with the attributes of an entry; what it lacks is None or empty."""

    __slots__ = ("_message", "fields")

    def __init__(self, message: OtherMessage) -> None:
        self._message = message
        self.fields = message.to_dict()

    @property
    def id(self) -> str:
        return _text(self.fields, "id")

    @property
    def activity_type(self) -> str:
        return event_type(self.fields)

    @property
    def entity_type(self) -> str | None:
        return _text(self.fields, "entity_type") or None

    @property
    def entity_id(self) -> str | None:
        text = _text(self.fields, "entity_id")
        try:
            return canonical_id(text)
        except ValueError:
            return text or None

    @property
    def occurred_at(self) -> str:
        text = _text(self.fields, "occurred_at")
        try:
            return format_time(parse_wire_time(text))
        except ValueError:
            return BEFORE_ALL if _BEFORE_CALENDAR.search(text) else NO_TIME

    def to_json(self) -> bytes:
        return self._message.to_json()

    def to_dict(self) -> dict[str, Any]:
        return self.fields


def event_of(message: Message, *, any_message: bool) -> Entry | ChannelEvent | None:
    """The entry, readable or not, or with `any_message` whatever JSON object it is."""
    if isinstance(message, Entry):
        return message
    if isinstance(message, UnreadableEntry):
        return ChannelEvent(OtherMessage(message.raw))
    return ChannelEvent(message) if any_message and isinstance(message, OtherMessage) else None


def event_type(fields: Mapping[str, Any]) -> str:
    """The type of an event, under whichever name it has it; empty without one."""
    return next((text for key in TYPE_KEYS if (text := _text(fields, key))), "")


def _text(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""
