"""How much to read at once: few rows first, so that they come soon, then many, for speed.

What takes memory is `meta`, which may have any size. In place of one that is larger than
`LARGE_META` the statements say how large it is. Those are read afterwards, a few at a time. So many
rows can be fetched at once before anything is known of their size.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

LARGE_META = 16 << 10  # bytes
CHUNK_ROWS = 1_000
CHUNK_BYTES = 4 << 20  # in one part of a chunk, with at least one row
ROW_BYTES = 300  # that a row takes beside its meta
LEFT_OUT = "@"  # before the number of bytes; no JSON begins like that
FIRST_ROWS = 10
GROWTH = 10  # times as many rows as in the chunk before

Row = Any  # a sequence, whichever the driver has


class ChunkSize:
    """How many `rows` to fetch next, never more than `most`. Call `came` after each fetch."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(FIRST_ROWS, most)

    def came(self) -> None:
        self.rows = min(self._most, GROWTH * self.rows)


async def in_parts(
    rows: Sequence[Row],
    meta: int,
    whole: Callable[[list[Any]], Awaitable[Mapping[Any, Any]]],
    most: int | None = None,
) -> AsyncGenerator[list[Row]]:
    """The rows, in parts of few bytes, `most` or CHUNK_BYTES; `meta` is the index of that column.

    `whole` reads the metas that were left out. It gets the first column of each such row.
    """
    part: list[Row] = []
    left_out: list[Any] = []
    size = 0
    for row in rows:
        text = row[meta]
        is_left_out = _is_left_out(text)
        if is_left_out:
            length = int(text[1:21])
        else:
            length = len(text) if isinstance(text, str | bytes) else 0
        length += ROW_BYTES
        if part and size + length > (most or CHUNK_BYTES):
            yield await _filled(part, meta, left_out, whole)
            part, left_out, size = [], [], 0
        part.append(row)
        size += length
        if is_left_out:
            left_out.append(row[0])
    if part:
        yield await _filled(part, meta, left_out, whole)


async def _filled(
    part: list[Row],
    meta: int,
    left_out: list[Any],
    whole: Callable[[list[Any]], Awaitable[Mapping[Any, Any]]],
) -> list[Row]:
    if not left_out:
        return part
    found = await whole(left_out)
    return [
        (*row[:meta], found[row[0]], *row[meta + 1 :]) if _is_left_out(row[meta]) else row
        for row in part
    ]


def _is_left_out(meta: object) -> bool:
    return isinstance(meta, str) and meta.startswith(LEFT_OUT) and meta[1:].isdecimal()
