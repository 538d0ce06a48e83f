"""The details of a message on one line: `key=value key=value`, what one looks for first."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from lykke_cli.cli.output.cells import steady
from lykke_cli.cli.output.palette import DIM, MARKED, painted
from lykke_cli.cli.output.sanitize import visible

_LEADING = {key: n for n, key in enumerate(("title", "text", "name", "error", "reason"))}

_OPENING = b"{["
_UNCLEAR = frozenset(' "=')  # what a string has quotation marks for
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_string = msgspec.json.Decoder(str).decode

Span = tuple[int, int, str]
"""From one character to before another, and the code that it is painted with."""


class Details(NamedTuple):
    """Text without anything harmful in it, and how parts of it are painted."""

    text: str
    spans: Sequence[Span] = ()
    """In order, and apart from each other."""

    def part(self, start: int, end: int, before: str = "", after: str = "") -> "Details":
        """The characters from `start` to `end`, with something put before and after them."""
        shift = len(before) - start
        spans = [
            (max(a, start) + shift, min(b, end) + shift, code)
            for a, b, code in self.spans
            if a < end and b > start
        ]
        return Details(f"{before}{self.text[start:end]}{after}", spans)

    def marking(self, sought: re.Pattern[str]) -> "Details":
        """With what `sought` finds marked."""
        marks = [(m.start(), m.end(), MARKED) for m in sought.finditer(self.text) if m[0]]
        return Details(self.text, _overlaid(self.spans, marks)) if marks else self

    def painted(self, base: str) -> str:
        """With escape sequences; `base` is the code of what no span says anything about."""
        if not self.spans:
            return painted(self.text, base)
        parts: list[str] = []
        at = 0
        for start, end, code in self.spans:
            parts += (painted(self.text[at:start], base), painted(self.text[start:end], code))
            at = end
        parts.append(painted(self.text[at:], base))
        return "".join(parts)


def _overlaid(below: Sequence[Span], above: Sequence[Span]) -> list[Span]:
    """Spans apart from each other, where those of `above` hide what is under them."""
    shown = list(above)
    for start, end, code in below:
        for hidden_from, hidden_to, _ in above:
            if hidden_to <= start:
                continue
            if hidden_from >= end:
                break
            if start < hidden_from:
                shown.append((start, hidden_from, code))
            start = hidden_to
        if start < end:
            shown.append((start, end, code))
    return sorted(shown)


def details_of(
    values: bytes | dict[str, msgspec.Raw],
    room: int,
    *,
    whole: bool = False,
    sought: re.Pattern[str] | None = None,
) -> Details:
    """The details in a JSON value or in the values of an object, at least `room` characters.

    Plain values come first, and among them those of `_LEADING`; the order does not depend on where
    they came from. Of an object or a list only the size is told, unless `whole` is true or `sought`
    is found in it.
    """
    if values == b"null":
        return Details("")
    try:
        fields = _raw_object(values) if isinstance(values, bytes) else values
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Details(steady(_value(values, room)) if isinstance(values, bytes) else "")
    parts: list[str] = []
    spans: list[Span] = []
    at = 0
    for is_nested, _, key, value in _in_order(fields):
        name = f"{steady(visible(key[:room]))}="
        if not is_nested or whole or _has(value, sought):
            text = steady(_value(value, room))
        else:
            text = _size(value)
        parts.append(name + text)
        value_at = at + len(name)
        spans.append((at, value_at, DIM))
        at = value_at + len(text) + 1
        if at > room:
            break
    return Details(" ".join(parts), spans)


def _in_order(fields: dict[str, msgspec.Raw]) -> list[tuple[bool, int, str, bytes]]:
    """Each key and value, behind whether it is an object or a list, and the key's rank."""
    last = len(_LEADING)
    found = [(key, bytes(value)) for key, value in fields.items()]
    return sorted(
        [(value[0] in _OPENING, _LEADING.get(key, last), key, value) for key, value in found]
    )


def _has(raw: bytes, sought: re.Pattern[str] | None) -> bool:
    return sought is not None and sought.search(raw.decode("utf-8", "replace")) is not None


def _size(raw: bytes) -> str:
    """What stands for an object, and for a list."""
    try:
        if raw.startswith(b"{"):
            return "{…}" if _raw_object(raw) else "{}"
        items = len(_raw_list(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "…"
    return f"[{items}]" if items else "[]"


def _value(raw: bytes, room: int) -> str:
    """A JSON value as text: a string bare where that is clear, the rest as compact JSON."""
    try:
        if raw.startswith(b'"'):
            text = _string(raw)
            bare = text and len(text) <= room and _UNCLEAR.isdisjoint(text)
            return visible(text if bare else msgspec.json.encode(text[:room]).decode())
        if raw.startswith((b"{", b"[")) and len(raw) <= 4 * room:
            raw = msgspec.json.format(raw, indent=-1)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass  # shown as it came
    return visible(raw[: 4 * room].decode("utf-8", "replace"))
