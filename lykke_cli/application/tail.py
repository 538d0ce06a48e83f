"""Following a channel: drives `merge.py` from a subscription, a history and a clock.

What comes out, in contrast to what a subscription gives, has no gap and no duplicate, provided
there is a history.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from lykke_cli.application.backoff import Backoff
from lykke_cli.application.errors import ServerUnavailable, SubscriptionLost
from lykke_cli.application.filters import Filters
from lykke_cli.application.gateways.history_protocol import HistoryChunk, HistoryProtocol
from lykke_cli.application.gateways.pubsub_protocol import (
    Deliveries,
    Gap,
    PubSubGatewayProtocol,
    PubSubSubscription,
    channel_name,
)
from lykke_cli.application.live_only import LiveOnly
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
QUEUE_LENGTH = 2  # chunks between the history and the output: a slow output slows the history


class Connected(msgspec.Struct, frozen=True):
    """The server confirmed the subscription, and with a history its first snapshot was taken.

    Whatever is committed from then on is printed.
    """

    channel: str
    gap: Gap | None
    """The time without one before it, if this is not the first."""


class Disconnected(msgspec.Struct, frozen=True):
    """The subscription broke; it is being taken up again."""

    reason: str


class HistoryAway(msgspec.Struct, frozen=True):
    """The database cannot be read at the moment; it is tried again."""

    reason: str


class HistoryRead(msgspec.Struct, frozen=True):
    """A read of the database is complete."""

    recovered: int
    """Entries it printed that had not come live."""
    after_failure: bool


class Notice(msgspec.Struct, frozen=True):
    """Something the person should know."""

    text: str


Status = Connected | Disconnected | HistoryAway | HistoryRead | Notice
Event = Print | Save | Status


class _Verified(msgspec.Struct, frozen=True):
    uncovered: set[str]


class _Broken(msgspec.Struct, frozen=True):
    error: BaseException


class TailRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to follow."""

    user_id: UUID | None
    """None follows every user."""
    channel_type: str = "auditlog"
    filters: Filters = msgspec.field(default_factory=Filters)
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
        self._merge = LiveOnly() if history is None else Merge(request.resume)
        self._queue: asyncio.Queue[object] = asyncio.Queue(QUEUE_LENGTH)
        self._waiting: asyncio.Timeout | None = None
        self._live_came_last = False
        self._subscription: PubSubSubscription | None = None
        self._subscriber: asyncio.Task[None] | None = None
        self._lost_at: datetime | None = None
        self._backoff = Backoff()
        self._reader: asyncio.Task[None] | None = None
        self._history_backoff = Backoff()
        self._history_failed = False
        self._history_worked = False
        self._connected = False
        self._unannounced: Connected | None = None
        self._recovered = 0
        self._told: str | None = None  # the notice of the read before
        self._told_away: type[ServerUnavailable] | None = None

    async def events(self) -> AsyncGenerator[Event]:
        loop = asyncio.get_running_loop()
        last_full = loop.time()
        deadline = loop.time() + self._interval()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._stop)
            self._subscriber = asyncio.create_task(self._subscribe())
            while True:
                happened = await self._next(deadline)
                if happened is None:
                    full = loop.time() - last_full >= self._full_interval
                    last_full = loop.time() if full else last_full
                    happened = ReadKind.FULL if full else ReadKind.RECENT
                    deadline = loop.time() + self._interval()
                failed_before, connected_before = self._history_failed, self._connected
                for event in self._handle(happened):
                    yield event
                if (failed_before, connected_before) != (self._history_failed, self._connected):
                    deadline = loop.time() + self._interval()

    async def _stop(self) -> None:
        tasks = [task for task in (self._subscriber, self._reader) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._subscription is not None:
            await self._subscription.close()

    async def _next(self, deadline: float) -> object:
        """What happens next, live messages and the rest taking turns; None at `deadline`."""
        if self._live_came_last and not self._queue.empty():
            self._live_came_last = False
            return self._queue.get_nowait()
        try:
            async with asyncio.timeout_at(deadline if self._queue.empty() else 0) as self._waiting:
                deliveries = await self._live()
            self._live_came_last = True
            return deliveries
        except TimeoutError:
            return None if self._queue.empty() else self._queue.get_nowait()
        except SubscriptionLost as error:
            self._lost_at = error.since
            self._subscriber = asyncio.create_task(self._subscribe())
            return Disconnected(str(error))
        finally:
            self._waiting = None

    async def _live(self) -> Deliveries:
        """The messages that came; waits for ever while there is no subscription."""
        while self._subscription is None or not self._connected:
            await asyncio.Event().wait()
        while not (deliveries := await self._subscription.get_deliveries()):
            pass
        return deliveries

    async def _tell(self, happened: object) -> None:
        """Let it be what happens next, or soon."""
        await self._queue.put(happened)
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0)

    def _interval(self) -> float:
        if self._history_failed:
            return self._history_backoff.next()
        return self._reconcile_interval if self._connected else AWAY_INTERVAL

    def _handle(self, happened: object) -> Iterator[Event]:
        match happened:
            case Deliveries():
                if self._request.undecoded:
                    yield Print(LiveBatch(happened))
                    return
                wanted = self._request.filters.select(live_arrivals(happened))
                yield from self._carry_out(self._merge.live(wanted))
            case HistoryChunk() if isinstance(self._merge, Merge):
                yield from self._take_chunk(self._merge, happened)
            case _Verified(uncovered) if isinstance(self._merge, Merge):
                yield from self._carry_out(self._merge.verified(uncovered))
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
            case ServerUnavailable() if isinstance(self._merge, Merge):
                self._history_failed = True
                if type(happened) is not self._told_away:
                    self._told_away = type(happened)
                    yield HistoryAway(str(happened))
                yield from self._carry_out(self._merge.read_failed())
            case Notice():
                yield happened
            case _Broken(error):
                raise error

    def _take_chunk(self, merge: Merge, chunk: HistoryChunk) -> Iterator[Event]:
        if chunk.rows or chunk.last:  # the first may come before the table was asked
            self._history_worked = True
        if self._unannounced is not None:
            yield self._unannounced
            self._unannounced = None
        if chunk.notice not in (None, self._told):
            yield Notice(str(chunk.notice))
        self._told = chunk.notice
        for event in self._carry_out(merge.chunk(chunk)):
            if isinstance(event, Print):
                self._recovered += sum(a.source == "history" for a in event.arrivals)
            yield event
        if chunk.last:
            yield HistoryRead(self._recovered, self._history_failed)
            self._recovered = 0
            self._history_failed = False
            self._told_away = None
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
                    await self._tell(chunk)
        except ServerUnavailable as error:
            await self._tell(self._history_error(error))
        except Exception as error:
            await self._tell(_Broken(error))

    async def _verify(self, verify: Verify) -> None:
        assert self._history is not None
        try:
            uncovered = await self._history.verify(self._selection, verify.cursor, verify.ids)
            await self._tell(_Verified(uncovered))
        except ServerUnavailable as error:
            await self._tell(self._history_error(error))
        except Exception as error:
            await self._tell(_Broken(error))

    def _history_error(self, error: ServerUnavailable) -> ServerUnavailable | _Broken:
        return error if self._history_worked else _Broken(error)

    async def _subscribe(self) -> None:
        """Subscribe, after a loss as often as it takes."""
        request = self._request
        if self._subscription is not None:
            await self._subscription.close()
            await asyncio.sleep(self._backoff.next())
        told: type[ServerUnavailable] = ServerUnavailable  # the loss was, and is much the same
        try:
            while True:
                self._subscription = self._gateway.subscribe_to_user_channel(
                    request.user_id, request.channel_type, reconnect=False
                )
                try:
                    await self._subscription.__aenter__()
                    break
                except ServerUnavailable as error:
                    if self._lost_at is None:
                        raise
                    if type(error) is not told:  # such as a password that was changed
                        told = type(error)
                        await self._tell(Notice(str(error)))
                await asyncio.sleep(self._backoff.next())
        except Exception as error:
            await self._tell(_Broken(error))
            return
        self._backoff.reset()
        gap = None if self._lost_at is None else Gap(self._lost_at, datetime.now(UTC))
        await self._tell(Connected(channel_name(request.channel_type, request.user_id), gap))
