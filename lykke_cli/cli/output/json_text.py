"""JSON for people: indented, coloured as jq does it, and harmless on a terminal."""

import re

import msgspec

from lykke_cli.cli.output.palette import BOLD, DIM, Color, painted
from lykke_cli.cli.output.sanitize import json_for_terminal

_INDENT = 2  # spaces
_TOKEN = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")(:?)|\bnull\b', re.DOTALL)
_KEY = f"{Color.BLUE.code};{BOLD}"


def indented(value: bytes, *, in_color: bool) -> bytes:
    """One JSON value on several lines, no number or text of it changed.

    What is no JSON, or nested too deeply, stays on its line.
    """
    value = json_for_terminal(value.strip())
    try:
        value = msgspec.json.format(value, indent=_INDENT)
    except (msgspec.DecodeError, RecursionError):
        return value
    return _TOKEN.sub(_painted, value.decode()).encode() if in_color else value


def array_of(values: list[bytes], *, in_color: bool) -> bytes:
    """Values as the elements of an array, without its brackets."""
    texts = [indented(value, in_color=in_color).replace(b"\n", b"\n  ") for value in values]
    return b",\n".join([b"  " + text for text in texts])


def _painted(match: re.Match[str]) -> str:
    text, colon = match[1], match[2]
    if text is None:
        return painted(match[0], DIM)
    return painted(text, _KEY) + colon if colon else painted(text, Color.GREEN.code)
