"""Prints a user's entries through an asyncpg cursor; arguments: database URL, user."""

import asyncio
import sys

import asyncpg
import orjson


async def main(url: str, user: str) -> None:
    connection = await asyncpg.connect(url)
    out = sys.stdout.buffer
    async with connection.transaction():
        query = "SELECT * FROM audit_logs WHERE user_id = $1 ORDER BY occurred_at, id"
        async for row in connection.cursor(query, user, prefetch=1000):
            fields = dict(row)
            meta = fields.pop("meta")
            fields["meta"] = None if meta is None else orjson.Fragment(meta)
            out.write(orjson.dumps(fields, default=str) + b"\n")


asyncio.run(main(*sys.argv[1:]))
