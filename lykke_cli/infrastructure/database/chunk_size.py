"""How many rows to read at once: many for speed, few where they are large."""

from collections.abc import Collection

CHUNK_BYTES = 16 << 20  # what a chunk's meta should take together
FIRST_ROWS = 10
GROWTH = 10  # times as many rows as in the chunk before, at most


class ChunkSize:
    """`rows` for the next chunk, `most` at most; tell `came` about each chunk."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = min(FIRST_ROWS, most)

    def came(self, metas: Collection[str | None]) -> None:
        """A chunk of rows with these metas was read; the next ones are taken to be like them."""
        size = sum(len(meta) for meta in metas if meta is not None)
        fitting = CHUNK_BYTES * len(metas) // max(1, size)
        self.rows = max(1, min(self._most, GROWTH * self.rows, fitting))
