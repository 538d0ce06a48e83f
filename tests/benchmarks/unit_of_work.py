"""How long the broadcasts of one large commit take, together and one by one: make bench."""

import asyncio
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from lykke_cli import RedisPubSubGateway, RedisShardedGateway, SqlAlchemyUnitOfWork
from lykke_cli.application.gateways.pubsub_protocol import PubSubGatewayProtocol
from lykke_cli.infrastructure.sqlite.schema import create_sqlite_table
from tests.benchmarks.measure import alternate, head, show
from tests.builders import entity
from tests.faults.cluster import RedisCluster
from tests.servers import RedisServer

ENTITIES = 10_000
USERS = 100
PATIENCE = 300.0  # seconds: one by one they take longer than is usual
RUNS = 3
COMMANDS = ("cmdstat_publish", "cmdstat_spublish")


class OneByOne:
    """A gateway without `publish_many`."""

    def __init__(self, gateway: RedisPubSubGateway) -> None:
        self.publish_to_user_channel = gateway.publish_to_user_channel


def published(servers: Sequence[RedisServer]) -> int:
    """How many messages the servers were given by whoever publishes."""
    calls = 0
    for server in servers:
        with server.client() as client:
            found = client.info("commandstats")
        calls += sum(found.get(command, {}).get("calls", 0) for command in COMMANDS)
    return calls


async def broadcast(
    database: str, servers: Sequence[RedisServer], gateway: RedisPubSubGateway, *, together: bool
) -> float:
    """Seconds for the commit and the broadcasts of ENTITIES."""
    users = [uuid.uuid4() for _ in range(USERS)]
    used = gateway if together else cast(PubSubGatewayProtocol, OneByOne(gateway))
    unit_of_work = SqlAlchemyUnitOfWork(database, used, broadcast_timeout=PATIENCE)
    before = published(servers)
    async with gateway:
        async with unit_of_work:
            for number in range(ENTITIES):
                await unit_of_work.create(entity(users[number % USERS]))
            started = time.perf_counter()
        taken = time.perf_counter() - started
        await unit_of_work.close()
    assert published(servers) - before == ENTITIES
    return taken


def measure(
    name: str, servers: Sequence[RedisServer], make: Callable[[], RedisPubSubGateway], database: str
) -> None:
    def run(together: bool) -> float:
        return asyncio.run(broadcast(database, servers, make(), together=together))

    taken = alternate({"together": partial(run, True), "one by one": partial(run, False)}, RUNS)
    show(name, *(f"{seconds:.2f}" for seconds in taken.values()))


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer() as server,
        RedisCluster() as cluster,
    ):
        path = Path(folder) / "audit.db"
        create_sqlite_table(path)
        database, sharded = f"sqlite:///{path}", f"{cluster.url}?transport=sharded"
        head(f"{ENTITIES:,} entities in one transaction", "", "together s", "one by one s")
        measure("one server", [server], partial(RedisPubSubGateway, server.url), database)
        measure("a cluster", cluster.nodes, partial(RedisPubSubGateway, cluster.url), database)
        measure("the same, sharded", cluster.nodes, partial(RedisShardedGateway, sharded), database)


if __name__ == "__main__":
    main()
