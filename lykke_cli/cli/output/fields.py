"""Naming a part of a message: a key, then keys or positions inside it."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from lykke_cli.application.channel_event import TYPE_KEYS, event_type
from lykke_cli.application.gateways.pubsub_protocol import Unreadable
from lykke_cli.application.messages import Entry, OtherMessage, UnreadableEntry, decode_object

_FIELD = re.compile(r"(\w+)((?:\.\w+|\[[^\[\]]+\])*)")
_STEP = re.compile(r"\.(\w+)|\[([^\[\]]+)\]")


def is_field(text: str) -> bool:
    """Return whether `text` is written like `meta.title` or `meta[0]`."""
    return _FIELD.fullmatch(text) is not None


def first_key(field: str) -> str:
    """Return the first key of a field, such as `meta` of `meta.title`."""
    return _STEP.sub("", field)


def look_up_of(field: str) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that finds the field in a message's values, or None where it is absent."""
    key = first_key(field)
    steps = [name or key for name, key in _STEP.findall(field)]

    def look_up(fields: Mapping[str, Any]) -> Any:
        value = fields.get(key)
        for step in steps:
            value = _inside(value, step)
        return value

    return look_up


def fields_of(message: Entry | OtherMessage | Unreadable) -> dict[str, Any]:
    """Return the message's JSON values by key; its type is under `activity_type` in any case."""
    if isinstance(message, UnreadableEntry):
        row = decode_object(message.raw)
        return row if isinstance(row, dict) else {"id": message.id}
    if isinstance(message, Unreadable):
        return {}
    fields = message.to_dict()
    return fields if TYPE_KEYS[0] in fields else fields | {TYPE_KEYS[0]: event_type(fields)}


def text_of(value: Any) -> str:
    """Return a string as it is, an empty text for null, and JSON for any other value."""
    if value is None:
        return ""
    try:
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    except TypeError:
        return "(nested too deeply)"


def _inside(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isascii() and step.isdigit():
        index = int(step[:9])
        return value[index] if index < len(value) else None
    return None
