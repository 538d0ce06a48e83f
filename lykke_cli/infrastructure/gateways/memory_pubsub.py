"""PubSubGatewayProtocol within one process: for the tests of applications, and our own."""

import asyncio
import logging
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self, overload
from uuid import UUID
from weakref import WeakSet

from lykke_cli.application.errors import (
    ServerUnavailable,
    SubscriptionClosed,
    SubscriptionLost,
    UsageMistake,
)
from lykke_cli.application.gateways.pubsub_protocol import (
    Deliveries,
    Delivery,
    Gap,
    Unreadable,
    channel_name,
)
from lykke_cli.application.messages import decode_object, encode

MOST_WAITING = 10_000  # messages; a subscriber slower than that is cut off, as Redis does
MOST_AT_ONCE = 1_000  # deliveries

logger = logging.getLogger(__name__)


class MemoryPubSubGateway:
    """Nothing leaves the process. `published` keeps (channel, payload) of all that was sent."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self._subscriptions: WeakSet[MemorySubscription] = WeakSet()
        self._cut_off: WeakSet[MemorySubscription] = WeakSet()
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
        reached = [s for s in self._subscriptions if s.wants(channel)]
        for subscription in reached:
            subscription.deliver(Delivery(channel, payload))
        return len(reached)

    def subscribe_to_user_channel(
        self,
        user_id: UUID | None,
        channel_type: str,
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> "MemorySubscription":
        return MemorySubscription(self, user_id, channel_type, reconnect=reconnect, on_gap=on_gap)

    def disconnect(self) -> None:
        """Begin an outage: subscriptions break, and nothing can be published."""
        self._reachable = False
        for subscription in list(self._subscriptions):
            subscription.cut_off()

    def restore(self) -> None:
        """End the outage."""
        self._reachable = True
        for subscription in list(self._cut_off):
            subscription._something.set()

    async def close(self) -> None:
        for subscription in [*self._subscriptions, *self._cut_off]:
            await subscription.close()

    def _attach(self, subscription: "MemorySubscription") -> None:
        if not self._reachable:
            raise ServerUnavailable("The gateway in memory was disconnected.")
        self._subscriptions.add(subscription)
        self._cut_off.discard(subscription)

    def _detach(self, subscription: "MemorySubscription", *, cut_off: bool = False) -> None:
        self._subscriptions.discard(subscription)
        (self._cut_off.add if cut_off else self._cut_off.discard)(subscription)


class MemorySubscription:
    """PubSubSubscription in memory; made by the gateway."""

    def __init__(
        self,
        gateway: MemoryPubSubGateway,
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
        self._ready: deque[Delivery] = deque()
        self._something = asyncio.Event()
        self._open = False
        self._closed = False
        self._lost_at: datetime | None = None
        self._gap: Gap | None = None  # since the latest that was given to a reader

    async def __aenter__(self) -> Self:
        if self._closed:
            raise SubscriptionClosed
        if self._open:
            raise UsageMistake("The subscription is open already.")
        self._gateway._attach(self)
        self._open = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._open:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)

    def wants(self, channel: str) -> bool:
        """True when it is subscribed to this channel."""
        if self._user_id is None:
            return channel.startswith(f"{self._channel_type}:")
        return channel == self._channel

    def deliver(self, delivery: Delivery) -> None:
        """A message for this subscriber."""
        if len(self._ready) >= MOST_WAITING:
            self.cut_off()
        else:
            self._ready.append(delivery)
            self._something.set()

    def cut_off(self) -> None:
        """The connection breaks; what had not been read is lost."""
        self._gateway._detach(self, cut_off=True)
        self._ready.clear()
        self._lost_at = datetime.now(UTC)
        self._something.set()

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
        return decode_object(self._ready.popleft().payload)

    async def get_deliveries(self, timeout: float | None = None) -> Deliveries:
        if not await self._wait(timeout):
            return Deliveries()
        ready = [self._ready.popleft() for _ in range(min(len(self._ready), MOST_AT_ONCE))]
        return Deliveries([d.channel.encode() for d in ready], [d.payload for d in ready])

    async def send_message(self, message: Mapping[str, Any]) -> int:
        self._check_open()
        if self._user_id is None:
            raise UsageMistake("A subscription to every user has no channel of its own to send to.")
        return self._gateway.publish(self._channel, encode(message))

    async def close(self) -> None:
        self._closed = True
        self._open = False
        self._gateway._detach(self)
        self._something.set()

    async def _wait(self, timeout: float | None, *, gaps: bool = False) -> bool:
        """True when a message is there, or with `gaps` a gap, which then came before it."""
        self._check_open()
        try:
            async with asyncio.timeout(timeout):
                while not self._ready and not (gaps and self._gap is not None):
                    if self._lost_at is not None:
                        await self._recover(self._lost_at)
                    else:
                        self._something.clear()
                        await self._something.wait()
                    self._check_open()
        except TimeoutError:
            return False
        return True

    async def _recover(self, lost_at: datetime) -> None:
        if not self._reconnect:
            raise SubscriptionLost(
                "The connection of the gateway in memory was cut.", since=lost_at
            )
        if not self._gateway._reachable:
            self._something.clear()
            await self._something.wait()
            return
        self._gateway._attach(self)
        self._lost_at = None
        gap = Gap(lost_at, datetime.now(UTC))
        self._gap = gap if self._gap is None else Gap(self._gap.started_at, gap.ended_at)
        logger.warning("Subscribed to %s again; messages may be missing.", self._channel)
        if self._on_gap is not None:
            self._on_gap(gap)

    def _check_open(self) -> None:
        if self._closed:
            raise SubscriptionClosed
        if not self._open:
            raise SubscriptionClosed("The subscription is not open: use it in `async with`.")
