"""A subscribed connection that redis-py makes: from an application's client or pool, or a fake one.

This is the one file that leans on how redis-py works inside: a connection keeps its stream as
`_writer`. Where it does not, as a test double may not, messages are read through redis-py: slower,
and a server that has fallen silent is not noticed.
"""

import asyncio
from collections.abc import Sequence
from typing import Self

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import RedisError

from lykke_cli.infrastructure.redis.client import kept_cancellation, plain_connection
from lykke_cli.infrastructure.redis.connection import Command, SubscribedConnection

LOOK_INTERVAL = 0.1  # seconds between looks at a connection without a stream of its own


class LentConnection(SubscribedConnection):
    """Made by `open_through`; a loss is an OSError."""

    def __init__(self, health_interval: float, connection: AbstractConnection) -> None:
        super().__init__(health_interval)
        self._connection = connection
        self._looking: asyncio.Task[None] | None = None

    @classmethod
    async def open_through(
        cls, pool: ConnectionPool, commands: Sequence[Command], *, timeout: float, health: float
    ) -> Self:
        """Connect as `pool` would, and have the `commands` answered.

        Raises OSError, Refused and RedisError.
        """
        options = plain_connection(pool.connection_kwargs)
        options |= {"health_check_interval": 0, "decode_responses": False}
        link = cls(health, pool.connection_class(**options))
        async with link._opening(timeout):
            with kept_cancellation():
                await link._connect()
                await link.ask(*commands)
        return link

    async def _connect(self) -> None:
        connection = self._connection
        await connection.connect()  # type: ignore[no-untyped-call]
        writer = stream_of(connection)
        if writer is not None:
            writer.transport.set_protocol(self)
            self.connection_made(writer.transport)
        else:
            self._looking = asyncio.create_task(self._look())

    async def _send(self, commands: Sequence[Command]) -> None:
        if self._looking is None:
            await super()._send(commands)
            return
        try:
            for command in commands:
                await self._connection.send_command(*command, check_health=False)
        except RedisError as error:
            self._lose(ConnectionError(str(error)))

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._lose(ConnectionError("the connection was closed"))
        await self._connection.disconnect(nowait=True)
        await asyncio.sleep(0)  # in which the loop closes the socket

    async def _look(self) -> None:
        try:
            while True:
                reply = await self._connection.read_response(
                    timeout=LOOK_INTERVAL, disconnect_on_error=False
                )
                if reply is not None:
                    self._received([reply])
        except (RedisError, OSError) as error:
            self._lose(ConnectionError(str(error)))


def stream_of(connection: AbstractConnection) -> asyncio.StreamWriter | None:
    """What redis-py writes to; None where that cannot be had."""
    writer = getattr(connection, "_writer", None)
    return writer if isinstance(writer, asyncio.StreamWriter) else None
