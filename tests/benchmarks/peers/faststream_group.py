"""A consumer of a group by FastStream, which acknowledges by itself; arguments as the other's."""

import asyncio
import sys
from typing import Any

import orjson
from faststream.redis import RedisBroker, StreamSub


async def main(url: str, group: str, number: str) -> None:
    broker, left, done = RedisBroker(url, logger=None), int(number), asyncio.Event()

    async def handle(body: dict[str, Any]) -> None:
        nonlocal left
        entry = orjson.loads(body["e"]) if isinstance(body["e"], str) else body["e"]
        sys.stdout.buffer.write(orjson.dumps(entry) + b"\n")
        left -= 1
        if not left:
            sys.stdout.buffer.flush()
            done.set()

    for partition in range(16):
        name = f"auditlog:{{{partition:02d}}}"
        stream = StreamSub(name, group=group, consumer="c", last_id=">", max_records=63)
        broker.subscriber(stream=stream)(handle)
    async with broker:
        for partition in range(16):
            name = f"auditlog:{{{partition:02d}}}"
            await broker._connection.xgroup_create(name, group, "0", mkstream=True)
        await broker.start()
        await done.wait()
        await asyncio.sleep(0.1)  # the last ones are acknowledged


asyncio.run(main(*sys.argv[1:]))
