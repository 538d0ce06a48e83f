"""PubSubGatewayProtocol on Redis.

redis-py, left to itself, takes a lost subscription up again without a word, and never notices a
server that has frozen. So nothing is retried below this module: a broken connection is an event,
and a silent one is asked (PING) and given up when it does not answer.
"""

import asyncio
import logging
import os
import re
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import (
    ServerUnavailable,
    SubscriptionClosed,
    SubscriptionLost,
    UsageMistake,
)
from lykke_cli.application.gateways.pubsub_protocol import Delivery, Gap, Unreadable, channel_name
from lykke_cli.application.messages import decode_object, encode
from lykke_cli.infrastructure.gateways.redis_errors import display_url, reason, redis_errors

DEFAULT_URL = "redis://localhost:6379"
CONNECT_TIMEOUT = 5.0  # seconds to connect and to be confirmed as subscribed
HEALTH_INTERVAL = 10.0  # seconds of silence after which the server is asked for a sign of life
MOST_DELIVERIES = 1_000  # in one answer of get_deliveries
_GLOB = re.compile(r"([*?\[\]\\^])")

logger = logging.getLogger(__name__)


class RedisPubSubGateway:
    """One pooled client, made on first use.

    `url` (REDIS_URL, or redis://localhost:6379) may be redis://, rediss:// or unix://. A `client`
    of one's own takes its place; it must not decode responses. A server that is silent for
    `health_interval` seconds is asked, and given up after as many again. Raises UsageMistake for a
    malformed URL.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: "Redis | None" = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        health_interval: float = HEALTH_INTERVAL,
    ) -> None:
        self._url = url or os.environ.get("REDIS_URL") or DEFAULT_URL
        self._server = "the given client" if client is not None else display_url(self._url)
        self._client = client
        self._connect_timeout = connect_timeout
        self._health_interval = health_interval

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def publish_to_user_channel(
        self, user_id: UUID, channel_type: str, message: Mapping[str, Any]
    ) -> int:
        channel, data = channel_name(channel_type, user_id), encode(message)
        with redis_errors(self._server):
            try:
                return int(await self._redis().publish(channel, data))
            except exceptions.ConnectionError:
                # A pooled connection may have died since its last use: a new one decides.
                return int(await self._redis().publish(channel, data))

    def subscribe_to_user_channel(
        self,
        user_id: UUID | None,
        channel_type: str,
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> "RedisSubscription":
        return RedisSubscription(
            self,
            user_id,
            channel_type,
            reconnect=reconnect,
            on_gap=on_gap,
            connect_timeout=self._connect_timeout,
            health_interval=self._health_interval,
        )

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _redis(self) -> "Redis":
        if self._client is None:
            try:
                self._client = Redis.from_url(
                    self._url,
                    protocol=2,  # a subscribed connection answers a PING in the message stream
                    retry=Retry(NoBackoff(), 0),
                    socket_connect_timeout=self._connect_timeout,
                    socket_timeout=self._connect_timeout,
                    health_check_interval=0,
                )
            except (ValueError, TypeError, AttributeError):
                raise UsageMistake(
                    f"The Redis URL {self._server} has an option that is not understood."
                ) from None
        return self._client


class RedisSubscription:
    """PubSubSubscription on a connection of its own; made by the gateway."""

    def __init__(
        self,
        gateway: RedisPubSubGateway,
        user_id: UUID | None,
        channel_type: str,
        *,
        reconnect: bool,
        on_gap: Callable[[Gap], None] | None,
        connect_timeout: float,
        health_interval: float,
    ) -> None:
        self._gateway = gateway
        self._user_id = user_id
        self._channel_type = channel_type
        self._channel = channel_name(channel_type, user_id)
        self._reconnect = reconnect
        self._on_gap = on_gap
        self._connect_timeout = connect_timeout
        self._health_interval = health_interval
        self._pubsub: PubSub | None = None
        self._entered = False
        self._closed = False
        self._ready: deque[Delivery] = deque()
        self._silence = 0.0  # seconds waited since the last sign of life
        self._asked = False
        self._backoff = Backoff()
        self._lost_at: datetime | None = None

    async def __aenter__(self) -> Self:
        if self._closed:
            raise SubscriptionClosed
        await self._open()
        self._entered = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._pubsub is not None:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)

    async def get_message(self, timeout: float | None = None) -> dict[str, Any] | Unreadable | None:
        if not self._ready:
            self._ready.extend(await self.get_deliveries(timeout))
        return decode_object(self._ready.popleft().payload) if self._ready else None

    async def get_deliveries(self, timeout: float | None = None) -> list[Delivery]:
        if self._closed or not self._entered:
            raise SubscriptionClosed
        if self._ready:
            ready = list(self._ready)
            self._ready.clear()
            return ready
        try:
            async with asyncio.timeout(timeout):
                while True:
                    if self._pubsub is None:
                        await self._open_again()
                    try:
                        return await self._receive()
                    except SubscriptionLost as error:
                        if not self._reconnect:
                            raise
                        logger.warning("%s; subscribing to it again", error)
        except TimeoutError:
            return []

    async def send_message(self, message: Mapping[str, Any]) -> int:
        if self._closed or not self._entered:
            raise SubscriptionClosed
        if self._user_id is None:
            raise UsageMistake("A subscription to every user has no channel of its own to send to.")
        return await self._gateway.publish_to_user_channel(
            self._user_id, self._channel_type, message
        )

    async def close(self) -> None:
        self._closed = True
        await self._drop()

    async def _open(self) -> None:
        """Subscribe and wait for the server's confirmation."""
        server = self._gateway._server
        with redis_errors(server):
            self._pubsub = self._gateway._redis().pubsub()
            try:
                async with asyncio.timeout(self._connect_timeout):
                    if self._user_id is None:
                        pattern = _GLOB.sub(r"\\\1", self._channel_type)
                        await self._pubsub.psubscribe(f"{pattern}:*")
                    else:
                        await self._pubsub.subscribe(self._channel)
                    while await self._pubsub.get_message(timeout=self._connect_timeout) is None:
                        pass
            except BaseException:
                await self._drop()
                raise
        self._silence, self._asked = 0.0, False

    async def _open_again(self) -> None:
        """Subscribe after a loss, however long it takes, and report the gap."""
        while True:
            await asyncio.sleep(self._backoff.next())
            try:
                await self._open()
            except ServerUnavailable as error:
                logger.debug("%s", error)
            else:
                break
        self._backoff.reset()
        now = datetime.now(UTC)
        gap = Gap(self._lost_at or now, now)
        logger.warning(
            "Subscribed to %s again; messages from %s to %s may be missing",
            self._channel,
            gap.started_at.isoformat(timespec="milliseconds"),
            gap.ended_at.isoformat(timespec="milliseconds"),
        )
        if self._on_gap is not None:
            self._on_gap(gap)

    async def _receive(self) -> list[Delivery]:
        """What is there, at least one; raises SubscriptionLost."""
        try:
            deliveries = _delivery(await self._next())
            while not deliveries:
                deliveries = _delivery(await self._next())
            while self._pubsub is not None and len(deliveries) < MOST_DELIVERIES:
                more = await self._pubsub.get_message(timeout=0)  # what has arrived already
                if more is None:
                    break
                deliveries += _delivery(more)
            return deliveries
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            self._lost_at = datetime.now(UTC)
            await self._drop()
            raise SubscriptionLost(
                f"The connection to Redis at {self._gateway._server} was lost ({reason(error)})."
            ) from error

    async def _next(self) -> dict[str, Any]:
        """The next thing the server says; asks it when it is silent for too long."""
        pubsub = self._pubsub
        if pubsub is None:
            raise SubscriptionClosed
        loop = asyncio.get_running_loop()
        while True:
            # Only time spent waiting here is silence: while our own side was busy, what the server
            # said has piled up in the socket.
            started = loop.time()
            try:
                said = await pubsub.get_message(timeout=self._health_interval - self._silence)
            except exceptions.ResponseError:
                said = {"type": "pong"}  # it may not be permitted to ask, but it answered
            finally:
                self._silence += loop.time() - started
            if said is not None:
                self._silence, self._asked = 0.0, False
                return dict(said)
            if self._silence >= self._health_interval:
                if self._asked:
                    raise exceptions.TimeoutError(
                        f"no sign of life for {2 * self._health_interval:g} s"
                    )
                self._silence, self._asked = 0.0, True
                await pubsub.ping()

    async def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            await pubsub.aclose()  # type: ignore[no-untyped-call]


def _delivery(said: Mapping[str, Any]) -> list[Delivery]:
    if said["type"] not in ("message", "pmessage"):
        return []
    return [Delivery(said["channel"].decode("utf-8", "replace"), said["data"])]
