"""Publishes what was committed and nobody has published: a broadcast may be lost with its process.

What comes by Pub/Sub is heard; an entry that was written to its stream and was not heard of within
a grace is published. That is at least once: a broadcast later than the grace comes twice.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.ending import end
from lykke_cli.application.gateways.pubsub_protocol import (
    Channel,
    Deliveries,
    MultiplexedSubscription,
    PubSubGatewayProtocol,
)
from lykke_cli.application.messages import Entry, decode, parse_object

GRACE = 1.0  # seconds
MOST_HEARD = 100_000  # ids that are remembered
MOST_WAITING = 100_000  # entries; of more, the oldest are published before their time
AT_ONCE = 1_000  # entries that are published together


class Unheard:
    """Decides what is published; it neither listens nor waits. Times are seconds of any clock."""

    def __init__(self) -> None:
        self._heard: OrderedDict[str, None] = OrderedDict()
        self._waiting: deque[tuple[float, str, str, bytes]] = deque()

    def heard(self, deliveries: Deliveries) -> None:
        for payload in deliveries.payloads:
            if isinstance(message := decode(payload), Entry):
                self._heard[message.id] = None
        while len(self._heard) > MOST_HEARD:
            self._heard.popitem(last=False)

    def written(self, entries: Sequence[tuple[str, bytes]], now: float) -> None:
        """These are in the streams."""
        for user, payload in entries:
            if isinstance(message := decode(payload), Entry):
                self._waiting.append((now + GRACE, message.id, user, payload))

    def due(self, now: float) -> list[tuple[str, bytes]]:
        """What is to be published now: user and message of each."""
        found: list[tuple[str, bytes]] = []
        while len(found) < AT_ONCE and self._waiting:
            if self._waiting[0][0] > now and len(self._waiting) <= MOST_WAITING:
                break
            _, id, user, payload = self._waiting.popleft()
            if id not in self._heard:
                found.append((user, payload))
        return found


class Rebroadcast:
    """Listens to every user's channel through `gateway`, and publishes what is missing there."""

    def __init__(self, gateway: PubSubGatewayProtocol) -> None:
        self._gateway = gateway
        self._unheard = Unheard()
        self.published = 0
        """Entries."""

    @asynccontextmanager
    async def listening(self, on_heard: Callable[[], None]) -> AsyncGenerator[None]:
        """While the block lasts; raises ServerUnavailable where it cannot begin.

        `on_heard` is called when something comes.
        """
        channels = [Channel(None, AUDIT_LOG)]
        async with self._gateway.subscribe_to_channels(channels) as subscription:
            task = asyncio.create_task(self._work(subscription, on_heard))
            try:
                yield
            finally:
                await end({task})

    def written(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """These are in the streams."""
        self._unheard.written(entries, asyncio.get_running_loop().time())

    async def _work(
        self, subscription: MultiplexedSubscription, on_heard: Callable[[], None]
    ) -> None:
        while True:
            if deliveries := await subscription.get_deliveries(GRACE / 4):
                self._unheard.heard(deliveries)
                on_heard()
            if due := self._unheard.due(asyncio.get_running_loop().time()):
                messages = [(UUID(user), parse_object(payload)) for user, payload in due]
                outcomes = await self._gateway.publish_many(AUDIT_LOG, messages)
                self.published += sum(isinstance(each, int) for each in outcomes)
