"""ChannelsProtocol on Redis: PUBSUB CHANNELS, NUMSUB and NUMPAT.

They tell of the node that is asked. On a cluster a subscription counts on the node it was made on,
so there every node would have to be: `_ask` is the place.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis

from lykke_cli.application.gateways.channels_protocol import Census
from lykke_cli.infrastructure.redis.client import plain_connection
from lykke_cli.infrastructure.redis.errors import redis_errors
from lykke_cli.infrastructure.redis.patterns import every_user
from lykke_cli.infrastructure.redis.urls import parse_redis_url

TIMEOUT = 5.0  # seconds to connect, and for each answer
BATCH = 500  # channels asked about at once


class RedisChannels:
    """Asks the Redis at `url`; raises UsageMistake for a malformed URL."""

    def __init__(self, url: str) -> None:
        address = parse_redis_url(url)
        self._server = address.display
        limits = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
        options = plain_connection(limits | address.pool_options())
        self._pool = ConnectionPool(**options)
        self._client = Redis(connection_pool=self._pool)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._pool.disconnect()

    async def census(self, channel_types: Sequence[str], pattern: str | None = None) -> Census:
        patterns = [every_user(each) for each in channel_types]
        patterns = patterns if pattern is None else [pattern]
        with redis_errors(self._server):
            # A pooled connection may have died since its last use: what a new one says decides,
            # and is raised outside of the other's handling, which would be taken for its cause.
            with suppress(exceptions.ConnectionError):
                return await _ask(self._client, patterns)
            return await _ask(self._client, patterns)


async def _ask(client: Redis, patterns: Sequence[str]) -> Census:
    names: set[Any] = set()  # of bytes: nothing is decoded for us
    for pattern in patterns:
        names.update(await client.pubsub_channels(pattern))
    ordered = sorted(names)
    subscribers: dict[str, int] = {}
    for start in range(0, len(ordered), BATCH):
        batch = ordered[start : start + BATCH]
        counts: list[Any] = await client.pubsub_numsub(*batch)
        for name, number in counts:
            if number:  # it may have gone meanwhile
                subscribers[name.decode("utf-8", "backslashreplace")] = number
    return Census(subscribers, await client.pubsub_numpat())
