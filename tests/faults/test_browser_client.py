"""`lykke.js` in node, while Redis and the bridge are killed."""

import asyncio
from collections import Counter

from tests.faults.writer import Writer
from tests.node_client import Client, following
from tests.servers import PostgresServer, RedisServer, free_port
from tests.serving import TOKEN, TOKENS, Serving


async def test_each_entry_is_given_once_whatever_is_killed(
    own_redis: RedisServer,
    postgres_server: PostgresServer,
    postgres_database: str,
    postgres_reader_url: str,
) -> None:
    env = TOKENS | {"REDIS_URL": own_redis.url, "DATABASE_URL": postgres_reader_url}
    words = ("--port", free_port(), "--reconcile", "500ms")
    got = Counter[str]()

    async def take(client: Client, count: int) -> None:
        goal = got.total() + count
        while got.total() < goal:
            got.update(await client.said("entries"))

    with Writer(postgres_server, postgres_database, own_redis, lose=0.3) as writer:
        with Serving(*words, env=env) as bridge:
            options = {"token": TOKEN, "last": 1000, "takesLists": True, "realTime": True}
            async with following(bridge.url, str(writer.user), **options) as client:
                await take(client, 50)
                await asyncio.to_thread(own_redis.restart)
                await take(client, 50)
                bridge.kill()
                await client.state("connecting")
                await asyncio.to_thread(writer.wait_for, 20)
                bridge.start()
                await take(client, 50)
                await asyncio.to_thread(writer.stop)
                own_redis.cut_subscribers()
                committed = await asyncio.to_thread(writer.committed)
                await take(client, committed.total() - got.total())
                assert got == committed
                while (look := await client.look())["state"] != "live":
                    await client.said("state")
                assert look["exact"] is True
