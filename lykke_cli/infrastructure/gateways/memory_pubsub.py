"""PubSubGatewayProtocol within one process: for the tests of applications, and our own."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID
from weakref import WeakSet

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import ServerUnavailable, SubscriptionLost
from lykke_cli.application.gateways.pubsub_protocol import (
    Channel,
    Deliveries,
    Delivery,
    Gap,
    MultiplexedSubscription,
    PubSubGatewayProtocol,
    channel_name,
)
from lykke_cli.application.messages import encode
from lykke_cli.application.reconnecting import Reconnecting
from lykke_cli.application.subscription import Subscription

MOST_WAITING = 10_000  # messages; a subscriber slower than that is cut off, as Redis does
MOST_AT_ONCE = 1_000  # deliveries
LOOK = 0.01  # seconds, at most, between attempts to come back while it is disconnected


class MemoryPubSubGateway(PubSubGatewayProtocol):
    """Nothing leaves the process. `published` keeps (channel, payload) of all that was sent."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self._subscriptions: WeakSet[Subscription] = WeakSet()
        self._attached: WeakSet[MemorySubscription] = WeakSet()
        self._reachable = True

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
        return self.publish(channel_name(channel_type, user_id), encode(message))

    async def publish_many(
        self, channel_type: str, messages: Sequence[tuple[UUID, Mapping[str, Any]]]
    ) -> list[int | Exception]:
        for _, message in messages:
            encode(message)
        outcomes: list[int | Exception] = []
        for user_id, message in messages:
            try:
                reached = await self.publish_to_user_channel(user_id, channel_type, message)
                outcomes.append(reached)
            except Exception as error:
                outcomes.append(error)
        return outcomes

    def publish(self, channel: str, payload: bytes) -> int:
        """Publish any bytes; returns how many subscribers got them."""
        if not self._reachable:
            raise ServerUnavailable("The gateway in memory was disconnected.")
        self.published.append((channel, payload))
        reached = {each: each.times_followed(channel) for each in self._attached}
        for subscription, times in reached.items():
            if times:
                subscription.deliver(Delivery(channel, payload))
        return sum(reached.values())

    def subscribe_to_channels(
        self,
        channels: Iterable[Channel],
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> MultiplexedSubscription:
        subscription = (
            Reconnecting(self, channels, on_gap=on_gap, backoff=Backoff(base=LOOK, cap=LOOK))
            if reconnect
            else MemorySubscription(self, channels)
        )
        self._subscriptions.add(subscription)
        return subscription

    def disconnect(self) -> None:
        """Begin an outage: subscriptions break, and nothing can be published."""
        self._reachable = False
        for subscription in list(self._attached):
            subscription.cut_off()

    def restore(self) -> None:
        """End the outage."""
        self._reachable = True

    async def close(self) -> None:
        for subscription in list(self._subscriptions):
            await subscription.close()

    def _attach(self, subscription: "MemorySubscription") -> None:
        if not self._reachable:
            raise ServerUnavailable("The gateway in memory was disconnected.")
        self._attached.add(subscription)


class MemorySubscription(Subscription):
    """Made by the gateway. What breaks it is raised."""

    def __init__(self, gateway: MemoryPubSubGateway, channels: Iterable[Channel]) -> None:
        super().__init__(gateway, channels)
        self._memory = gateway
        self._arrived: deque[Delivery] = deque()
        self._something = asyncio.Event()
        self._lost_at: datetime | None = None

    def times_followed(self, channel: str) -> int:
        """How often it is subscribed to this channel: also by way of every user's."""
        return sum(
            channel.startswith(f"{each.channel_type}:")
            if each.user_id is None
            else channel == each.name
            for each in self._channels
        )

    def deliver(self, delivery: Delivery) -> None:
        """A message for this subscriber."""
        if len(self._arrived) >= MOST_WAITING:
            self.cut_off()
        else:
            self._arrived.append(delivery)
            self._something.set()

    def cut_off(self) -> None:
        """The connection breaks; what had not been read is lost."""
        self._memory._attached.discard(self)
        self._arrived.clear()
        self._lost_at = datetime.now(UTC)
        self._something.set()

    async def _open(self) -> None:
        self._memory._attach(self)

    async def _follow(self, channels: Set[Channel]) -> None:
        self._check_not_lost()

    async def _leave(self, channels: Set[Channel]) -> None:
        pass

    def _check_not_lost(self) -> None:
        if self._lost_at is not None:
            raise SubscriptionLost(
                "The connection of the gateway in memory was cut.", since=self._lost_at
            )

    async def _take(self) -> Deliveries:
        self._check_not_lost()
        if not self._arrived:
            self._something.clear()
            await self._something.wait()
            return Deliveries()
        batch = [self._arrived.popleft() for _ in range(min(len(self._arrived), MOST_AT_ONCE))]
        return Deliveries([d.channel.encode() for d in batch], [d.payload for d in batch])

    async def _release(self) -> None:
        self._memory._attached.discard(self)
        self._something.set()
