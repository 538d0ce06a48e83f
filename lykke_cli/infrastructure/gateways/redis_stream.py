"""PubSubGatewayProtocol on Redis Streams: what is published stays for whoever comes a little later.

The streams of a channel type are few, and users are spread among them (`stream_layout.py`): who
follows one user reads the stream that the user is in, who follows every user reads them all. A
subscription begins behind the last entry, or where an earlier one ended. What it cannot have got is
a lost connection like any other: entries that were trimmed before they were read, and a stream that
was deleted, or went back in a fail-over. (https://redis.io/docs/latest/develop/data-types/streams/)
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from lykke_cli.application.ending import end
from lykke_cli.application.errors import ServerUnavailable, SubscriptionLost
from lykke_cli.application.gateways.pubsub_protocol import (
    Channel,
    Deliveries,
    Gap,
    MultiplexedSubscription,
    Position,
)
from lykke_cli.application.going_on import Starts
from lykke_cli.application.reconnecting import Reconnecting
from lykke_cli.application.stream_ids import StreamId
from lykke_cli.application.subscription import Subscription
from lykke_cli.infrastructure.configuration.transport import Transport
from lykke_cli.infrastructure.gateways.redis_pubsub import (
    CONNECT_TIMEOUT,
    HEALTH_INTERVAL,
    RedisPubSubGateway,
    uncertain,
)
from lykke_cli.infrastructure.redis.connection import Refused, RefusedForNow
from lykke_cli.infrastructure.redis.nodes import Nodes
from lykke_cli.infrastructure.redis.partitions import Partitions
from lykke_cli.infrastructure.redis.portion import Portion
from lykke_cli.infrastructure.redis.stream_layout import (
    KEEP,
    MESSAGE,
    USER,
    partition_of,
    stream_name,
    stream_names,
)
from lykke_cli.infrastructure.redis.stream_reads import (
    BLOCK,
    check_ends,
    find_starts,
    message_of,
    read,
)
from lykke_cli.infrastructure.redis.urls import Cluster
from lykke_cli.infrastructure.redis.wire import Command, Wire, refused

LOOK_INTERVAL = 5.0  # seconds after which the streams are looked at: do they lack what was read?
AT_ONCE = 1_000  # entries of each stream that are read together, at most
MOST_WAITING = 2  # batches, after which nothing is read
MOST_MOVES = 5  # times that a server may send us elsewhere
MOVE_PAUSE = 0.1  # seconds before it is tried again


class RedisStreamGateway(RedisPubSubGateway):
    """As RedisPubSubGateway, by XADD and XREAD; `url` may be that of a cluster.

    Who has got a message is not known: publishing says 1 for each that is in its stream.
    """

    _transports = (Transport.PUBSUB, Transport.STREAM)

    def __init__(
        self,
        url: str | None = None,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        health_interval: float = HEALTH_INTERVAL,
    ) -> None:
        super().__init__(url, connect_timeout=connect_timeout, health_interval=health_interval)
        assert self._address is not None
        self.health_interval = self._health_interval
        self.in_cluster = isinstance(self._address.among, Cluster)
        self._nodes = Nodes(self._address, timeout=self._connect_timeout)
        self._partitions = Partitions(self._nodes, in_cluster=self.in_cluster)
        self._wires: dict[object, Wire] = {}
        self._turns: dict[object, asyncio.Lock] = {}
        self.readings: set[_Reading] = set()
        """What is at work for subscriptions."""

    def _once(self, channels: Iterable[Channel]) -> Subscription:
        return StreamSubscription(self, channels, None)

    def subscribe_after(
        self,
        channels: Iterable[Channel],
        position: Position | None,
        *,
        reconnect: bool = True,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> MultiplexedSubscription:
        subscription: Subscription
        if reconnect:
            subscription = Reconnecting(
                self, channels, on_gap=on_gap, goes_on=True, position=position
            )
        else:
            subscription = StreamSubscription(self, channels, position)
        self._subscriptions.add(subscription)
        return subscription

    async def close(self) -> None:
        await super().close()
        for reading in list(self.readings):  # of subscriptions that were forgotten
            await reading.close()
        for wire in self._wires.values():
            await wire.close()

    async def partitions_of(
        self, channel_types: Iterable[str], wire: Wire | None = None
    ) -> dict[str, int]:
        """How many streams there are to read of each, asked by `wire` where one server has them.

        Raises ServerUnavailable, and BadInput where that is no number.
        """
        with self._translated():
            return await self._partitions.to_read(channel_types, wire)

    async def by_node(self, streams: Iterable[str]) -> dict[object, list[str]]:
        """Of these streams those of each server."""
        with self._translated():
            return await self._nodes.by_node(streams)

    async def open_streams(
        self, streams: Sequence[str], after: Position | None
    ) -> tuple[Wire, Starts]:
        """A connection to the server of these, and behind which entries to read them.

        Raises ServerUnavailable.
        """
        self._check_open()
        wire: Wire | None = None
        with self._translated():
            try:
                wire = await self._nodes.open(streams[0])
                wire.patience = BLOCK + self.health_interval
                return wire, await find_starts(wire, streams, after)
            except BaseException:
                self._nodes.forget()
                if wire is not None:
                    await wire.close()
                raise

    def _loss(self, error: OSError | Refused, since: datetime) -> SubscriptionLost:
        self._nodes.forget()
        return super()._loss(error, since)

    async def _publish(self, commands: Sequence[tuple[str, bytes]]) -> list[int | Exception]:
        self._check_open()
        outcomes: list[int | Exception] = [1] * len(commands)
        left = list(range(len(commands)))
        for attempt in range(MOST_MOVES + 1):
            try:
                added = {number: await self._xadd(*commands[number]) for number in left}
                groups = await self.by_node({stream for stream, _ in added.values()})
            except ServerUnavailable as error:
                for number in left:
                    outcomes[number] = error
                break
            sent = {
                node: [number for number in left if added[number][0] in streams]
                for node, streams in groups.items()
            }
            answers = await asyncio.gather(
                *(
                    self._send_to(node, groups[node], [added[n][1] for n in numbers])
                    for node, numbers in sent.items()
                )
            )
            for numbers, answer in zip(sent.values(), answers, strict=True):
                for number, outcome in zip(numbers, answer, strict=True):
                    outcomes[number] = outcome
            if any(isinstance(outcome, Exception) for outcome in outcomes):
                self._nodes.forget()
            left = [number for number in left if _is_elsewhere(outcomes[number])]
            if not left or attempt == MOST_MOVES:
                break
            await asyncio.sleep(MOVE_PAUSE)
        return outcomes

    async def _xadd(self, channel: str, payload: bytes) -> tuple[str, Command]:
        """The stream of a user's channel, and what adds the message to it."""
        channel_type, _, user = channel.rpartition(":")
        with self._translated():
            partitions = await self._partitions.to_write(channel_type)
        stream = stream_name(channel_type, partition_of(UUID(user), partitions))
        fields = (USER, user, MESSAGE, payload)
        return stream, ("XADD", stream, "MAXLEN", "~", KEEP, "*", *fields)

    async def _send_to(
        self, node: object, streams: Sequence[str], commands: Sequence[Command]
    ) -> list[int | Exception]:
        """What became of each; what was sent before a loss may have arrived."""
        is_sent = False
        try:
            with self._translated():
                async with (
                    asyncio.timeout(self._connect_timeout),
                    self._turns.setdefault(node, asyncio.Lock()),
                ):
                    await self._hear()
                    wire = self._wires.get(node)
                    if wire is not None and not wire.is_open:
                        await wire.close()
                        wire = None
                    if wire is None:
                        wire = self._wires[node] = await self._nodes.open(streams[0])
                    is_sent = True
                    answers = await wire.ask(commands)
        except ServerUnavailable as error:
            return [uncertain(error) if is_sent else error] * len(commands)
        return [self._outcome(answer) for answer in answers]

    def _outcome(self, answer: object) -> int | Exception:
        try:
            with self._translated():
                refused([answer])
        except ServerUnavailable as error:
            return error
        return 1


class StreamSubscription(Subscription):
    """Reads on a connection to each server that has some of the streams; what breaks is raised."""

    def __init__(
        self, gateway: RedisStreamGateway, channels: Iterable[Channel], after: Position | None
    ) -> None:
        super().__init__(gateway, channels)
        self._redis = gateway
        self._after = after
        self._reading = _Reading(gateway)

    @property
    def missing(self) -> str | None:
        return self._reading.missing

    def _reached(self) -> Position | None:
        return self._reading.position

    async def _open(self) -> None:
        try:
            await self._read(self._channels, self._after)
        except BaseException:
            await self._release()
            raise

    async def _follow(self, channels: Set[Channel]) -> None:
        await self._read(channels, None)

    async def _read(self, channels: Set[Channel], after: Position | None) -> None:
        self._reading.want(self._channels)
        await self._reading.follow(channels, after)
        if self._reading.loss is not None:
            raise self._reading.loss

    async def _leave(self, channels: Set[Channel]) -> None:
        """Their streams are read on: they are few, and others may be in them."""
        self._reading.want(self._channels)

    async def _take(self) -> Deliveries:
        return await self._reading.take()

    async def _release(self) -> None:
        await self._reading.close()


class _Batch(NamedTuple):
    """What was read together; when it is taken, the streams are at `ids`."""

    deliveries: Deliveries
    ids: dict[str, StreamId]
    known: dict[object, datetime]


class _Reading:
    """What a subscription has at work: it does not keep one that was forgotten."""

    def __init__(self, gateway: RedisStreamGateway) -> None:
        self._redis = gateway
        self._positions: dict[object, dict[str, StreamId]] = {}
        """Up to where the streams of each server were read."""
        self._ids: dict[str, StreamId] = {}
        """Up to where they were taken."""
        self._known: dict[object, datetime] = {}
        """Up to when that is all that each server had, as far as was looked."""
        self._wires: list[Wire] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._partitions: dict[str, int] = {}
        """How many there are of each channel type."""
        self._users: dict[str, set[bytes] | None] = {}
        """Whose messages are wanted, of each channel type; None: everybody's."""
        self._batches: deque[_Batch] = deque()
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self.loss: Exception | None = None
        """Why it reads no more, most often a SubscriptionLost."""
        self.missing: str | None = None
        """Why there may have been more than what is read from the start on."""

    @property
    def position(self) -> Position | None:
        """Up to where it was taken; None before there is any stream."""
        if not self._ids:
            return None
        return Position(dict(self._ids), min(self._known.values()))

    def want(self, channels: Iterable[Channel]) -> None:
        """Pass on what comes on these."""
        wanted: dict[str, set[bytes] | None] = {}
        for channel in channels:
            if channel.user_id is None:
                wanted[channel.channel_type] = None
            elif (users := wanted.setdefault(channel.channel_type, set())) is not None:
                users.add(str(channel.user_id).encode())
        self._users = wanted

    async def follow(self, channels: Set[Channel], after: Position | None) -> None:
        """Read the streams of these too, from there on, or behind their last entries.

        Raises ServerUnavailable, and BadInput.
        """
        types = {channel.channel_type for channel in channels}
        self._partitions = await self._redis.partitions_of(types) | self._partitions
        streams = {name for each in channels for name in self._streams_of(each)}
        for node, names in (await self._redis.by_node(streams - self._ids.keys())).items():
            wire, starts = await self._redis.open_streams(names, after)
            self._ids |= starts.ids
            self.missing = self.missing or starts.missing
            if node in self._positions:
                self._positions[node] |= starts.ids
                await wire.close()
            else:
                self._positions[node] = starts.ids
                self._known[node] = datetime.now(UTC) if after is None else after.heard_at
                self._wires.append(wire)
                self._tasks.add(asyncio.create_task(self._work(wire, node)))
                self._redis.readings.add(self)

    async def take(self) -> Deliveries:
        """What came next; none where it was closed meanwhile. Raises SubscriptionLost."""
        if self._batches:
            self._room.set()
            batch = self._batches.popleft()
            self._ids |= batch.ids
            self._known |= batch.known
            return batch.deliveries
        if self.loss is not None:
            raise self.loss
        self._news.clear()
        await self._news.wait()
        return Deliveries()

    async def close(self) -> None:
        self._redis.readings.discard(self)
        self._news.set()
        tasks, self._tasks = self._tasks, set()
        wires, self._wires = self._wires, []
        try:
            await end(tasks)
        finally:
            for wire in wires:
                await wire.close()

    async def _work(self, wire: Wire, node: object) -> None:
        """Read on from the positions there, which are moved, and may become more."""
        loop, positions = asyncio.get_running_loop(), self._positions[node]
        portion, in_cluster = Portion(AT_ONCE), self._redis.in_cluster
        looked_at, heard = loop.time(), datetime.now(UTC)
        try:
            while True:
                known = dict[object, datetime]()
                entries = await read(wire, positions, portion, in_cluster=in_cluster)
                heard = datetime.now(UTC)
                if loop.time() - looked_at >= LOOK_INTERVAL:
                    looked_at = loop.time()
                    await check_ends(wire, positions)
                    if wire in self._wires[:1]:
                        await self._check_partitions(wire)
                    if not portion.is_full:
                        known[node] = heard
                await self._pass_on(entries, known)
        except (OSError, Refused) as error:
            self.loss = self._redis._loss(error, heard)
        except Exception as error:  # whoever waits is to hear of it, whatever it is
            self.loss = error
        self._news.set()

    def _streams_of(self, channel: Channel) -> Iterable[str]:
        """The names of those that have what comes on this channel."""
        partitions = self._partitions[channel.channel_type]
        if channel.user_id is None:
            return stream_names(channel.channel_type, partitions)
        return [stream_name(channel.channel_type, partition_of(channel.user_id, partitions))]

    async def _check_partitions(self, wire: Wire) -> None:
        """Raises ConnectionError where users are in other streams by now."""
        with suppress(ServerUnavailable):  # of a cluster another node perhaps
            if await self._redis.partitions_of(self._partitions, wire) != self._partitions:
                raise ConnectionError("there is another number of streams than there was")

    async def _pass_on(
        self, entries: Sequence[tuple[str, Sequence[Any]]], known: dict[object, datetime]
    ) -> None:
        channels, payloads, ids = list[bytes](), list[bytes](), dict[str, StreamId]()
        for stream, found in entries:
            channel_type = stream.rpartition(":")[0]
            users = self._users.get(channel_type, set())
            ids[stream] = StreamId.parse(found[-1][0])
            for _, fields in found:
                user, payload = message_of(fields)
                if user is not None and (users is None or user in users):
                    channels.append(channel_type.encode() + b":" + user)
                    payloads.append(payload)
        if payloads or (ids and self._batches):
            self._batches.append(_Batch(Deliveries(channels, payloads), ids, known))
            self._news.set()
        elif not self._batches:  # nobody need wake for it
            self._ids |= ids
            self._known |= known
        while len(self._batches) >= MOST_WAITING:
            self._room.clear()
            await self._room.wait()


def _is_elsewhere(outcome: int | Exception) -> bool:
    """Whether another server is to be asked: then nothing was published."""
    cause = outcome.__cause__ if isinstance(outcome, Exception) else None
    return isinstance(cause, RefusedForNow)
