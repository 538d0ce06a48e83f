"""Rows of PostgreSQL, in chunks of few rows and few bytes."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from lykke_cli.infrastructure.database.chunk_size import CHUNK_ROWS, ChunkSize, in_parts
from lykke_cli.infrastructure.postgresql import statements
from lykke_cli.infrastructure.postgresql.rows import META


class Fetcher(msgspec.Struct, frozen=True):
    """The bounds are of a chunk."""

    rows: int = CHUNK_ROWS
    bytes: int | None = None

    async def fetch(
        self, connection: Any, query: str, arguments: Sequence[object]
    ) -> AsyncGenerator[list[tuple[Any, ...]]]:
        """What the query gives, chunk by chunk, every meta in full."""
        # Nameless: behind PgBouncer another client may have left a statement of any name.
        statement = await connection.prepare(query, name="")
        cursor = await statement.cursor(*arguments)
        size = ChunkSize(self.rows)

        async def whole(ids: list[str]) -> dict[str, str]:
            return dict(await connection.fetch(statements.METAS, ids))

        while records := await cursor.fetch(size.rows):
            size.came()
            async with aclosing(in_parts(records, META, whole, self.bytes)) as parts:
                async for part in parts:
                    yield part
