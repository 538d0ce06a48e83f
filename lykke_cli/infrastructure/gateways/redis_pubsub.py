"""PubSubGatewayProtocol on Redis."""

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID
from weakref import WeakSet

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.errors import ServerUnavailable, SubscriptionLost, UsageMistake
from lykke_cli.application.gateways.pubsub_protocol import (
    Channel,
    Deliveries,
    Gap,
    MultiplexedSubscription,
    PubSubGatewayProtocol,
    channel_name,
)
from lykke_cli.application.messages import encode
from lykke_cli.application.reconnecting import Reconnecting
from lykke_cli.application.subscription import Subscription
from lykke_cli.domain.errors import LykkeError
from lykke_cli.infrastructure.configuration.settings import DEFAULT_REDIS_URL
from lykke_cli.infrastructure.configuration.transport import Transport
from lykke_cli.infrastructure.redis.connection import (
    Command,
    Refused,
    SubscribedConnection,
    link_errors,
)
from lykke_cli.infrastructure.redis.patterns import commands_for
from lykke_cli.infrastructure.redis.topology import locate
from lykke_cli.infrastructure.redis.topology import why_not as find_out_why_not
from lykke_cli.infrastructure.redis.urls import RedisAddress, parse_redis_url, shown

if TYPE_CHECKING:  # redis-py is slow to import: who only subscribes does without
    from typing import Unpack

    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.connection import AbstractConnection

    from lykke_cli.infrastructure.redis.consumer import ConsumerOptions, RedisGroupConsumer

CONNECT_TIMEOUT = 5.0  # seconds to connect and to be confirmed as subscribed
HEALTH_INTERVAL = 10.0  # seconds of silence after which the server is asked for a sign of life
MOST_CONNECTIONS = 50  # to publish by; whoever finds all of them taken waits for one
PIPELINE_MESSAGES = 1_000
PIPELINE_BYTES = 1_048_576
QUIET = 1.0  # seconds after which a connection is asked for a sign of life before it is used
JUST_NOW = 0.001  # seconds after an answer in which no connection is looked at again
_STEPS_TO_HEAR = 2  # of the event loop, in which it hears that the server has closed a connection

logger = logging.getLogger(__name__)


class RedisPubSubGateway(PubSubGatewayProtocol):
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
            self._address = self._meant(url)
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
        self._subscriptions: WeakSet[Subscription] = WeakSet()
        self._links: set[SubscribedConnection] = set()
        self._heard: dict[AbstractConnection, float] = {}  # when each of the pool's last answered
        self._answered = 0.0  # when any of them did
        self._closed = False

    _publishing = "PUBLISH"
    _transports: ClassVar[Collection[Transport]] = (Transport.PUBSUB,)

    def _meant(self, url: str | None) -> RedisAddress:
        address = parse_redis_url(url or os.environ.get("REDIS_URL") or DEFAULT_REDIS_URL)
        if address.transport not in self._transports:
            raise UsageMistake(
                f"transport={address.transport} is what another gateway than "
                f"{type(self).__name__} is for."
            )
        return address

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

        from lykke_cli.infrastructure.redis.client import kept_cancellation, taken
        from lykke_cli.infrastructure.redis.errors import redis_errors, translate

        pool, unanswered = self._redis().connection_pool, 0
        try:
            with kept_cancellation(), redis_errors(self._server):
                async with asyncio.timeout(self._connect_timeout), self._free:
                    await self._hear()
                    async with taken(pool) as connection:
                        await self._make_sure_of(connection)
                        packed = connection.pack_commands(
                            [(self._publishing, channel, data) for channel, data in commands]
                        )
                        unanswered = len(commands)
                        await connection.send_packed_command(packed, check_health=False)
                        while unanswered:
                            try:
                                outcomes.append(int(await connection.read_response()))
                            except exceptions.ResponseError as error:
                                refusal = translate(error, self._server)
                                refusal.__cause__ = error
                                outcomes.append(refusal)
                            unanswered -= 1
                        self._answered = asyncio.get_running_loop().time()
                        self._heard[connection] = self._answered
        except ServerUnavailable as error:
            outcomes += [uncertain(error)] * unanswered
            raise

    async def _hear(self) -> None:
        """Let the loop notice which connections were closed since the last answer."""
        if asyncio.get_running_loop().time() - self._answered > JUST_NOW:
            for _ in range(_STEPS_TO_HEAR):
                await asyncio.sleep(0)

    async def _make_sure_of(self, connection: "AbstractConnection") -> None:
        """Connect anew where nothing answers any more."""
        from redis import exceptions

        from lykke_cli.infrastructure.redis.client import is_untouched

        now = asyncio.get_running_loop().time()
        heard = now - self._heard.get(connection, -QUIET) < QUIET
        if heard and await is_untouched(connection):
            return
        try:
            if (check_place := getattr(connection, "check_place", None)) is not None:
                await check_place()  # a replica takes what is published, and passes it to no other
            await connection.send_command("PING", check_health=False)
            await connection.read_response()
        except exceptions.ResponseError:
            pass  # not permitted: that is an answer too
        except (exceptions.ConnectionError, OSError):
            await connection.disconnect(nowait=True)
            await connection.connect()  # type: ignore[no-untyped-call]

    def subscribe_to_channels(
        self,
        channels: Iterable[Channel],
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> MultiplexedSubscription:
        subscription = (
            Reconnecting(self, channels, on_gap=on_gap) if reconnect else self._once(channels)
        )
        self._subscriptions.add(subscription)
        return subscription

    def consume(
        self,
        *,
        group: str,
        consumer: str | None = None,
        channel_type: str = AUDIT_LOG,
        **options: "Unpack[ConsumerOptions]",
    ) -> "RedisGroupConsumer":
        """A member of a group that shares what is in the streams, not yet open: enter it.

        Its connections are its own: it stays open when the gateway closes. What it takes is said in
        RedisGroupConsumer. Raises UsageMistake, also where the gateway was given a client or pool.
        """
        from lykke_cli.infrastructure.redis.consumer import RedisGroupConsumer

        if self._address is None:
            raise UsageMistake("A group is consumed by connections of its own: give a url.")
        return RedisGroupConsumer(
            self._address, channel_type, group=group, consumer=consumer, **options
        )

    def _once(self, channels: Iterable[Channel]) -> Subscription:
        """A subscription that raises what breaks it."""
        return RedisSubscription(self, channels)

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

    async def _connect(self, channels: Set[Channel]) -> SubscribedConnection:
        """A connection of its own, subscribed; raises ServerUnavailable."""
        self._check_open()
        commands = list(commands_for("SUBSCRIBE", channels))
        if self._address is not None:
            with self._translated():
                return await self._open_link(await self._locate(self._address), commands)
        from lykke_cli.infrastructure.redis.errors import redis_errors
        from lykke_cli.infrastructure.redis.lent_connection import LentConnection

        with redis_errors(self._server):
            link = await LentConnection.open_through(
                self._redis().connection_pool,
                commands,
                timeout=self._connect_timeout,
                health=self._health_interval,
            )
        self._links.add(link)
        return link

    async def _locate(self, address: RedisAddress) -> RedisAddress:
        """Where the server is now; raises OSError and Refused."""
        async with asyncio.timeout(self._connect_timeout):
            return await locate(address)

    async def _open_link(
        self, address: RedisAddress, commands: Sequence[Command]
    ) -> SubscribedConnection:
        """A connection to there, with the commands answered; raises OSError and Refused."""
        node = why_not = None
        if address.among is not None:
            node = (address.options["host"], address.options["port"])
            why_not = partial(find_out_why_not, address, node)
        link = await SubscribedConnection.open(
            address,
            commands,
            timeout=self._connect_timeout,
            health=self._health_interval,
            why_not=why_not,
        )
        link.node = node and shown(node)
        self._links.add(link)
        return link

    def _translated(self) -> AbstractContextManager[None]:
        return link_errors(self._server)

    def _loss(self, error: OSError | Refused, since: datetime) -> SubscriptionLost:
        """What a subscription raises, to which the server was last heard at that time."""
        from lykke_cli.infrastructure.redis.errors import reason

        return SubscriptionLost(
            f"The connection to Redis at {self._server} was lost ({reason(error)}).", since=since
        )

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


class RedisSubscription(Subscription):
    """On a connection of its own; made by the gateway. What breaks it is raised."""

    def __init__(self, gateway: RedisPubSubGateway, channels: Iterable[Channel]) -> None:
        super().__init__(gateway, channels)
        self._redis = gateway
        self._link: SubscribedConnection | None = None

    @property
    def node(self) -> str | None:
        return None if self._link is None else self._link.node

    async def _open(self) -> None:
        self._link = await self._redis._connect(self._channels)

    async def _take(self) -> Deliveries:
        link = self._link
        assert link is not None
        try:
            batch = link.take()
        except OSError as error:
            raise self._redis._loss(error, link.last_heard) from error
        if not batch:
            await link.something()
        return batch

    async def _follow(self, channels: Set[Channel]) -> None:
        link = self._link
        assert link is not None
        try:
            await link.ask(*commands_for("SUBSCRIBE", channels))
        except OSError as error:
            self._check_not_closed()  # meanwhile
            raise self._redis._loss(error, link.last_heard) from error
        except Refused:
            with self._redis._translated():
                raise

    async def _leave(self, channels: Set[Channel]) -> None:
        if self._link is not None:
            await self._link.tell(*commands_for("UNSUBSCRIBE", channels))

    async def _release(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await self._redis._disconnect(link)


def uncertain(error: ServerUnavailable) -> ServerUnavailable:
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
