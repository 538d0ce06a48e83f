"""`--template`: a line of one's own for each message.

The syntax is that of Python's format strings, without what could reach beyond the entry: a field
is a name of the entry, then keys or positions inside it, then a width and an alignment.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.messages import Arrival, Entry, OtherMessage, UnreadableEntry
from lykke_cli.cli.output.fields import fields_of, first_key, is_field, look_up_of, text_of
from lykke_cli.cli.output.sanitize import visible

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
_SPEC = re.compile(r"(?:.?[<>^])?\d{0,4}(?:\.\d{1,4})?")
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\\": "\\"}

Part = Callable[[Mapping[str, Any]], str]


class TemplateRenderer:
    """Raises UsageMistake for a template that is none.

    What comes from an entry is shown escaped, on a terminal and in a pipe: a line stays a line.
    A message that is no entry is shown as its JSON, unless with `any_message` the template is for
    every JSON object; then a field may be any key.
    """

    def __init__(self, template: str, *, any_message: bool = False) -> None:
        self._any_message = any_message
        try:
            parsed = list(Formatter().parse(template))
        except ValueError as error:
            raise UsageMistake(f"--template: {error}.") from error
        self._parts: list[Part] = []
        for text, field, spec, conversion in parsed:
            if text:
                self._parts.append(_literal(text))
            if field is not None:
                self._parts.append(_lookup(field, spec or "", conversion, any_key=any_message))

    def header(self) -> bytes:
        return b""

    def render(self, messages: Sequence[Arrival]) -> bytes:
        return "".join([self._line(shown) + "\n" for shown in messages]).encode()

    def footer(self) -> bytes:
        return b""

    def _line(self, shown: Arrival) -> str:
        message = shown.message
        if not isinstance(message, Entry | UnreadableEntry) and not (
            self._any_message and isinstance(message, OtherMessage)
        ):
            raw = shown.raw if shown.raw is not None else b""
            return visible(raw.decode("utf-8", "backslashreplace"))
        fields = fields_of(message) | {"source": shown.source, "channel": shown.channel}
        return "".join([part(fields) for part in self._parts])


def _literal(text: str) -> Part:
    text = re.sub(r"\\[nt\\]", lambda match: _ESCAPES[match[0]], text)
    return lambda _: text


def _lookup(field: str, spec: str, conversion: str | None, *, any_key: bool) -> Part:
    if not is_field(field) or not (any_key or first_key(field) in FIELDS):
        known = ", ".join(FIELDS)
        raise UsageMistake(f"--template: {{{field}}} is not a field; there are {known}.")
    if conversion or not _SPEC.fullmatch(spec):
        raise UsageMistake(
            f"--template: {{{field}:{spec}}} has a format of its own; width and alignment are "
            "allowed, such as {activity_type:<20}."
        )
    look_up = look_up_of(field)
    return lambda fields: format(visible(text_of(look_up(fields))), spec)
