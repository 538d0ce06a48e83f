"""Subscribes with redis-py, decodes and prints; arguments: Redis URL, channel."""

import asyncio
import sys

import orjson
import redis.asyncio


async def main(url: str, channel: str) -> None:
    pubsub = redis.asyncio.from_url(url).pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(channel)
    async for message in pubsub.listen():
        entry = orjson.loads(message["data"])
        sys.stdout.buffer.write(orjson.dumps(entry) + b"\n")
        sys.stdout.buffer.flush()


asyncio.run(main(*sys.argv[1:]))
