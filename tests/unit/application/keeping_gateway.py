"""A gateway within the process that keeps what is published, in one stream."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from lykke_cli import Channel, Deliveries, Gap, MemoryPubSubGateway, MultiplexedSubscription
from lykke_cli.application.gateways.pubsub_protocol import Delivery, Position
from lykke_cli.application.stream_ids import StreamId
from lykke_cli.infrastructure.gateways.memory_pubsub import MemorySubscription

STREAM = "auditlog:{00}"
HEARD_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def position(number: int) -> Position:
    """Behind so many messages."""
    return Position({STREAM: StreamId(number, 0)}, HEARD_AT)


class KeepingGateway(MemoryPubSubGateway):
    """For subscriptions to one channel that raise what breaks them."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Delivery] = []
        self.trimmed = 0
        """So many of them are not there any more."""

    def publish(self, channel: str, payload: bytes) -> int:
        if self._reachable:
            self.kept.append(Delivery(channel, payload))
        return super().publish(channel, payload)

    def subscribe_to_channels(
        self,
        channels: Iterable[Channel],
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> MultiplexedSubscription:
        return KeepingSubscription(self, channels, len(self.kept))

    def subscribe_after(
        self,
        channels: Iterable[Channel],
        position: Position | None,
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> MultiplexedSubscription:
        assert position is not None
        return KeepingSubscription(self, channels, position.ids[STREAM].milliseconds)


class KeepingSubscription(MemorySubscription):
    def __init__(self, gateway: KeepingGateway, channels: Iterable[Channel], begin: int) -> None:
        super().__init__(gateway, channels)
        self._keeping = gateway
        self._number = begin
        self._missing: str | None = None

    @property
    def missing(self) -> str | None:
        return self._missing

    def _reached(self) -> Position:
        return position(self._number)

    async def _open(self) -> None:
        await super()._open()
        if self._number < self._keeping.trimmed:
            self._missing, self._number = f"{STREAM} was trimmed", self._keeping.trimmed
        for delivery in self._keeping.kept[self._number :]:
            self.deliver(delivery)

    async def _take(self) -> Deliveries:
        deliveries = await super()._take()
        self._number += len(deliveries)
        return deliveries
