"""`--template`: a line of one's own for each message.

The syntax is that of Python's format strings, without what could reach beyond the entry: a field
is a name of the entry, then keys or positions inside it, then a width and an alignment.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

import orjson

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.messages import Arrival, Entry
from lykke_cli.cli.sanitize import visible

FIELDS = (
    "id",
    "user_id",
    "activity_type",
    "occurred_at",
    "entity_id",
    "entity_type",
    "meta",
    "source",
    "channel",
)
_FIELD = re.compile(r"(\w+)((?:\.\w+|\[[^\[\]]+\])*)")
_STEP = re.compile(r"\.(\w+)|\[([^\[\]]+)\]")
_SPEC = re.compile(r"(?:.?[<>^])?\d{0,4}(?:\.\d{1,4})?")
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}

Part = Callable[[Mapping[str, Any]], str]


class TemplateRenderer:
    """Raises UsageMistake for a template that is none.

    What comes from an entry is shown escaped, on a terminal and in a pipe: a line stays a line.
    A message that is no entry is shown as its JSON.
    """

    def __init__(self, template: str) -> None:
        try:
            parsed = list(Formatter().parse(template))
        except ValueError as error:
            raise UsageMistake(f"--template: {error}.") from error
        self._parts: list[Part] = []
        for text, field, spec, conversion in parsed:
            if text:
                self._parts.append(_literal(text))
            if field is not None:
                self._parts.append(_lookup(field, spec or "", conversion))

    def header(self) -> bytes:
        return b""

    def render(self, messages: Sequence[Arrival]) -> bytes:
        return "".join([self._line(shown) + "\n" for shown in messages]).encode()

    def footer(self) -> bytes:
        return b""

    def _line(self, shown: Arrival) -> str:
        message = shown.message
        if not isinstance(message, Entry):
            raw = shown.raw if shown.raw is not None else b""
            return visible(raw.decode("utf-8", "backslashreplace"))
        fields = message.to_dict() | {"source": shown.source, "channel": shown.channel}
        return "".join([part(fields) for part in self._parts])


def _literal(text: str) -> Part:
    text = re.sub(r"\\[nt\\]", lambda match: _ESCAPES[match[0]], text)
    return lambda _: text


def _lookup(field: str, spec: str, conversion: str | None) -> Part:
    match = _FIELD.fullmatch(field)
    if match is None or match[1] not in FIELDS:
        known = ", ".join(FIELDS)
        raise UsageMistake(f"--template: {{{field}}} is not a field; there are {known}.")
    if conversion or not _SPEC.fullmatch(spec):
        raise UsageMistake(
            f"--template: {{{field}:{spec}}} has a format of its own; width and alignment are "
            "allowed, such as {activity_type:<20}."
        )
    steps = [name or key for name, key in _STEP.findall(match[2])]

    def look_up(fields: Mapping[str, Any]) -> str:
        value: Any = fields[match[1]]
        for step in steps:
            value = _inside(value, step)
        return format(visible(_text(value)), spec)

    return look_up


def _inside(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and step.isascii() and step.isdigit():
        index = int(step[:9])
        return value[index] if index < len(value) else None
    return None


def _text(value: Any) -> str:
    if value is None:
        return ""
    try:
        return value if isinstance(value, str) else orjson.dumps(value).decode()
    except TypeError:
        return "(nested too deeply)"
