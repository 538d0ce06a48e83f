"""How much to read at once: few rows first, so that they come soon, then many, for speed.

What takes memory is `meta`, which may have any size. The statements leave out one that is larger
than `LARGE_META` and say `LEFT_OUT` instead; it is read by itself when its turn comes. So the rows
that come together are small, before anything is known of them.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

LARGE_META = 16 << 10  # bytes
CHUNK_BYTES = 4 << 20  # of meta in one part of a chunk, with at least one row
LEFT_OUT = ""  # is no JSON
FIRST_ROWS = 10
GROWTH = 10  # times as many rows as in the chunk before

Row = Any  # a sequence, whichever the driver has


class ChunkSize:
    """`rows` for the next chunk, `most` at most; tell `came` after each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(FIRST_ROWS, most)

    def came(self) -> None:
        self.rows = min(self._most, GROWTH * self.rows)


async def in_parts(
    rows: Sequence[Row], meta: int, whole: Callable[[Row], Awaitable[Any]]
) -> AsyncGenerator[list[Row]]:
    """The rows, in parts of some bytes; `meta` is its place in a row.

    `whole` reads the meta of a row in which it was left out.
    """
    part: list[Row] = []
    size = 0
    for row in rows:
        if row[meta] == LEFT_OUT:
            row = (*row[:meta], await whole(row), *row[meta + 1 :])
        length = len(row[meta]) if isinstance(row[meta], str | bytes) else 0
        if part and size + length > CHUNK_BYTES:
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part
