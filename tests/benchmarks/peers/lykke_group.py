"""A consumer of a group by the library of lykke; arguments as redis_py_group's."""

import asyncio
import sys

import orjson

from lykke_cli.infrastructure.redis.consumer import RedisGroupConsumer
from lykke_cli.infrastructure.redis.urls import parse_redis_url


async def main(url: str, group: str, number: str, how: str) -> None:
    left = int(number)
    async with RedisGroupConsumer(parse_redis_url(url), "auditlog", group=group) as consumer:
        while left > 0:
            entries = await consumer.get()
            lines = [orjson.dumps(orjson.loads(entry.payload)) + b"\n" for entry in entries]
            sys.stdout.buffer.write(b"".join(lines))
            sys.stdout.buffer.flush()
            for some in [entries] if how == "together" else [[entry] for entry in entries]:
                await consumer.ack(*some)
            left -= len(entries)


asyncio.run(main(*sys.argv[1:]))
