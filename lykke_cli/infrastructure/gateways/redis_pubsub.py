"""PubSubGatewayProtocol on Redis."""

import asyncio
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload
from uuid import UUID
from weakref import WeakSet

from lykke_cli.application.backoff import CAP, Backoff
from lykke_cli.application.errors import (
    ServerUnavailable,
    SubscriptionClosed,
    SubscriptionLost,
    UsageMistake,
)
from lykke_cli.application.gateways.pubsub_protocol import Deliveries, Gap, Unreadable, channel_name
from lykke_cli.application.messages import decode_object, encode
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import DEFAULT_REDIS_URL
from lykke_cli.infrastructure.redis.connection import Refused, SubscribedConnection
from lykke_cli.infrastructure.redis.urls import RedisAddress, parse_redis_url

if TYPE_CHECKING:  # redis-py is slow to import: who only subscribes does without
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.connection import AbstractConnection

CONNECT_TIMEOUT = 5.0  # seconds to connect and to be confirmed as subscribed
HEALTH_INTERVAL = 10.0  # seconds of silence after which the server is asked for a sign of life
MOST_CONNECTIONS = 50  # to publish by; whoever finds all of them taken waits for one
PIPELINE_MESSAGES = 1_000
PIPELINE_BYTES = 1_048_576
QUIET = 1.0  # seconds after which a connection is asked for a sign of life before it is used
JUST_NOW = 0.001  # seconds after an answer in which no connection is looked at again
_STEPS_TO_HEAR = 2  # of the event loop, in which it hears that the server has closed a connection
STEADY = CAP  # seconds after which a connection counts as good, and back-off starts afresh
_GLOB = re.compile(r"([*?\[\]\\^])")

logger = logging.getLogger(__name__)


class RedisPubSubGateway:
    """One pooled client, made on first use, and used on one event loop.

    `url` (REDIS_URL, or redis://localhost:6379) may be redis://, rediss:// or unix://. A connection
    `pool` of the application's own, or a `client`, takes its place, and stays open when the gateway
    closes. Connecting, subscribing and publishing take `connect_timeout` seconds at most, or the
    URL's socket_connect_timeout. As many publish at once as the URL or the pool has
    max_connections, 50 where neither says so; the others wait within that time. A server that is
    silent for `health_interval` seconds is asked, and given up after as many again.
    What is published is sent at most once: a connection that was closed meanwhile is made anew
    before, and one that breaks before the answer leaves open whether the message has gone out,
    which the error says.
    Raises UsageMistake for a malformed URL, and for a use from another event loop.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: "Redis | None" = None,
        pool: "ConnectionPool | None" = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        health_interval: float = HEALTH_INTERVAL,
    ) -> None:
        if sum(given is not None for given in (url, client, pool)) > 1:
            raise UsageMistake("Give a url, a client or a pool: each says where the server is.")
        self._address: RedisAddress | None = None
        self._server = "the address of the given client"
        given = client.connection_pool if client is not None else pool
        if given is not None:
            most = min(given.max_connections, MOST_CONNECTIONS)
        else:
            self._address = parse_redis_url(url or os.environ.get("REDIS_URL") or DEFAULT_REDIS_URL)
            self._server = self._address.display
            most = self._address.max_connections or MOST_CONNECTIONS
            connect_timeout = self._address.options.get("socket_connect_timeout", connect_timeout)
        self._client = client
        self._pool = pool
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connect_timeout = connect_timeout
        self._health_interval = health_interval
        self._subscriptions: WeakSet[RedisSubscription] = WeakSet()
        self._links: set[SubscribedConnection] = set()
        self._heard: dict[AbstractConnection, float] = {}  # when each of the pool's last answered
        self._answered = 0.0  # when any of them did
        self._closed = False

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
        [outcome] = await self._publish([(channel_name(channel_type, user_id), encode(message))])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def publish_many(
        self, channel_type: str, messages: Sequence[tuple[UUID, Mapping[str, Any]]]
    ) -> list[int | Exception]:
        return await self._publish(
            [(channel_name(channel_type, user), encode(text)) for user, text in messages]
        )

    async def _publish(self, commands: Sequence[tuple[str, bytes]]) -> list[int | Exception]:
        """How many subscribers each reached, or why not; after a break the rest is tried."""
        outcomes: list[int | Exception] = []
        for some in _portions(commands):
            begun = len(outcomes)
            try:
                await self._send(some, outcomes)
            except ServerUnavailable as error:
                if len(outcomes) == begun or isinstance(error.__cause__, TimeoutError):
                    return outcomes + [error] * (len(commands) - len(outcomes))
        return outcomes

    async def _send(
        self, commands: Sequence[tuple[str, bytes]], outcomes: list[int | Exception]
    ) -> None:
        """Publish them by one connection, each once, and add their outcomes.

        Raises ServerUnavailable when it breaks, without outcomes where nothing had been sent.
        redis-py would send everything again then, what has arrived too. Here nothing is: that the
        connection is alive is made sure of before.
        """
        from redis import exceptions

        from lykke_cli.infrastructure.redis.client import taken
        from lykke_cli.infrastructure.redis.errors import redis_errors, translate

        pool, unanswered = self._redis().connection_pool, 0
        try:
            with redis_errors(self._server):
                async with asyncio.timeout(self._connect_timeout), self._free:
                    await self._hear()
                    async with taken(pool) as connection:
                        await self._make_sure_of(connection)
                        packed = connection.pack_commands(
                            [("PUBLISH", channel, data) for channel, data in commands]
                        )
                        unanswered = len(commands)
                        await connection.send_packed_command(packed, check_health=False)
                        while unanswered:
                            try:
                                outcomes.append(int(await connection.read_response()))
                            except exceptions.ResponseError as error:
                                outcomes.append(translate(error, self._server))
                            unanswered -= 1
                        self._answered = asyncio.get_running_loop().time()
                        self._heard[connection] = self._answered
        except ServerUnavailable as error:
            outcomes += [_uncertain(error)] * unanswered
            raise

    async def _hear(self) -> None:
        """Let the loop notice which connections were closed since the last answer."""
        if asyncio.get_running_loop().time() - self._answered > JUST_NOW:
            for _ in range(_STEPS_TO_HEAR):
                await asyncio.sleep(0)

    async def _make_sure_of(self, connection: "AbstractConnection") -> None:
        """Connect anew where nothing answers any more."""
        from redis import exceptions

        now = asyncio.get_running_loop().time()
        if now - self._heard.get(connection, -QUIET) < QUIET:
            return
        try:
            await connection.send_command("PING", check_health=False)
            await connection.read_response()
        except exceptions.ResponseError:
            pass  # not permitted: that is an answer too
        except (exceptions.ConnectionError, OSError):
            await connection.disconnect(nowait=True)
            await connection.connect()  # type: ignore[no-untyped-call]

    def subscribe_to_user_channel(
        self,
        user_id: UUID | None,
        channel_type: str,
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> "RedisSubscription":
        subscription = RedisSubscription(
            self, user_id, channel_type, reconnect=reconnect, on_gap=on_gap
        )
        self._subscriptions.add(subscription)
        return subscription

    async def close(self) -> None:
        if self._loop is not None and not self._closed:
            self._check_loop()
        self._closed = True
        for subscription in list(self._subscriptions):
            await subscription.close()
        for link in list(self._links):  # of subscriptions that were forgotten
            await self._disconnect(link)
        pool, self._pool, self._client = self._pool, None, None
        if pool is not None and self._address is not None:
            from redis import exceptions

            try:
                await pool.disconnect()
            except (exceptions.RedisError, OSError) as error:
                logger.debug("Closing the connections to %s failed: %s", self._server, error)

    async def _connect(self, user_id: UUID | None, channel_type: str) -> SubscribedConnection:
        """A connection of its own, subscribed; raises ServerUnavailable."""
        if user_id is None:
            pattern = _GLOB.sub(r"\\\1", channel_type)
            command, channel = "PSUBSCRIBE", channel_name(pattern, None)
        else:
            command, channel = "SUBSCRIBE", channel_name(channel_type, user_id)
        self._check_open()
        limits = {"timeout": self._connect_timeout, "health": self._health_interval}
        if self._address is None:
            from lykke_cli.infrastructure.redis.errors import redis_errors
            from lykke_cli.infrastructure.redis.lent_connection import LentConnection

            link: SubscribedConnection
            with redis_errors(self._server):
                link = await LentConnection.open_through(
                    self._redis().connection_pool, command, channel, **limits
                )
        else:
            try:
                link = await SubscribedConnection.open(self._address, command, channel, **limits)
            except (OSError, Refused) as error:
                from lykke_cli.infrastructure.redis.errors import translate

                raise translate(error, self._server) from error
        self._links.add(link)
        return link

    async def _disconnect(self, link: SubscribedConnection) -> None:
        self._links.discard(link)
        await link.close()

    def _check_open(self) -> None:
        if self._closed:
            raise LykkeError("The gateway was closed.")
        self._check_loop()

    def _check_loop(self) -> None:
        """What is open belongs to the event loop on which it was opened."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise UsageMistake(
                "This gateway is used on another event loop: make one in each, inside a coroutine."
            )

    def _redis(self) -> "Redis":
        self._check_open()
        if self._client is None:
            from redis.asyncio import Redis

            self._pool = self._pool or self._make_pool()
            self._client = Redis(connection_pool=self._pool)
        return self._client

    def _make_pool(self) -> "ConnectionPool":
        from redis.asyncio import ConnectionPool

        from lykke_cli.infrastructure.redis.client import plain_connection

        assert self._address is not None
        options: dict[str, Any] = {
            # No socket_timeout: redis-py would send within asyncio.wait_for, which on
            # Python 3.11 may swallow a cancellation, and with it somebody's Ctrl-C.
            "socket_timeout": None,
            "socket_connect_timeout": self._connect_timeout,
            **self._address.pool_options(),
        }
        return ConnectionPool(max_connections=self._most, **plain_connection(options))


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
    ) -> None:
        self._gateway = gateway
        self._user_id = user_id
        self._channel_type = channel_type
        self._channel = channel_name(channel_type, user_id)
        self._reconnect = reconnect
        self._on_gap = on_gap
        self._entered = False
        self._closed = False
        self._turn = asyncio.Lock()
        self._ready = Deliveries()
        self._taken = 0  # of those, one by one
        self._link: SubscribedConnection | None = None
        self._attempt: asyncio.Task[SubscribedConnection] | None = None
        self._backoff = Backoff()
        self._loss = ""
        self._lost_at: datetime | None = None
        self._gap: Gap | None = None  # since the latest that was given to a reader

    async def __aenter__(self) -> Self:
        if self._closed:
            raise SubscriptionClosed
        if self._entered:
            raise UsageMistake("The subscription is open already.")
        link = await self._gateway._connect(self._user_id, self._channel_type)
        self._entered = True
        try:
            self._check_open()
        except SubscriptionClosed:  # meanwhile
            await self._gateway._disconnect(link)
            raise
        self._link = link
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._link is not None or self._attempt is not None:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)

    @overload
    async def get_message(
        self, timeout: float | None = None, *, gaps: Literal[False] = False
    ) -> dict[str, Any] | Unreadable | None: ...
    @overload
    async def get_message(
        self, timeout: float | None = None, *, gaps: bool
    ) -> dict[str, Any] | Unreadable | Gap | None: ...
    async def get_message(
        self, timeout: float | None = None, *, gaps: bool = False
    ) -> dict[str, Any] | Unreadable | Gap | None:
        if not await self._wait(timeout, gaps=gaps):
            return None
        if gaps and self._gap is not None:
            gap, self._gap = self._gap, None
            return gap
        self._taken += 1
        return decode_object(self._ready.payloads[self._taken - 1])

    async def get_deliveries(self, timeout: float | None = None) -> Deliveries:
        if not await self._wait(timeout):
            return Deliveries()
        ready = self._ready[self._taken :] if self._taken else self._ready
        self._ready, self._taken = Deliveries(), 0
        return ready

    async def send_message(self, message: Mapping[str, Any]) -> int:
        self._check_open()
        if self._user_id is None:
            raise UsageMistake("A subscription to every user has no channel of its own to send to.")
        return await self._gateway.publish_to_user_channel(
            self._user_id, self._channel_type, message
        )

    async def close(self) -> None:
        self._closed = True
        link, self._link = self._link, None
        attempt, self._attempt = self._attempt, None
        if link is not None:
            await self._gateway._disconnect(link)
        if attempt is not None:
            attempt.cancel()
            await asyncio.wait({attempt})
            if not attempt.cancelled() and attempt.exception() is None:
                await self._gateway._disconnect(attempt.result())

    def _is_ready(self, gaps: bool) -> bool:
        return self._taken < len(self._ready) or (gaps and self._gap is not None)

    async def _wait(self, timeout: float | None, *, gaps: bool = False) -> bool:
        """True when a delivery is ready, or with `gaps` a gap, which then came before it.

        A cancelled wait leaves everything as it was.
        """
        self._check_open()
        if self._is_ready(gaps):
            return True
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            async with asyncio.timeout_at(deadline), self._turn:
                while not self._is_ready(gaps):
                    self._check_open()
                    await self._step()
        except TimeoutError:
            return False
        return True

    async def _step(self) -> None:
        """Take what came, or come a step nearer to it."""
        link = self._link
        if link is None:
            if not self._reconnect:
                raise SubscriptionLost(self._loss, since=self._lost_at)
            await self._resume()
            return
        try:
            self._ready, self._taken = link.take(), 0
        except OSError as error:
            if self._closed:
                raise SubscriptionClosed from None
            from lykke_cli.infrastructure.redis.errors import reason

            self._link = None
            self._lost_at = link.last_heard
            self._loss = (
                f"The connection to Redis at {self._gateway._server} was lost ({reason(error)})."
            )
            if asyncio.get_running_loop().time() - link.opened > STEADY:
                self._backoff.reset()
            if self._reconnect:
                logger.warning("%s Subscribing to %s again.", self._loss, self._channel)
            await self._gateway._disconnect(link)
            if not self._reconnect:
                raise SubscriptionLost(self._loss, since=self._lost_at) from error
        else:
            if not self._ready:
                await link.something()

    async def _resume(self) -> None:
        """Subscribe after a loss; an attempt goes on when a caller's time is over."""
        if self._attempt is None:
            self._attempt = asyncio.create_task(self._try_again(self._backoff.next()))
        attempt = self._attempt
        await asyncio.wait({attempt})
        self._check_open()
        self._attempt = None
        try:
            self._link = attempt.result()
        except ServerUnavailable as error:
            if str(error) != self._loss:
                self._loss = str(error)
                logger.warning("%s", error)
        else:
            self._report(Gap(self._lost_at or self._link.confirmed_at, self._link.confirmed_at))

    async def _try_again(self, delay: float) -> SubscribedConnection:
        await asyncio.sleep(delay)
        return await self._gateway._connect(self._user_id, self._channel_type)

    def _report(self, gap: Gap) -> None:
        logger.warning(
            "Subscribed to %s again; messages from %s to %s may be missing.",
            self._channel,
            gap.started_at.isoformat(timespec="milliseconds"),
            gap.ended_at.isoformat(timespec="milliseconds"),
        )
        self._gap = gap if self._gap is None else Gap(self._gap.started_at, gap.ended_at)
        if self._on_gap is not None:
            self._on_gap(gap)

    def _check_open(self) -> None:
        if self._closed:
            raise SubscriptionClosed
        if not self._entered:
            raise SubscriptionClosed("The subscription is not open: use it in `async with`.")
        self._gateway._check_loop()


def _uncertain(error: ServerUnavailable) -> ServerUnavailable:
    """What is known of a message that was sent and not answered."""
    text = f"{error.problem} What was sent and not answered may have been published."
    uncertain = type(error)(text, remedy=error.remedy)
    uncertain.__cause__ = error
    return uncertain


def _portions(commands: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """The commands in order, as many together as are sent before the first answer is read."""
    some: list[tuple[str, bytes]] = []
    size = 0
    for command in commands:
        if some and (len(some) == PIPELINE_MESSAGES or size + len(command[1]) > PIPELINE_BYTES):
            yield some
            some, size = [], 0
        some.append(command)
        size += len(command[1])
    if some:
        yield some
