"""Where the server is now: asked anew at each attempt to connect."""

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from lykke_cli.infrastructure.redis.cluster import check_is_joined, find_joined
from lykke_cli.infrastructure.redis.sentinels import find_primary
from lykke_cli.infrastructure.redis.urls import Cluster, Node, RedisAddress, Sentinels

if TYPE_CHECKING:  # who only subscribes does without redis-py
    from redis.asyncio.connection import Connection


async def locate(address: RedisAddress) -> RedisAddress:
    """Where the server that `address` means is at this moment; raises OSError and Refused.

    There is no time-out: it is the caller's.
    """
    match address.among:
        case None:
            return address
        case Sentinels() as sentinels:
            return at(address, await find_primary(address, sentinels))
        case Cluster() as cluster:
            return at(address, await find_joined(address, cluster))


def at(address: RedisAddress, node: Node) -> RedisAddress:
    """The same login on this node."""
    options = address.options | {"host": node[0], "port": node[1]}
    return msgspec.structs.replace(address, options=options)


@cache
def finding(kind: "type[Connection]") -> "type[Connection]":
    """A connection of this kind of redis-py's that is made to where the server `meant` is."""

    class Finding(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *, meant: RedisAddress, **options: Any) -> None:
            super().__init__(**options)
            self._meant = meant

        async def connect(self) -> None:
            if not self.is_connected:
                async with asyncio.timeout(self.socket_connect_timeout):
                    options = (await locate(self._meant)).options
                self.host, self.port = options["host"], options["port"]
            await super().connect()

        async def check_place(self) -> None:
            """Raises OSError where what is published here reaches nobody."""
            async with asyncio.timeout(self.socket_connect_timeout):
                if isinstance(self._meant.among, Cluster):
                    await check_is_joined(self._meant, (self.host, self.port))
                    return
                options = (await locate(self._meant)).options
            if (options["host"], options["port"]) != (self.host, self.port):
                raise ConnectionError("another server is the primary now")

    return Finding
