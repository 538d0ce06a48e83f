"""A subscription that is taken up again when its connection breaks: the one place that does so."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from datetime import UTC, datetime

from lykke_cli.application.backoff import CAP, Backoff
from lykke_cli.application.errors import (
    LoginRefused,
    ServerUnavailable,
    SubscriptionClosed,
    SubscriptionLost,
)
from lykke_cli.application.gateways.pubsub_protocol import (
    Channel,
    Deliveries,
    Gap,
    Kept,
    MultiplexedSubscription,
    Position,
    PubSubGatewayProtocol,
    in_words,
)
from lykke_cli.application.starvation import Starvation
from lykke_cli.application.subscription import Subscription

STEADY = CAP  # seconds after which a connection counts as good, and back-off starts afresh

logger = logging.getLogger(__name__)


class Reconnecting(Subscription):
    """Follows channels through one subscription after another that only raise.

    Each gap is logged, given to `on_gap` and delivered by `get_message(gaps=True)`; `next` tells
    everything instead. With `goes_on` each subscription begins where the one before it ended, the
    first at `position`, as far as what is published is kept.
    """

    def __init__(
        self,
        gateway: PubSubGatewayProtocol,
        channels: Iterable[Channel],
        *,
        on_gap: Callable[[Gap], None] | None = None,
        backoff: Backoff | None = None,
        goes_on: bool = False,
        position: Position | None = None,
    ) -> None:
        super().__init__(gateway, channels)
        self._on_gap = on_gap
        self._backoff = backoff or Backoff()
        self._goes_on = goes_on
        self._begins_at = position
        self._kept = Kept.NOTHING  # of what was published since the position before this connection
        self._known_until = datetime.now(UTC)  # by that position
        self.first_gap: Gap | None = None
        """From the position to the first connection, where something may be missing."""
        self._current: MultiplexedSubscription | None = None  # or the last one, while there is none
        self._attempt: asyncio.Task[None] | None = None  # until `next` has told how it ended
        self._steady_from = 0.0  # by the loop's clock
        self._connected_at = self._lost_at = datetime.now(UTC)
        self._told: type[ServerUnavailable] = ServerUnavailable
        self._dropped: dict[Channel, LoginRefused] = {}  # until `next` has told
        self._starvation = Starvation()
        self._given_up: str | None = None  # why, until `next` has told
        self._closing: asyncio.Task[None] | None = None

    def __del__(self) -> None:
        """The subscription inside, where one is open, warns that it was not closed."""

    @property
    def is_connected(self) -> bool:
        return self._current is not None and self._attempt is None

    @property
    def node(self) -> str | None:
        return None if self._current is None else self._current.node

    @property
    def missing(self) -> str | None:
        return None if self._current is None else self._current.missing

    def _reached(self) -> Position | None:
        return self._begins_at if self._current is None else self._current.position

    async def next(self) -> Deliveries | Gap | ServerUnavailable:
        """What happens next, in order; a cancelled call leaves everything as it was.

        SubscriptionLost is the break, any other ServerUnavailable a new reason why it lasts, and a
        Gap its end. LoginRefused after it names channels that were added meanwhile and dropped.
        """
        if self._attempt is not None:
            return await self._resume(self._attempt)
        if self._dropped:
            return self._refusal()
        assert self._current is not None
        try:
            deliveries = await self._current.get_deliveries()
        except (SubscriptionLost, SubscriptionClosed) as ended:
            error = self._loss(ended)
            self._lost_at, self._told = error.since, ServerUnavailable
            if asyncio.get_running_loop().time() > self._steady_from:
                self._backoff.reset()
            self._attempt = asyncio.create_task(self._try_again())
            return error
        self._starvation.heard()
        return deliveries

    def has_read(self, recovered: int) -> None:
        """The history was read, which had so many entries that should have come live.

        Where nothing comes live any more it connects anew, as after a loss, though the connection
        is there.
        """
        if self._current is None or not self.is_connected or self._given_up is not None:
            return
        if self._starvation.has_read(recovered):
            self._given_up = f"Entries were committed and none came by {in_words(self._channels)}."
            self._closing = asyncio.create_task(self._current.close())

    def _loss(self, ended: SubscriptionLost | SubscriptionClosed) -> SubscriptionLost:
        reason, self._given_up = self._given_up, None
        if isinstance(ended, SubscriptionLost):
            return ended
        if reason is None:
            raise ended
        return SubscriptionLost(reason, since=datetime.now(UTC))

    async def _open(self) -> None:
        await self._connect()
        if self._begins_at is not None and self._kept is Kept.SOME:
            self.first_gap = Gap(self._known_until, self._connected_at, self._kept)
            self._remember(self.first_gap)

    async def _take(self) -> Deliveries:
        match await self.next():
            case Gap(kept=Kept.ALL):
                logger.info("Subscribed to %s again; nothing is missing.", in_words(self._channels))
            case Gap() as gap:
                self._report(gap)
            case SubscriptionLost() as error:
                logger.warning("%s Subscribing to %s again.", error, in_words(self._channels))
            case ServerUnavailable() as error:
                logger.warning("%s", error)
            case deliveries:
                return deliveries
        return Deliveries()

    async def _follow(self, channels: Set[Channel]) -> None:
        assert self._current is not None
        with suppress(SubscriptionLost, SubscriptionClosed):  # the next one follows them all
            await self._current.add(channels)
        self._check_not_closed()

    async def _leave(self, channels: Set[Channel]) -> None:
        assert self._current is not None
        with suppress(SubscriptionClosed):
            await self._current.remove(channels)

    async def _release(self) -> None:
        attempt, self._attempt = self._attempt, None
        try:
            if attempt is not None:
                attempt.cancel()
                await asyncio.wait({attempt})
        finally:  # whoever closes may be cancelled meanwhile
            if self._current is not None:
                await self._current.close()

    async def _connect(self) -> None:
        before = self._channels if self._current is None else self._current.channels
        subscription = self._subscribe(self._channels & before)
        await subscription.__aenter__()
        try:
            while subscription.channels != self._channels:  # which have changed meanwhile
                await subscription.remove(subscription.channels - self._channels)
                await self._add_permitted(subscription, self._channels - subscription.channels)
        except BaseException:
            await subscription.close()
            raise
        self._connected_at = datetime.now(UTC)
        self._steady_from = asyncio.get_running_loop().time() + STEADY
        self._starvation.connected()
        if self._goes_on and (position := self._reached()) is not None:
            self._kept = Kept.ALL if subscription.missing is None else Kept.SOME
            self._known_until = position.heard_at
        self._current = subscription

    def _subscribe(self, channels: Set[Channel]) -> MultiplexedSubscription:
        position = self._reached() if self._goes_on else None
        if position is None:
            return self._gateway.subscribe_to_channels(channels, reconnect=False)
        return self._gateway.subscribe_after(channels, position, reconnect=False)

    async def _add_permitted(
        self, subscription: MultiplexedSubscription, channels: Set[Channel]
    ) -> None:
        """One refusal is for all that are asked for together, so then each is asked for alone."""
        try:
            await subscription.add(channels)
        except LoginRefused as error:
            if len(channels) > 1:
                for channel in channels:
                    await self._add_permitted(subscription, {channel})
            else:
                self._channels -= channels
                self._dropped |= dict.fromkeys(channels, error)

    def _refusal(self) -> LoginRefused:
        dropped, self._dropped = self._dropped, {}
        error = next(iter(dropped.values()))
        return LoginRefused(
            f"Not followed: {in_words(dropped)}. {error.problem}", remedy=error.remedy
        )

    async def _resume(self, attempt: "asyncio.Task[None]") -> Gap | ServerUnavailable:
        """Wait until there is something to tell.

        When the caller gives up, the attempt goes on; after it the next call makes another.
        """
        while True:
            await asyncio.wait({attempt})
            self._check_open()
            self._attempt = None
            try:
                attempt.result()
            except ServerUnavailable as error:
                self._attempt = attempt = asyncio.create_task(self._try_again())
                if type(error) is not self._told:  # such as a password that was changed
                    self._told = type(error)
                    return error
            else:
                is_behind = self._kept is Kept.SOME and self._known_until < self._lost_at
                started_at = self._known_until if is_behind else self._lost_at
                return Gap(started_at, self._connected_at, self._kept)

    async def _try_again(self) -> None:
        if self._current is not None:
            await self._current.close()
        await asyncio.sleep(self._backoff.next())
        await self._connect()

    def _report(self, gap: Gap) -> None:
        logger.warning(
            "Subscribed to %s again; messages from %s to %s may be missing.",
            in_words(self._channels),
            gap.started_at.isoformat(timespec="milliseconds"),
            gap.ended_at.isoformat(timespec="milliseconds"),
        )
        self._remember(gap)

    def _remember(self, gap: Gap) -> None:
        """For whoever reads messages."""
        before = self._gap
        self._gap = gap if before is None else Gap(before.started_at, gap.ended_at, before.kept)
        if self._on_gap is not None:
            self._on_gap(gap)
