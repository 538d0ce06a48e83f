"""Where the server is now: asked anew at each attempt to connect."""

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from lykke_cli.infrastructure.redis.cluster import NotJoined, check_is_joined, find_joined
from lykke_cli.infrastructure.redis.connection import Refused
from lykke_cli.infrastructure.redis.sentinels import find_primary
from lykke_cli.infrastructure.redis.urls import Cluster, Node, RedisAddress, Sentinels, shown

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


async def why_not(address: RedisAddress, node: Node) -> str | None:
    """Why one that is on this node should be elsewhere; None where nobody says so.

    A replica, and a node that was cut off from its cluster, answer as ever. But what is published
    through them reaches nobody, and nothing that is published arrives by them.
    """
    try:
        match address.among:
            case Sentinels() as sentinels:
                primary = await find_primary(address, sentinels)
                return None if primary == node else f"{shown(primary)} is the primary now"
            case Cluster():
                await check_is_joined(address, node)
    except NotJoined as error:
        return str(error)
    except (OSError, Refused):
        pass  # whether it lives is asked elsewhere
    return None


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
            """Raises ConnectionError where what is published here reaches nobody."""
            async with asyncio.timeout(self.socket_connect_timeout):
                reason = await why_not(self._meant, (self.host, self.port))
            if reason is not None:
                raise ConnectionError(reason)

    return Finding
