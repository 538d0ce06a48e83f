"""Foreign text in the cells of a table."""

import re

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from lykke_cli.cli.output.sanitize import visible

_EMOJI_MODIFIERS = re.compile("[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")  # variation, skin tone


def harmless(text: str) -> Text:
    """`text` for a rich table: neither markup nor escape sequences, on one line."""
    return Text(steady(visible(text)), no_wrap=True, overflow="ellipsis")


def steady(text: str) -> str:
    """Without the modifiers of emoji about whose width terminals disagree."""
    return text if text.isascii() else _EMOJI_MODIFIERS.sub("", text)


def size_in_words(size: int) -> str:
    """A number of bytes in at most nine cells: 12 B, 340 KiB, 1.5 MiB, 477 MiB."""
    if size < 1 << 10:
        return f"{size} B"
    if size < 1 << 20:
        return f"{size >> 10} KiB"
    mebibytes = size / (1 << 20)
    return f"{mebibytes:,.1f} MiB" if mebibytes < 100 else f"{mebibytes:,.0f} MiB"


def cut(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis when something was left out."""
    if cells_of(text) <= width:
        return text
    return beginning(text, width - 1) + "…" if width > 0 else ""


def cells_of(text: str) -> int:
    """How many cells a `visible` text takes."""
    return len(text) if text.isascii() else cell_len(_simple(text))


def beginning(text: str, width: int) -> str:
    """As much of a `visible` text as fits into `width` cells, without spaces at the end."""
    simple = _simple(text)
    if not simple.isascii():
        width = len(set_cell_size(simple, width).rstrip(" "))
    return text[:width].rstrip(" ")


def ending(text: str, width: int) -> str:
    """As much of the end of a short `visible` text as fits into `width` cells."""
    while cells_of(text) > width:
        text = text[1:]
    return text


def _simple(text: str) -> str:
    """As wide: rich is slow where an ellipsis stands."""
    return text.replace("…", ".")
