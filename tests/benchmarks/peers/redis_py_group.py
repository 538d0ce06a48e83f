"""A consumer of a group by redis-py: XREADGROUP, a line for each entry, XACK.

Arguments: Redis URL, group, number of entries, `each` or `together` for how they are acknowledged.
"""

import asyncio
import sys
from typing import Any

import orjson
import redis.asyncio

STREAMS: dict[Any, Any] = {f"auditlog:{{{number:02d}}}": ">" for number in range(16)}


async def main(url: str, group: str, number: str, how: str) -> None:
    client = redis.asyncio.from_url(url)
    for stream in STREAMS:
        await client.xgroup_create(stream, group, "0", mkstream=True)
    left = int(number)
    while left > 0:
        answer: Any = await client.xreadgroup(group, "c", STREAMS, count=63, block=2000)
        for stream, entries in answer:
            lines = [orjson.dumps(orjson.loads(fields[b"e"])) + b"\n" for _, fields in entries]
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()
            ids = [id for id, _ in entries]
            for some in [ids] if how == "together" else [[id] for id in ids]:
                await client.xack(stream, group, *some)
            left -= len(ids)


asyncio.run(main(*sys.argv[1:]))
