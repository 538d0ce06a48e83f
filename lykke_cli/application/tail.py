"""Following a channel: drives `merge.py` from a subscription, a history and a clock.

What comes out, in contrast to what a subscription gives, has no gap and no duplicate, provided
there is a history.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import ServerUnavailable, SubscriptionLost
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import (
    HistoryChunk,
    HistoryProtocol,
    HistoryRow,
)
from lykke_cli.application.gateways.pubsub_protocol import (
    Delivery,
    Gap,
    PubSubGatewayProtocol,
    channel_name,
)
from lykke_cli.application.merge import (
    Action,
    Checkpoint,
    Merge,
    Print,
    Read,
    ReadKind,
    Save,
    Verify,
)
from lykke_cli.application.messages import LiveBatch, live_arrivals

RECONCILE_INTERVAL = 30.0  # seconds between reads that look for lost broadcasts
AWAY_INTERVAL = 2.0  # seconds between reads while there is no subscription
FULL_INTERVAL = 3600.0  # seconds between reads without the look-back bound
QUEUE_LENGTH = 2  # batches between the readers and the output: a slow output slows the readers


@dataclass(frozen=True, slots=True)
class Connected:
    """The server confirmed the subscription, and with a history its first snapshot was taken.

    Whatever is committed from then on is printed.
    """

    channel: str
    gap: Gap | None
    """The time without one before it, if this is not the first."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The subscription broke; it is being taken up again."""

    reason: str


@dataclass(frozen=True, slots=True)
class HistoryAway:
    """The database cannot be read at the moment; it is tried again."""

    reason: str


@dataclass(frozen=True, slots=True)
class HistoryRead:
    """A read of the database is complete."""

    recovered: int
    """Entries it printed that had not come live."""
    after_failure: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the person should know."""

    text: str


Status = Connected | Disconnected | HistoryAway | HistoryRead | Notice
Event = Print | Save | Status


@dataclass(frozen=True, slots=True)
class _Live:
    deliveries: list[Delivery]


@dataclass(frozen=True, slots=True)
class _Verified:
    rows: list[HistoryRow]
    absent: set[str]


@dataclass(frozen=True, slots=True)
class _Broken:
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class TailRequest:
    """What to follow."""

    user_id: UUID | None
    """None follows every user."""
    channel_type: str = "auditlog"
    filters: Filters = field(default_factory=Filters)
    since: datetime | None = None
    """Print history from here on first."""
    last: int | None = None
    """Print so many of the newest entries first."""
    resume: Checkpoint | None = None
    """Go on from here instead."""
    undecoded: bool = False
    """Hand on what comes as it is, repetitions included: neither filters nor a history apply."""


class Tail:
    """Follows a channel; `events()` yields what to print and what happened, for ever.

    Every Print must have left the process before the next event is asked for: a Save that follows
    it says that it may be recorded as done. Without a `history` gaps are only announced.
    Raises ServerUnavailable when a server cannot be reached at the start; later it tries again.
    """

    def __init__(
        self,
        gateway: PubSubGatewayProtocol,
        history: HistoryProtocol | None,
        request: TailRequest,
        *,
        reconcile_interval: float = RECONCILE_INTERVAL,
        full_interval: float = FULL_INTERVAL,
    ) -> None:
        self._gateway = gateway
        self._history = history
        self._request = request
        self._selection = request.filters.selection(request.user_id)
        self._reconcile_interval = reconcile_interval
        self._full_interval = full_interval
        self._merge = Merge(request.resume, history=history is not None)
        self._queue: asyncio.Queue[object] = asyncio.Queue(QUEUE_LENGTH)
        self._reader: asyncio.Task[None] | None = None
        self._history_backoff = Backoff()
        self._history_failed = False
        self._history_worked = False
        self._connected = False
        self._unannounced: Connected | None = None
        self._recovered = 0
        self._noticed: set[str] = set()

    async def events(self) -> AsyncGenerator[Event]:
        loop = asyncio.get_running_loop()
        last_full = loop.time()
        deadline = loop.time() + self._interval()
        async with AsyncExitStack() as stack:
            subscriber = asyncio.create_task(self._subscribe())
            stack.push_async_callback(self._stop, subscriber)
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        happened = await self._queue.get()
                except TimeoutError:
                    full = loop.time() - last_full >= self._full_interval
                    last_full = loop.time() if full else last_full
                    happened = ReadKind.FULL if full else ReadKind.RECENT
                    deadline = loop.time() + self._interval()
                failed_before, connected_before = self._history_failed, self._connected
                for event in self._handle(happened):
                    yield event
                if (failed_before, connected_before) != (self._history_failed, self._connected):
                    deadline = loop.time() + self._interval()

    async def _stop(self, subscriber: asyncio.Task[None]) -> None:
        tasks = [subscriber] if self._reader is None else [subscriber, self._reader]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _interval(self) -> float:
        if self._history_failed:
            return self._history_backoff.next()
        return self._reconcile_interval if self._connected else AWAY_INTERVAL

    def _handle(self, happened: object) -> Iterator[Event]:
        match happened:
            case _Live(deliveries):
                if self._request.undecoded:
                    yield Print(LiveBatch(deliveries))
                    return
                wanted = self._request.filters.select(live_arrivals(deliveries))
                yield from self._carry_out(self._merge.live(wanted))
            case HistoryChunk():
                yield from self._take_chunk(happened)
            case _Verified(rows, absent):
                yield from self._carry_out(self._merge.verified(rows, absent))
            case Connected():
                self._connected = True
                if self._history is None or self._history_worked:
                    yield happened
                else:
                    self._unannounced = happened
                yield from self._carry_out(self._merge.subscribed())
            case Disconnected():
                self._connected = False
                yield happened
                yield from self._carry_out(self._merge.disconnected())
            case ReadKind():
                yield from self._carry_out(self._merge.tick(happened))
            case HistoryAway(reason):
                self._history_failed = True
                if reason not in self._noticed:
                    self._noticed = {reason}
                    yield happened
                yield from self._carry_out(self._merge.read_failed())
            case _Broken(error):
                raise error

    def _take_chunk(self, chunk: HistoryChunk) -> Iterator[Event]:
        if chunk.rows or chunk.last:  # the first may come before the table was asked
            self._history_worked = True
        if self._unannounced is not None:
            yield self._unannounced
            self._unannounced = None
        if chunk.notice is not None and chunk.notice not in self._noticed:
            self._noticed.add(chunk.notice)
            yield Notice(chunk.notice)
        for event in self._carry_out(self._merge.chunk(chunk)):
            if isinstance(event, Print):
                self._recovered += sum(a.source == "history" for a in event.arrivals)
            yield event
        if chunk.last:
            yield HistoryRead(self._recovered, self._history_failed)
            self._recovered = 0
            self._history_failed = False
            self._noticed.clear()
            self._history_backoff.reset()

    def _carry_out(self, actions: Sequence[Action]) -> Iterator[Event]:
        for action in actions:
            match action:
                case Print(arrivals) if arrivals[0].source == "history":
                    wanted = self._request.filters.select(arrivals)
                    if wanted:
                        yield Print(wanted)
                case Print() | Save():
                    yield action
                case Read():
                    self._reader = asyncio.create_task(self._read(action))
                case Verify():
                    self._reader = asyncio.create_task(self._verify(action))

    async def _read(self, read: Read) -> None:
        assert self._history is not None
        if read.cursor is None:
            chunks = self._history.begin(
                self._selection, since=self._request.since, last=self._request.last
            )
        else:
            recent_only = read.kind is ReadKind.RECENT
            chunks = self._history.changes(self._selection, read.cursor, recent_only=recent_only)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    await self._queue.put(chunk)
        except ServerUnavailable as error:
            await self._queue.put(self._history_error(error))
        except Exception as error:
            await self._queue.put(_Broken(error))

    async def _verify(self, verify: Verify) -> None:
        assert self._history is not None
        try:
            answer = await self._history.verify(self._selection, verify.cursor, verify.ids)
            await self._queue.put(_Verified(*answer))
        except ServerUnavailable as error:
            await self._queue.put(self._history_error(error))
        except Exception as error:
            await self._queue.put(_Broken(error))

    def _history_error(self, error: ServerUnavailable) -> HistoryAway | _Broken:
        return HistoryAway(str(error)) if self._history_worked else _Broken(error)

    async def _subscribe(self) -> None:
        """Keep a subscription; each one made, broken or read from goes into the queue."""
        backoff = Backoff()
        lost_at: datetime | None = None
        request = self._request
        channel = channel_name(request.channel_type, request.user_id)
        while True:
            try:
                async with self._gateway.subscribe_to_user_channel(
                    request.user_id, request.channel_type, reconnect=False
                ) as subscription:
                    gap = None if lost_at is None else Gap(lost_at, datetime.now(UTC))
                    await self._queue.put(Connected(channel, gap))
                    lost_at = datetime.now(UTC)
                    backoff.reset()
                    while True:
                        deliveries = await subscription.get_deliveries()
                        if deliveries:
                            await self._queue.put(_Live(deliveries))
            except SubscriptionLost as error:
                lost_at = datetime.now(UTC)
                await self._queue.put(Disconnected(str(error)))
            except ServerUnavailable as error:
                if lost_at is None:
                    await self._queue.put(_Broken(error))
                    return
            except Exception as error:
                await self._queue.put(_Broken(error))
                return
            await asyncio.sleep(backoff.next())
