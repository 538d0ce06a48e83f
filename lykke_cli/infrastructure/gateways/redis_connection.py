"""A connection that is subscribed, retries nothing, and notices when the server has fallen silent.

redis-py's PubSub, left to itself, takes a lost subscription up again without a word, and never
notices a server that has frozen. So this reads from a connection directly: a broken one is an
error, and a silent one is asked (PING) and given up when it does not answer.
"""

import asyncio
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Self

from redis import exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA, _AsyncHiredisParser
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lykke_cli.application.gateways.pubsub_protocol import Delivery

CLIENT_NAME = "lykke"
LAST_LOOK = 0.1  # seconds for what may have piled up unread while our own side was busy
MOST_AT_ONCE = (
    200  # deliveries, after which they are handed on: few enough to stay in the processor's cache
)
READS_AT_ONCE = 256  # after which they are handed on too: large ones fill the memory sooner
READ_SIZE = 16_384  # bytes; hiredis moves what is left of a read forward each time it gives some
_MESSAGES = (b"message", b"pmessage")


class SubscribedConnection:
    """Made by `open`; raises redis-py's errors, each of which means that it is lost."""

    def __init__(self, connection: AbstractConnection, health_interval: float) -> None:
        self._connection = connection
        self._health_interval = health_interval
        self._heard = self.opened = asyncio.get_running_loop().time()
        self._asked: float | None = None
        self.confirmed_at = datetime.now(UTC)

    @classmethod
    async def open(
        cls, pool: ConnectionPool, command: str, channel: str, *, timeout: float, health: float
    ) -> Self:
        """Connect as the pool would, subscribe, and wait for the confirmation."""
        options = pool.connection_kwargs | {
            "protocol": 2,  # here a subscribed connection's PING is answered among the messages
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
            "retry_on_error": [],
            "health_check_interval": 0,
            "decode_responses": False,
            "socket_read_size": READ_SIZE,
            "socket_timeout": None,  # every wait below has its own; sending never waits then
            "socket_connect_timeout": timeout,
        }
        connection = pool.connection_class(**options)
        try:
            async with asyncio.timeout(timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
                if connection.client_name is None:
                    await _set_name(connection)
                await connection.send_command(command, channel, check_health=False)
                await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection, health)

    async def read_into(self, deliveries: deque[Delivery], deadline: float) -> bool:
        """Add what is there, at least one; False when the loop's time reaches `deadline`."""
        while not deliveries:
            said = await self._next(deadline)
            if said is None:
                return False
            deliveries += _deliveries([said])
        try:
            await self._take_what_is_there(deliveries)
        except (exceptions.RedisError, OSError):
            pass  # what came before is delivered first; the next read fails again
        return True

    async def _take_what_is_there(self, deliveries: deque[Delivery]) -> None:
        """Without waiting. One by one, as redis-py gives replies, would take many times as long."""
        parser: Any = getattr(self._connection, "_parser", None)
        stream: Any = getattr(parser, "_stream", None)
        is_hiredis = isinstance(parser, _AsyncHiredisParser)
        if is_hiredis and isinstance(stream, asyncio.StreamReader):  # and no test double
            reader, there = parser._reader, parser._stream._buffer
            for _ in range(READS_AT_ONCE):
                deliveries += _deliveries(list(iter(reader.gets, NOT_ENOUGH_DATA)))
                if len(deliveries) >= MOST_AT_ONCE or not there:
                    return
                await parser.read_from_socket()
            return
        while len(deliveries) < MOST_AT_ONCE and await self._connection.can_read():
            said = await self._look(0)
            if said is None:
                return
            deliveries += _deliveries([said])

    async def close(self) -> None:
        """Let the connection go; it does not wait for the server."""
        await self._connection.disconnect(nowait=True)
        await asyncio.sleep(0)  # in which the loop closes the socket

    async def _next(self, deadline: float) -> list[Any] | None:
        """The next thing the server says; asks it when it is silent for too long."""
        clock = asyncio.get_running_loop().time
        while True:
            # Silence alone proves nothing: while our own side was busy, what the server said has
            # piled up in the socket. So a look there, begun after the limit, has the last word.
            limit = (self._heard if self._asked is None else self._asked) + self._health_interval
            now = clock()
            overdue = now >= limit
            wait = LAST_LOOK if overdue else limit - now
            said = await self._look(max(0.0, min(wait, deadline - now)))
            if said is not None:
                self._heard, self._asked = clock(), None
                return said
            now = clock()
            if now >= limit and self._asked is None:
                await self._ask()
                self._asked = now
            elif overdue:
                raise exceptions.TimeoutError(
                    f"no sign of life for {now - self._heard:.3g} seconds"
                )
            if now >= deadline:
                return None

    async def _look(self, wait: float) -> list[Any] | None:
        connection = self._connection
        try:
            said = await connection.read_response(timeout=wait, disconnect_on_error=False)
            if said is None and connection.is_connected and await connection.can_read():
                # It arrived in the moment in which the time ran out.
                said = await connection.read_response(timeout=0, disconnect_on_error=False)
        except exceptions.ResponseError:
            return []  # it may not be permitted to ask, but the server answered
        return said if said is None or isinstance(said, list) else []

    async def _ask(self) -> None:
        if not self._connection.is_connected:  # or redis-py would connect anew
            raise exceptions.ConnectionError("the connection was closed")
        await self._connection.send_command("PING", check_health=False)


async def _set_name(connection: AbstractConnection) -> None:
    """For CLIENT LIST, where the server permits it."""
    await connection.send_command("CLIENT", "SETNAME", CLIENT_NAME, check_health=False)
    try:
        await connection.read_response()
    except exceptions.ResponseError:
        pass


def _deliveries(replies: list[Any]) -> list[Delivery]:
    """The messages among them; the channel and the payload come last."""
    return [
        Delivery(_text(reply[-2]), reply[-1])
        for reply in replies
        if isinstance(reply, list) and len(reply) > 2 and reply[0] in _MESSAGES
    ]


@lru_cache(maxsize=1_000)  # most messages come on a few channels
def _text(channel: bytes) -> str:
    return channel.decode("utf-8", "replace")
