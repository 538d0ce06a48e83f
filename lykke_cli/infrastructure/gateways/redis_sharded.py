"""PubSubGatewayProtocol on sharded Pub/Sub: a message goes to the shard of its channel alone.

In a cluster each channel belongs to a slot, each slot to a primary and its replicas, and slots may
move (https://redis.io/docs/latest/develop/pubsub/#sharded-pubsub). Where a channel is now is asked
at each attempt to subscribe, and again when a node says that it is elsewhere. When a slot moves the
old node unsubscribes its channels unasked: that is a lost connection like any other.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence, Set

import msgspec

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import ServerUnavailable, UsageMistake
from lykke_cli.application.gateways.pubsub_protocol import (
    MOST_NAMED,
    Channel,
    Deliveries,
    Gap,
    MultiplexedSubscription,
)
from lykke_cli.application.subscription import Subscription
from lykke_cli.infrastructure.configuration.transport import Transport
from lykke_cli.infrastructure.gateways.redis_pubsub import (
    CONNECT_TIMEOUT,
    HEALTH_INTERVAL,
    RedisPubSubGateway,
)
from lykke_cli.infrastructure.redis.cluster import Slots, find_slots, slot_of
from lykke_cli.infrastructure.redis.connection import Command, Refused, SubscribedConnection
from lykke_cli.infrastructure.redis.topology import at
from lykke_cli.infrastructure.redis.urls import Cluster, Node, RedisAddress

MOST_MOVES = 5  # times that a node may send us elsewhere in one attempt
_ELSEWHERE = ("MOVED", "ASK")


class RedisShardedGateway(RedisPubSubGateway):
    """As RedisPubSubGateway, by SPUBLISH and SSUBSCRIBE; `url` may be that of a cluster.

    There is no subscription to every user: it would be one to every shard.
    """

    _publishing = "SPUBLISH"
    _transports = (Transport.PUBSUB, Transport.SHARDED)

    def __init__(
        self,
        url: str | None = None,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        health_interval: float = HEALTH_INTERVAL,
    ) -> None:
        super().__init__(url, connect_timeout=connect_timeout, health_interval=health_interval)
        self._nodes: dict[Node, _NodeGateway] = {}
        self._slots: Slots | None = None

    def subscribe_to_channels(
        self,
        channels: Iterable[Channel],
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> MultiplexedSubscription:
        asked = set(channels)
        _check(asked)
        return super().subscribe_to_channels(asked, reconnect=reconnect, on_gap=on_gap)

    def _once(self, channels: Iterable[Channel]) -> Subscription:
        return ShardedSubscription(self, channels)

    async def close(self) -> None:
        await super().close()
        for gateway in self._nodes.values():
            await gateway.close()

    async def _publish(self, commands: Sequence[tuple[str, bytes]]) -> list[int | Exception]:
        assert self._address is not None
        if not isinstance(self._address.among, Cluster):
            return await super()._publish(commands)
        from redis import exceptions

        from lykke_cli.infrastructure.redis.errors import refused_as

        not_now = (exceptions.TryAgainError, exceptions.ClusterDownError)
        unpublished = (exceptions.MovedError, exceptions.AskError, *not_now)
        outcomes: list[int | Exception] = [0] * len(commands)
        left, backoff = list(range(len(commands))), Backoff()
        for attempt in range(MOST_MOVES + 1):
            try:
                groups = await self._by_owner(left, [name for name, _ in commands])
            except ServerUnavailable as error:
                for number in left:
                    outcomes[number] = error
                break
            answers = await asyncio.gather(
                *(
                    self._at(node)._publish([commands[number] for number in numbers])
                    for node, numbers in groups.items()
                )
            )
            for numbers, answer in zip(groups.values(), answers, strict=True):
                for number, outcome in zip(numbers, answer, strict=True):
                    outcomes[number] = outcome
            left = [n for n in left if refused_as(_cause(outcomes[n])) in unpublished]
            if any(isinstance(outcome, Exception) for outcome in outcomes):
                self._slots = None  # a node may have gone, too: where are they now?
            if not left or attempt == MOST_MOVES:
                break
            if any(refused_as(_cause(outcomes[number])) in not_now for number in left):
                await asyncio.sleep(backoff.next())
        return outcomes

    async def _by_owner(
        self, numbers: Iterable[int], names: Sequence[str]
    ) -> dict[Node, list[int]]:
        """Of these channels those of each node of the cluster."""
        slots = await self._find_slots()
        groups: dict[Node, list[int]] = {}
        with self._translated():
            for number in numbers:
                node = slots.owner(slot_of(names[number].encode()))
                groups.setdefault(node, []).append(number)
        return groups

    async def _find_slots(self) -> Slots:
        assert self._address is not None and isinstance(self._address.among, Cluster)
        if self._slots is None:
            with self._translated():
                async with asyncio.timeout(self._connect_timeout):
                    self._slots = await find_slots(self._address, self._address.among)
        return self._slots

    async def _places(self, names: Sequence[str]) -> list[tuple[RedisAddress, list[Command]]]:
        """Where these channels are now, and how to subscribe to them there."""
        self._check_open()
        assert self._address is not None
        if not isinstance(self._address.among, Cluster):
            with self._translated():
                return [(await self._locate(self._address), [("SSUBSCRIBE", *names)])]
        self._slots = None
        places = []
        for node, numbers in (await self._by_owner(range(len(names)), names)).items():
            slots: dict[int, list[str]] = {}
            for number in numbers:
                slots.setdefault(slot_of(names[number].encode()), []).append(names[number])
            commands: list[Command] = [("SSUBSCRIBE", *some) for some in slots.values()]
            places.append((at(self._address, node), commands))
        return places

    def _at(self, node: Node) -> "_NodeGateway":
        if node not in self._nodes:
            assert self._address is not None
            address = msgspec.structs.replace(at(self._address, node), among=None)
            self._nodes[node] = _NodeGateway(address, connect_timeout=self._connect_timeout)
        return self._nodes[node]


class _NodeGateway(RedisPubSubGateway):
    """Publishes by one node of a cluster."""

    _publishing = "SPUBLISH"

    def __init__(self, address: RedisAddress, *, connect_timeout: float) -> None:
        self._of = address
        super().__init__(connect_timeout=connect_timeout)

    def _meant(self, url: str | None) -> RedisAddress:
        return self._of


class ShardedSubscription(Subscription):
    """On a connection to each node that has some of the channels; what breaks one is raised."""

    def __init__(self, gateway: RedisShardedGateway, channels: Iterable[Channel]) -> None:
        super().__init__(gateway, channels)
        self._redis = gateway
        self._links: dict[object, SubscribedConnection] = {}

    @property
    def node(self) -> str | None:
        nodes = {link.node for link in self._links.values() if link.node is not None}
        return (
            f"{len(nodes)} nodes" if len(nodes) > MOST_NAMED else ", ".join(sorted(nodes)) or None
        )

    async def add(self, channels: Iterable[Channel]) -> None:
        asked = set(channels)
        _check(asked)
        await super().add(asked)

    async def _open(self) -> None:
        try:
            await self._follow(self._channels)
        except BaseException:
            await self._release()
            raise

    async def _take(self) -> Deliveries:
        waiter = asyncio.get_running_loop().create_future()
        for link in list(self._links.values()):
            try:
                batch = link.take()
            except OSError as error:
                raise self._redis._loss(error, link.last_heard) from error
            if batch:
                return batch
            link.wake(waiter)
        await waiter
        return Deliveries()

    async def _follow(self, channels: Set[Channel]) -> None:
        names = [channel.name for channel in channels]
        for attempt in range(MOST_MOVES + 1):
            try:
                for address, commands in await self._redis._places(names) if names else ():
                    await self._ask(address, commands)
            except Refused as error:
                if attempt == MOST_MOVES or not str(error).startswith(_ELSEWHERE):
                    with self._redis._translated():
                        raise
            else:
                return

    async def _ask(self, address: RedisAddress, commands: Sequence[Command]) -> None:
        """Raises ServerUnavailable, Refused, and SubscriptionLost of an older connection."""
        place = tuple(address.options.get(key) for key in ("host", "port", "path"))
        link = self._links.get(place)
        if link is None:
            with self._redis._translated():
                link = self._links[place] = await self._redis._open_link(address, [])
        try:
            await link.ask(*commands)
        except OSError as error:
            self._check_not_closed()  # meanwhile
            raise self._redis._loss(error, link.last_heard) from error

    async def _leave(self, channels: Set[Channel]) -> None:
        """Each connection is told of all: what it does not have it answers, too."""
        for link in self._links.values():
            await link.tell(*(("SUNSUBSCRIBE", channel.name) for channel in channels))

    async def _release(self) -> None:
        links, self._links = self._links, {}
        for link in links.values():
            await self._redis._disconnect(link)


def _check(channels: Iterable[Channel]) -> None:
    if any(channel.user_id is None for channel in channels):
        raise UsageMistake(
            "Sharded Pub/Sub has no subscription to every user: name the users, or use the "
            "transport pubsub."
        )


def _cause(outcome: int | Exception) -> BaseException | None:
    """What the server said, where it refused: then nothing was published."""
    return outcome.__cause__ if isinstance(outcome, Exception) else None
