"""Subscribes with redis-py and prints what comes; arguments: Redis URL, channel."""

import asyncio
import sys

import redis.asyncio


async def main(url: str, channel: str) -> None:
    pubsub = redis.asyncio.from_url(url).pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(channel)
    async for message in pubsub.listen():
        sys.stdout.write(f"{message['data']}\n")


asyncio.run(main(*sys.argv[1:]))
