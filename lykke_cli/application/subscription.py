"""What every subscription does, wherever its messages come from."""

import asyncio
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Set
from enum import Enum, auto
from types import TracebackType
from typing import Any, Literal, Self, overload

from lykke_cli.application.errors import SubscriptionClosed, UsageMistake
from lykke_cli.application.gateways.pubsub_protocol import (
    Channel,
    Deliveries,
    Gap,
    Position,
    PubSubGatewayProtocol,
    Unreadable,
)
from lykke_cli.application.messages import decode_object


class _State(Enum):
    NEW = auto()
    OPEN = auto()
    CLOSED = auto()


class Subscription(ABC):
    """MultiplexedSubscription but for opening, taking what comes, and letting go."""

    def __init__(self, gateway: PubSubGatewayProtocol, channels: Iterable[Channel]) -> None:
        self._gateway = gateway
        self._channels = set(channels)
        self._changing = asyncio.Lock()
        self._state = _State.NEW
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()
        self._ready = Deliveries()
        self._taken = 0  # of those, one by one
        self._before: Position | None = None  # all of those
        self._gap: Gap | None = None  # since the latest that was given to a reader

    @abstractmethod
    async def _open(self) -> None:
        """Subscribe; raises ServerUnavailable."""

    @abstractmethod
    async def _take(self) -> Deliveries:
        """What comes next; it waits for it, and may return without any.

        A cancelled call leaves everything as it was. Raises SubscriptionLost.
        """

    @abstractmethod
    async def _follow(self, channels: Set[Channel]) -> None:
        """Subscribe to these too, and wait for the confirmation; raises ServerUnavailable."""

    @abstractmethod
    async def _leave(self, channels: Set[Channel]) -> None:
        """Unsubscribe from these; it does not wait, and what fails needs no telling."""

    @abstractmethod
    async def _release(self) -> None:
        """Let go of what `_open` took, if it did, and wake whoever waits in `_take`."""

    async def __aenter__(self) -> Self:
        self._check_not_closed()
        if self._state is _State.OPEN:
            raise UsageMistake("The subscription is open already.")
        await self._open()
        try:
            self._check_not_closed()
        except SubscriptionClosed:  # meanwhile
            await self._release()
            raise
        self._loop = asyncio.get_running_loop()
        self._state = _State.OPEN
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        if self._state is _State.OPEN:
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
        if len(self._channels) != 1:
            raise UsageMistake("Only a subscription to one channel has one of its own to send to.")
        [channel] = self._channels
        if channel.user_id is None:
            raise UsageMistake("A subscription to every user has no channel of its own to send to.")
        return await self._gateway.publish_to_user_channel(
            channel.user_id, channel.channel_type, message
        )

    @property
    def channels(self) -> frozenset[Channel]:
        return frozenset(self._channels)

    @property
    def node(self) -> str | None:
        return None

    @property
    def position(self) -> Position | None:
        return self._before if self._taken < len(self._ready) else self._reached()

    @property
    def missing(self) -> str | None:
        return None

    def _reached(self) -> Position | None:
        """Behind what `_take` has given; None where nothing is kept."""
        return None

    async def add(self, channels: Iterable[Channel]) -> None:
        async with self._changing:
            self._check_open()
            new = set(channels) - self._channels
            self._channels |= new
            try:
                await self._follow(new)
            except BaseException:
                self._channels -= new
                await self._leave(new)
                raise

    async def remove(self, channels: Iterable[Channel]) -> None:
        async with self._changing:
            self._check_open()
            gone = self._channels.intersection(channels)
            self._channels -= gone
            await self._leave(gone)

    async def close(self) -> None:
        self._state = _State.CLOSED
        await self._release()

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
                    self._before = self._reached()
                    self._ready, self._taken = await self._take(), 0
        except TimeoutError:
            return False
        return True

    def _check_not_closed(self) -> None:
        if self._state is _State.CLOSED:
            raise SubscriptionClosed

    def _check_open(self) -> None:
        self._check_not_closed()
        if self._state is _State.NEW:
            raise SubscriptionClosed("The subscription is not open: use it in `async with`.")
        if self._loop is not asyncio.get_running_loop():
            raise UsageMistake(
                "This subscription is used on another event loop: make a gateway in each, "
                "inside a coroutine."
            )
