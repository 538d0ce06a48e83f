"""A connection that is subscribed, retries nothing, and notices when the server has fallen silent.

redis-py's PubSub, left to itself, takes a lost subscription up again without a word, never notices
a server that has frozen, and takes many times as long for a message as parsing it does. So redis-py
connects and logs in; then what the server sends comes straight here. A broken connection is an
error, and a silent server is asked (PING) and given up when it does not answer.
"""

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import Any, Self

import hiredis
from redis import exceptions
from redis._parsers import BaseParser
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lykke_cli.application.gateways.pubsub_protocol import Deliveries

CLIENT_NAME = "lykke"
READ_SIZE = 131_072  # bytes: what is made of more does not fit into the processor's cache
FEED_SIZE = 16_384  # bytes; hiredis moves what is left of them forward each time it gives some
MOST_WAITING = 2  # batches of deliveries, after which the server has to wait
LOOK_INTERVAL = 0.1  # seconds between looks at a connection without a socket of its own
_PING = b"*1\r\n$4\r\nPING\r\n"
_NOT_ENOUGH_DATA = object()
_MESSAGES = (b"message", b"pmessage")


class SubscribedConnection(asyncio.BufferedProtocol):
    """Made by `open`; a loss is one of redis-py's errors, or an OSError."""

    def __init__(self, connection: AbstractConnection, health_interval: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._health_interval = health_interval
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._reader: Any = hiredis.Reader(
            protocolError=exceptions.InvalidResponse,
            replyError=BaseParser.parse_error,
            notEnoughData=_NOT_ENOUGH_DATA,
        )
        self._transport: asyncio.Transport | None = None
        self._looking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._confirmed = False
        self._paused = False
        self._batches: deque[Deliveries] = deque()
        self._loss: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._heard = self.opened = self._loop.time()
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
            "socket_timeout": None,  # sending never waits then
            "socket_connect_timeout": timeout,
        }
        connection = pool.connection_class(**options)
        link = cls(connection, health)
        try:
            async with asyncio.timeout(timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
                if connection.client_name is None:
                    await _set_name(connection)
                await link._subscribe(command, channel)
        except BaseException:
            await link.close()
            raise
        return link

    async def _subscribe(self, command: str, channel: str) -> None:
        writer = getattr(self._connection, "_writer", None)
        transport = writer.transport if isinstance(writer, asyncio.StreamWriter) else None
        if isinstance(transport, asyncio.Transport):
            transport.set_protocol(self)
            self._transport = transport
        else:  # a test double
            self._looking = asyncio.create_task(self._look())
        await self._connection.send_command(command, channel, check_health=False)
        while not self._confirmed:
            if self._loss is not None:
                raise self._loss
            await self.something()
        self.opened, self.confirmed_at = self._loop.time(), datetime.now(UTC)
        self._check_health()

    def take(self) -> Deliveries:
        """What came next, if anything did; raises what broke the connection after all of it."""
        if self._batches:
            batch = self._batches.popleft()
            if self._paused and self._transport is not None:
                self._paused = False
                self._heard = self._loop.time()
                self._transport.resume_reading()
            return batch
        if self._loss is not None:
            raise self._loss
        return Deliveries()

    async def something(self) -> None:
        """Wait until there is something to take; one may wait at a time."""
        if not self._batches and self._loss is None:
            self._waiter = self._loop.create_future()
            await self._waiter

    async def close(self) -> None:
        """Let the connection go; it does not wait for the server."""
        self._lose(exceptions.ConnectionError("the connection was closed"))
        if self._looking is not None:
            self._looking.cancel()
        await self._connection.disconnect(nowait=True)
        await asyncio.sleep(0)  # in which the loop closes the socket

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        replies: list[Any] = []
        garbled: exceptions.InvalidResponse | None = None
        try:
            for start in range(0, nbytes, FEED_SIZE):
                self._reader.feed(self._buffer, start, min(FEED_SIZE, nbytes - start))
                replies += iter(self._reader.gets, _NOT_ENOUGH_DATA)
        except exceptions.InvalidResponse as error:
            garbled = error
        self._received(replies)
        if garbled is not None:
            self._lose(garbled)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc or exceptions.ConnectionError("Connection closed by server."))

    def _received(self, replies: list[Any]) -> None:
        """The server said something, if only a part of a message."""
        self._heard, self._asked = self._loop.time(), None
        if not self._confirmed and replies:
            first = replies.pop(0)
            if isinstance(first, Exception):
                self._lose(first)
                return
            self._confirmed = True
            self._wake()
        batch = _deliveries(replies)
        if not batch:
            return
        self._batches.append(batch)
        self._wake()
        if len(self._batches) >= MOST_WAITING and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _lose(self, error: Exception) -> None:
        if self._loss is None:
            self._loss = error
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _check_health(self) -> None:
        """Ask a server that is silent for too long; give it up when it stays so.

        While our own side was busy, what the server said has piled up in the socket. But the loop
        looks there before it looks at its timers.
        """
        if self._transport is None:
            return
        now = self._loop.time()
        if self._paused:
            self._heard, self._asked = now, None
        since = self._heard if self._asked is None else self._asked
        if now >= since + self._health_interval:
            if self._asked is not None:
                silence = f"no sign of life for {now - self._heard:.3g} seconds"
                self._lose(exceptions.TimeoutError(silence))
                return
            self._transport.write(_PING)
            self._asked = since = now
        self._timer = self._loop.call_at(since + self._health_interval, self._check_health)

    async def _look(self) -> None:
        """Read through redis-py, where there is no socket to read from."""
        try:
            while True:
                reply = await self._connection.read_response(
                    timeout=LOOK_INTERVAL, disconnect_on_error=False
                )
                if reply is not None:
                    self._received([reply])
        except (exceptions.RedisError, OSError) as error:
            self._lose(error)


async def _set_name(connection: AbstractConnection) -> None:
    """For CLIENT LIST, where the server permits it."""
    await connection.send_command("CLIENT", "SETNAME", CLIENT_NAME, check_health=False)
    try:
        await connection.read_response()
    except exceptions.ResponseError:
        pass


def _deliveries(replies: list[Any]) -> Deliveries:
    """The messages among them; the channel and the payload come last."""
    if not _are_messages(replies):
        replies = [reply[-2:] for reply in replies if _are_messages([reply])]
    if not replies:
        return Deliveries()
    *_, channels, payloads = zip(*replies, strict=True)
    return Deliveries(channels, payloads)


def _are_messages(replies: list[Any]) -> bool:
    """True when each is one, and they are all of one kind."""
    try:
        kinds, *_, channels, payloads = zip(*replies, strict=True)
    except (TypeError, ValueError):  # not of one length
        return False
    kind = kinds[0]
    return (
        kind in _MESSAGES
        and kinds.count(kind) == len(kinds)
        and set(map(type, channels + payloads)) == {bytes}
    )
