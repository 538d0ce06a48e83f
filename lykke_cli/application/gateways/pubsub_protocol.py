"""Publishing to and subscribing to a user's channels.

Pub/Sub delivers at most once: a subscription of this kind may lose messages. What must not lose
any is built on it in `tail.py`, with the database beside it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from datetime import datetime
from enum import Enum, auto
from types import TracebackType
from typing import Any, Literal, Protocol, Self, overload
from uuid import UUID

import msgspec

from lykke_cli.application.channel_types import AUDIT_LOG
from lykke_cli.application.errors import UsageMistake
from lykke_cli.application.stream_ids import StreamId

MOST_NAMED = 3  # channels, where all of them are told of


def channel_name(channel_type: str, user_id: UUID | None) -> str:
    """The channel of one user, or with None the pattern that matches every user's."""
    return f"{channel_type}:{'*' if user_id is None else user_id}"


class Channel(msgspec.Struct, frozen=True):
    """A user's channel of one type."""

    user_id: UUID | None
    """None stands for every user's channel of this type."""
    channel_type: str = AUDIT_LOG

    @property
    def name(self) -> str:
        return channel_name(self.channel_type, self.user_id)


def in_words(channels: Collection[Channel]) -> str:
    """Their names, as far as there are few."""
    if len(channels) > MOST_NAMED:
        return f"{len(channels)} channels"
    return ", ".join(sorted(channel.name for channel in channels))


class Unreadable(msgspec.Struct, frozen=True):
    """A message that is not a JSON object; the stream goes on after it."""

    raw: bytes
    """The payload exactly as it came."""
    reason: str
    """Why it could not be read, in a few words."""


class Kept(Enum):
    """How much of what was published in a gap comes all the same."""

    NOTHING = auto()
    SOME = auto()
    ALL = auto()


class Gap(msgspec.Struct, frozen=True):
    """A time without a connection, in which messages may have been lost."""

    started_at: datetime
    """When the server was last heard of before the loss, UTC."""
    ended_at: datetime
    """When the server confirmed the subscription again, UTC."""
    kept: Kept = Kept.NOTHING
    """What the server keeps of it, where it keeps what is published, and comes now."""


class Position(msgspec.Struct, frozen=True):
    """Up to where the streams of a subscription were read: plain data, that can be stored."""

    ids: dict[str, StreamId]
    """The last entry of each that was handed out, whether or not it was wanted."""
    heard_at: datetime
    """Up to when it is known that there was none after them, UTC."""


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message as it came off the wire."""

    channel: str
    payload: bytes


class Deliveries(Sequence[Delivery]):
    """Messages as they came off the wire, in order, as columns: each is made when asked for."""

    __slots__ = ("channels", "payloads")

    def __init__(self, channels: Sequence[bytes] = (), payloads: Sequence[bytes] = ()) -> None:
        self.channels = channels
        self.payloads = payloads

    def __len__(self) -> int:
        return len(self.payloads)

    @overload
    def __getitem__(self, index: int) -> Delivery: ...
    @overload
    def __getitem__(self, index: slice) -> "Deliveries": ...
    def __getitem__(self, index: int | slice) -> "Delivery | Deliveries":
        if isinstance(index, slice):
            return Deliveries(self.channels[index], self.payloads[index])
        return Delivery(self.channels[index].decode("utf-8", "replace"), self.payloads[index])


class PubSubSubscription(Protocol):
    """A subscription to one user's channel, used as an async context manager.

    The server has confirmed the subscription before `__aenter__` returns: nothing published after
    that is missed while the connection lasts.
    """

    async def __aenter__(self) -> Self:
        """Subscribe; raises ServerUnavailable when the server cannot be reached in time."""
        ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

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
        """The next message, decoded.

        `timeout` is in seconds; without it the call waits for ever. None means nothing came in
        time. With `gaps` a Gap comes among the messages, where some may be missing. Raises
        SubscriptionClosed after `close()`, and SubscriptionLost when the connection breaks and the
        subscription was made with `reconnect=False`.
        """
        ...

    async def get_deliveries(self, timeout: float | None = None) -> Deliveries:
        """The messages that are there, at least one, undecoded; none on time-out.

        Raises as `get_message` does.
        """
        ...

    async def send_message(self, message: Mapping[str, Any]) -> int:
        """Publish to the subscription's own channel; returns how many subscribers got it."""
        ...

    async def close(self) -> None:
        """Unsubscribe and release the connection; closing twice is harmless."""
        ...


class MultiplexedSubscription(PubSubSubscription, Protocol):
    """A subscription to a set of channels, on one connection, which may change while it is open.

    After a lost connection all of them are taken up again, and there is one Gap for all. What is
    published where two of them overlap (one user's and every user's) comes once. `send_message`
    needs that there is one channel.
    """

    @property
    def channels(self) -> Set[Channel]:
        """What is followed at this moment."""
        ...

    @property
    def node(self) -> str | None:
        """Which of several servers it is connected to; None where there is but one."""
        ...

    @property
    def position(self) -> Position | None:
        """Behind what it has handed out, also when it is closed; None where nothing is kept.

        Of what comes together `get_message` has handed out nothing before it has handed out all.
        """
        ...

    @property
    def missing(self) -> str | None:
        """Why some of what was published since the position it began with may not come, in words.

        None where all of it comes, or it began with none.
        """
        ...

    async def add(self, channels: Iterable[Channel]) -> None:
        """Follow these too; returns when the server has confirmed each of them.

        Nothing published on them from then on is missed, but within a Gap: while the connection is
        broken nothing is waited for, and they are taken up after the others. One that the server
        then does not permit is dropped, with a warning in the log. A call that fails or is
        cancelled adds none. Raises LoginRefused where the server does not permit one of them,
        and SubscriptionLost when the subscription was made with `reconnect=False`.
        """
        ...

    async def remove(self, channels: Iterable[Channel]) -> None:
        """Follow these no longer; what is on its way may still come."""
        ...


class PubSubGatewayProtocol(Protocol):
    """Access to the channels `{channel_type}:{user_id}`."""

    async def publish_to_user_channel(
        self, user_id: UUID, channel_type: str, message: Mapping[str, Any]
    ) -> int:
        """Publish `message` as JSON; returns how many subscribers got it.

        Raises ServerUnavailable.
        """
        ...

    async def publish_many(
        self, channel_type: str, messages: Sequence[tuple[UUID, Mapping[str, Any]]]
    ) -> list[int | Exception]:
        """Publish each message to its user's channel, in order, without waiting in between.

        Returns for each, in the same order, how many subscribers got it, or the error for which it
        was not published, as far as is known. Raises BadInput, before anything is published, when
        one of them is not JSON.
        """
        ...

    def subscribe_to_user_channel(
        self,
        user_id: UUID | None,
        channel_type: str,
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> PubSubSubscription:
        """A subscription, not yet open: enter it.

        Without a `user_id` it follows every user's channel of this type. With `reconnect` a lost
        connection is taken up again with back-off, and each gap is logged as a warning, given to
        `on_gap` and delivered by `get_message(gaps=True)`; without it `get_message` raises
        SubscriptionLost and the caller decides.
        """
        channel = Channel(user_id, channel_type)
        return self.subscribe_to_channels([channel], reconnect=reconnect, on_gap=on_gap)

    def subscribe_to_channels(
        self,
        channels: Iterable[Channel],
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> MultiplexedSubscription:
        """The same for several channels at once, or for none as yet."""
        ...

    def subscribe_after(
        self,
        channels: Iterable[Channel],
        position: Position | None,
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> MultiplexedSubscription:
        """The same, going on behind the `position` of an earlier one; None begins now.

        What was published since comes first, as far as it is kept. With `reconnect` it goes on so
        after a lost connection, too: there is a Gap only where something may be missing. Raises
        UsageMistake where nothing is kept, as by Pub/Sub.
        """
        raise UsageMistake("Pub/Sub keeps nothing to go on with: that is for the transport stream.")

    async def close(self) -> None:
        """Close every connection; closing twice is harmless."""
        ...
