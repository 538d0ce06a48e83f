"""ChannelsProtocol on Redis: PUBSUB CHANNELS, NUMSUB and NUMPAT.

They tell of the node that is asked. On a cluster a subscription counts on the node it was made on,
so there every node is asked.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Self

import msgspec
from redis import exceptions
from redis.asyncio import ConnectionPool, Redis

from lykke_cli.application.gateways.channels_protocol import Census
from lykke_cli.infrastructure.configuration.transport import Transport
from lykke_cli.infrastructure.redis.client import plain_connection
from lykke_cli.infrastructure.redis.cluster import members
from lykke_cli.infrastructure.redis.errors import redis_errors
from lykke_cli.infrastructure.redis.patterns import every_user
from lykke_cli.infrastructure.redis.topology import at, locate
from lykke_cli.infrastructure.redis.urls import Cluster, Node, parse_redis_url

TIMEOUT = 5.0  # seconds to connect, and for each answer
BATCH = 500  # channels asked about at once
_Ask = Callable[[Redis, Sequence[str]], Awaitable[Census]]


class RedisChannels:
    """Asks the Redis at `url`; raises UsageMistake for a malformed URL."""

    def __init__(self, url: str) -> None:
        self._address = parse_redis_url(url)
        self._clients: dict[Node | None, Redis] = {}  # None: where the address leads to

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for client in self._clients.values():
            await client.connection_pool.disconnect()

    async def census(self, channel_types: Sequence[str], pattern: str | None = None) -> Census:
        patterns = [every_user(each) for each in channel_types]
        patterns = patterns if pattern is None else [pattern]
        with redis_errors(self._address.display):
            clients = [self._client(node) for node in await self._nodes()]
            ask = _ask_sharded if self._address.transport is Transport.SHARDED else _ask
            found = await asyncio.gather(*(_persistently(ask, each, patterns) for each in clients))
        return _sum(found)

    async def _nodes(self) -> Sequence[Node | None]:
        if not isinstance(self._address.among, Cluster):
            return [None]
        async with asyncio.timeout(TIMEOUT):
            found = (await locate(self._address)).options
            node = (found["host"], found["port"])
            known = await members(self._address, node)
        return [member.node for member in known if not member.is_away] or [node]

    def _client(self, node: Node | None) -> Redis:
        if node not in self._clients:
            address = self._address
            if node is not None:
                address = msgspec.structs.replace(at(address, node), among=None)
            limits = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
            options = plain_connection(limits | address.pool_options())
            self._clients[node] = Redis(connection_pool=ConnectionPool(**options))
        return self._clients[node]


async def _persistently(ask: _Ask, client: Redis, patterns: Sequence[str]) -> Census:
    # A pooled connection may have died since its last use: what a new one says decides,
    # and is raised outside of the other's handling, which would be taken for its cause.
    with suppress(exceptions.ConnectionError):
        return await ask(client, patterns)
    return await ask(client, patterns)


def _sum(found: Sequence[Census]) -> Census:
    subscribers = Counter[str]()
    for census in found:
        subscribers.update(census.subscribers)
    return Census(subscribers, sum(census.patterns for census in found))


async def _ask(client: Redis, patterns: Sequence[str]) -> Census:
    found = [await client.pubsub_channels(pattern) for pattern in patterns]
    subscribers = await _count(found, client.pubsub_numsub)
    return Census(subscribers, await client.pubsub_numpat())


async def _ask_sharded(client: Redis, patterns: Sequence[str]) -> Census:
    """By name: before its version 5 redis-py knows nothing of shards."""

    async def count(*names: Any) -> list[tuple[Any, int]]:
        answer = await client.execute_command("PUBSUB", "SHARDNUMSUB", *names)  # type: ignore[no-untyped-call]
        return list(zip(answer[::2], answer[1::2], strict=True))

    found = [
        await client.execute_command("PUBSUB", "SHARDCHANNELS", pattern)  # type: ignore[no-untyped-call]
        for pattern in patterns
    ]
    return Census(await _count(found, count), 0)


async def _count(
    found: Sequence[Iterable[Any]], count: Callable[..., Awaitable[list[Any]]]
) -> dict[str, int]:
    names = sorted({name for some in found for name in some})  # of bytes: nothing is decoded for us
    subscribers: dict[str, int] = {}
    for start in range(0, len(names), BATCH):
        for name, number in await count(*names[start : start + BATCH]):
            if number:  # it may have gone meanwhile
                subscribers[name.decode("utf-8", "backslashreplace")] = number
    return subscribers
